/** The home page: machines with their disks and places, the places themselves, and the moves that go on or have ended. */
import { signal } from '@preact/signals';
import { openWizard } from '../steps/wizard.js';
import { Heading } from './heading.js';
import { MachineTable } from './machine-table.js';
import { RunningMoves, PastMoves } from './move-lists.js';
import { PlaceCard } from './place-card.js';
import { chosen, faults, machines, machinesByName, placesByPath, route } from './store.js';
import { bytes, shown, t } from './text.js';
import { placeOf } from '../steps/facts.js';

const filter = signal('');

export function Home() {
  const all = machinesByName.value;
  const wanted = filter.value.trim().toLowerCase();
  const some =
    wanted === ''
      ? all
      : all.filter((one) =>
          [one.Name, one.Path, ...one.HardDrives.map(({ Path }) => Path)].some((text) => text.toLowerCase().includes(wanted)),
        );
  const picked = all.filter(({ Id }) => chosen.value.has(Id));
  const move = (): void => {
    route.value = { at: 'wizard', wizard: openWizard(picked, placesByPath.value) };
  };
  return (
    <>
      <Heading text={t('machines')} />
      {[...faults.value.values()].map(({ vmId, configurationFile, reason }) => (
        <p key={vmId} class="notice warning">
          {t('machineFault', { id: vmId, file: configurationFile, reason })}
        </p>
      ))}
      <section class="card" aria-label={t('machines')}>
        <div class="tools">
          <input
            type="search"
            value={filter.value}
            onInput={(event) => (filter.value = event.currentTarget.value)}
            placeholder={t('filter')}
            aria-label={t('filter')}
          />
          <button type="button" class="primary" disabled={picked.length === 0} aria-describedby="move-why" onClick={move}>
            {t('moveButton')}
          </button>
          <span id="move-why" role="status">
            {picked.length === 0 ? t('moveButtonNone') : t('chosenCount', { count: picked.length })}
          </span>
        </div>
        {all.length === 0 ? <p>{t('machinesNone')}</p> : some.length === 0 ? <p>{t('filterNone')}</p> : <MachineTable machines={some} />}
      </section>
      <section>
        <h2>{t('movesRunning')}</h2>
        <RunningMoves />
      </section>
      <section>
        <h2>{t('places')}</h2>
        <div class="places">
          {placesByPath.value.map((place) => (
            <PlaceCard key={place.path} place={place} />
          ))}
        </div>
      </section>
      <section>
        <h2>{t('movesPast')}</h2>
        <PastMoves />
      </section>
    </>
  );
}

/** Where a machine's disks are, in a word each. */
export function placesOfMachine(id: string): string {
  const machine = machines.value.get(id);
  const found = machine?.HardDrives.map(({ Path }) => placeOf(Path, placesByPath.value)) ?? [];
  const known = [...new Set(found)].flatMap((place) => (place ? [`${shown(place.path)} (${bytes(place.bytesFree)})`] : []));
  return known.join(', ');
}
