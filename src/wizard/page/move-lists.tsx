/** The moves that wait or run, and those that have ended. */
import { moves, route, type Move } from './store.js';
import { type Key, seconds, shown, t, time } from './text.js';

export const outcomeOf = (move: Move): string => t(`outcome_${move.Outcome}` as Key);

const show = (move: Move): void => {
  route.value = { at: 'performing', moves: [{ vmName: move.VMName, moveId: move.MoveId, begun: null, before: null }] };
};

export function RunningMoves() {
  const running = [...moves.value.values()].filter(({ EndTime }) => EndTime === null);
  if (running.length === 0) return <p class="quiet">{t('movesRunningNone')}</p>;
  return (
    <ul class="plain">
      {running.map((move) => (
        <li key={move.MoveId} class="card running">
          <strong>{shown(move.VMName)}</strong>
          <span>{t(`phase_${move.Phase}` as Key)}</span>
          <progress max={100} value={move.PercentComplete} aria-label={t('progressOf', { name: move.VMName })} />
          <span>{move.PercentComplete} %</span>
          <button type="button" onClick={() => show(move)} aria-label={t('showMove', { name: move.VMName })}>
            {t('show')}
          </button>
        </li>
      ))}
    </ul>
  );
}

export function PastMoves() {
  const past = [...moves.value.values()].filter(({ EndTime }) => EndTime !== null).sort((a, b) => (a.EndTime! > b.EndTime! ? -1 : 1));
  if (past.length === 0) return <p class="quiet">{t('movesPastNone')}</p>;
  return (
    <div class="scroll card" tabIndex={0} role="region" aria-label={t('movesPast')}>
      <table>
        <thead>
          <tr>
            <th scope="col">{t('columnMachine')}</th>
            <th scope="col">{t('columnOutcome')}</th>
            <th scope="col">{t('columnEnded')}</th>
            <th scope="col">{t('columnDuration')}</th>
            <td />
          </tr>
        </thead>
        <tbody>
          {past.map((move) => (
            <tr key={move.MoveId}>
              <th scope="row">{shown(move.VMName)}</th>
              <td>
                <span class={`outcome ${move.Outcome}`}>{outcomeOf(move)}</span>
              </td>
              <td>{time(move.EndTime!)}</td>
              <td>{move.StartTime === null ? '' : seconds((Date.parse(move.EndTime!) - Date.parse(move.StartTime)) / 1000)}</td>
              <td>
                <button type="button" onClick={() => show(move)} aria-label={t('showMove', { name: move.VMName })}>
                  {t('show')}
                </button>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
