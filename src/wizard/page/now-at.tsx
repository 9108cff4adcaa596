/** Where everything is at the end of a move, as the host tells it now: nobody has to believe the move. */
import { machines, type Machine, type Move } from './store.js';
import { itemText } from './item-text.js';
import type { ItemKind } from '../steps/rows.js';
import { shown, t } from './text.js';

interface Item {
  readonly kind: ItemKind;
  readonly old: string;
  /** Null: it is not where the move took it. */
  readonly now: string | null;
}

export function NowAt({ move, before }: { readonly move: Move; readonly before: Machine | null }) {
  const machine = machines.value.get(move.VMId) ?? null;
  if (machine === null) return <p class="notice warning">{t('machineGone')}</p>;
  const items = itemsOf(move, before, machine);
  return (
    <section>
      <h3>{t('nowAt')}</h3>
      <p class="quiet">
        {t('nowAtText')} {machine.Name !== move.VMName && t('machineRenamed', { name: machine.Name })}
      </p>
      <div class="scroll" tabIndex={0} role="region" aria-label={t('nowAt')}>
        <table class="now">
          <thead>
            <tr>
              <th scope="col">{t('columnItem')}</th>
              <th scope="col">{t('columnOld')}</th>
              <th scope="col">{t('columnNew')}</th>
            </tr>
          </thead>
          <tbody>
            {items.map(({ kind, old, now }) => (
              <tr key={kind + old}>
                <th scope="row">{itemText({ kind, source: old })}</th>
                <td class="path">{shown(old)}</td>
                <td class="path">{now === null ? t('itemNotThere') : shown(now)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

/** Of a move that came to nothing: its disks, where they are. */
function itemsOf(move: Move, before: Machine | null, machine: Machine): readonly Item[] {
  const paths = new Set(machine.HardDrives.map(({ Path }) => Path));
  const isDone = move.Outcome === 'Completed';
  const disks = move.Source.map((old, at): Item => {
    const wanted = isDone ? move.Destination[at]! : old;
    return { kind: 'VirtualHardDisk', old, now: paths.has(wanted) ? wanted : null };
  });
  if (before === null || !isDone) return disks;
  const folders: readonly Item[] = [
    { kind: 'Configuration', old: before.Path, now: machine.Path },
    { kind: 'Checkpoints', old: before.SnapshotFileLocation, now: machine.SnapshotFileLocation },
    { kind: 'SmartPaging', old: before.SmartPagingFilePath, now: machine.SmartPagingFilePath },
  ];
  return [...disks, ...folders];
}
