/** The table of machines. Only the rows in sight are there: a thousand machines are scrolled as smoothly as ten. */
import { useSignal } from '@preact/signals';
import { whyNotMoved, leafOf } from '../steps/facts.js';
import { placesOfMachine } from './home.js';
import { chosen, type Machine } from './store.js';
import { shown, t } from './text.js';

/** As in style.css. */
const ROW_PX = 48;
const SEEN_PX = 480;
const SPARE_ROWS = 6;

export function MachineTable({ machines }: { readonly machines: readonly Machine[] }) {
  const top = useSignal(0);
  const first = Math.max(0, Math.min(Math.floor(top.value / ROW_PX) - SPARE_ROWS, machines.length - 1));
  const last = Math.min(machines.length, Math.ceil((top.value + SEEN_PX) / ROW_PX) + SPARE_ROWS);
  const columns = ['columnName', 'columnState', 'columnDisks', 'columnPlace', 'columnStatus'] as const;
  return (
    <div
      class="machines"
      tabIndex={0}
      role="region"
      aria-label={t('machines')}
      onScroll={(event) => {
        const at = Math.floor(event.currentTarget.scrollTop / ROW_PX) * ROW_PX;
        if (at !== top.value) top.value = at;
      }}
    >
      <table aria-rowcount={machines.length + 1}>
        <thead>
          <tr aria-rowindex={1}>
            <td />
            {columns.map((column) => (
              <th key={column} scope="col" class={column}>
                {t(column)}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          <Gap rows={first} />
          {machines.slice(first, last).map((machine, at) => (
            <MachineRow key={machine.Id} machine={machine} index={first + at + 2} />
          ))}
          <Gap rows={machines.length - last} />
        </tbody>
      </table>
    </div>
  );
}

function Gap({ rows }: { readonly rows: number }) {
  return rows <= 0 ? null : <tr aria-hidden="true" class="gap" style={{ height: `${rows * ROW_PX}px` }} />;
}

function MachineRow({ machine, index }: { readonly machine: Machine; readonly index: number }) {
  const why = whyNotMoved(machine);
  const reason = why === null ? null : t(why);
  const choose = (isChosen: boolean): void => {
    const next = new Set(chosen.value);
    if (isChosen) next.add(machine.Id);
    else next.delete(machine.Id);
    chosen.value = next;
  };
  const disks = machine.HardDrives.map(({ Path }) => leafOf(Path)).join(', ');
  return (
    <tr aria-rowindex={index} class={why === null ? '' : 'unavailable'}>
      <td>
        <input
          type="checkbox"
          id={`choose-${machine.Id}`}
          checked={chosen.value.has(machine.Id) && why === null}
          disabled={why !== null}
          aria-label={t('chooseMachine', { name: machine.Name })}
          title={reason ?? ''}
          onChange={(event) => choose(event.currentTarget.checked)}
        />
      </td>
      <th scope="row" class="columnName">
        <label for={`choose-${machine.Id}`} title={machine.Path}>
          {shown(machine.Name)}
        </label>
      </th>
      <td class="columnState">{machine.State}</td>
      <td class="columnDisks" title={machine.HardDrives.map(({ Path }) => Path).join('\n')}>
        {shown(disks)}
      </td>
      <td class="columnPlace">{placesOfMachine(machine.Id)}</td>
      <td class="columnStatus" title={machine.StatusDescriptions.join('\n')}>
        {reason === null ? machine.Status : `${machine.Status}. ${reason}`}
      </td>
    </tr>
  );
}
