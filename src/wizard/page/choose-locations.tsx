/** Choose a new location: every item in one table, with a folder each, and the places to choose from. */
import { placeOf } from '../steps/facts.js';
import type { Row } from '../steps/rows.js';
import { obstacle } from '../steps/wizard.js';
import { itemText } from './item-text.js';
import { PlaceCard } from './place-card.js';
import { placesByPath } from './store.js';
import { bytes, shown, t } from './text.js';
import type { PageProperties } from './wizard-view.js';

export function ChooseLocations({ state, send }: PageProperties) {
  const mayLeaveOut = state.option !== 'single';
  const wrong = obstacle(state)?.key;
  return (
    <>
      <p>{t('chooseLocationsText')}</p>
      <div class="places">
        {placesByPath.value.map((place) => (
          <PlaceCard key={place.path} place={place} onUse={() => send({ do: 'everythingTo', place: place.path })} />
        ))}
      </div>
      <div class="scroll" tabIndex={0} role="region" aria-label={t('chooseLocations')}>
        <table class="locations">
          <thead>
            <tr>
              {mayLeaveOut && <th scope="col">{t('columnMove')}</th>}
              <th scope="col">{t('columnMachine')}</th>
              <th scope="col">{t('columnItem')}</th>
              <th scope="col">{t('columnNow')}</th>
              <th scope="col">{t('columnFolder')}</th>
            </tr>
          </thead>
          <tbody>
            {state.rows.map((row) => (
              <tr key={row.key}>
                {mayLeaveOut && (
                  <td>
                    <input
                      type="checkbox"
                      checked={row.isChosen}
                      aria-label={t('moveItem', { item: itemText(row), name: row.vmName })}
                      onChange={(event) => send({ do: 'choose', key: row.key, isChosen: event.currentTarget.checked })}
                    />
                  </td>
                )}
                <th scope="row">{shown(row.vmName)}</th>
                <td>{itemText(row)}</td>
                <td class="path">{shown(row.source)}</td>
                <td>
                  <input
                    type="text"
                    class="folder"
                    value={row.folder}
                    disabled={!row.isChosen}
                    spellcheck={false}
                    aria-label={t('folderOf', { item: itemText(row), name: row.vmName })}
                    aria-invalid={wrong === row.key}
                    aria-describedby={wrong === row.key ? 'why' : undefined}
                    onInput={(event) => send({ do: 'folder', key: row.key, folder: event.currentTarget.value })}
                  />
                  <small>{whereText(row)}</small>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

function whereText({ folder }: Row): string {
  const place = folder.startsWith('/') ? placeOf(folder, placesByPath.value) : null;
  return place ? t('inPlace', { place: place.path, free: bytes(place.bytesFree) }) : t('inNoPlace');
}
