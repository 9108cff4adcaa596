/** The figures of a move; what is not known is said to be so. */
import type { Move } from './store.js';
import { bytes, milliseconds, seconds, t, type Key } from './text.js';

export function MoveFigures({ move }: { readonly move: Move }) {
  const total = move.BytesData ?? move.BytesTotal;
  const goesOn = move.EndTime === null;
  const wait = (us: string | null): string => (us === null ? t('guestIdle') : milliseconds(us));
  const some: readonly (readonly [key: Key, value: string, why?: Key])[] = [
    ...(goesOn
      ? ([
          ['figureRate', `${bytes(move.BytesPerSecond)}/s`],
          ['figureLeft', move.SecondsRemaining === null ? t('unknown') : seconds(move.SecondsRemaining)],
        ] as const)
      : []),
    ['figureCopied', `${bytes(least(move.BytesCopied, total))} / ${bytes(total)}`],
    ['figureAgain', bytes(move.BytesRecopied), 'figureAgainWhy'],
    ...(goesOn ? ([['figureBound', move.BytesBound ? bytes(move.BytesBound) : t('unknown')]] as const) : []),
    ['figureMirrored', bytes(move.BytesMirrored)],
    ['figureVerified', bytes(move.BytesVerified)],
    ...(goesOn ? ([['figureP99', wait(move.GuestP99Us)]] as const) : []),
    ['figureMax', wait(move.GuestMaxUs)],
    ['figureRest', move.GuestRestMaxUs === null ? t('unknown') : milliseconds(move.GuestRestMaxUs)],
    ['figureBlackout', move.BlackoutUs === null ? t('unknown') : milliseconds(move.BlackoutUs)],
  ];
  return (
    <dl class="figures">
      {some.map(([key, value, why]) => (
        <div key={key}>
          <dt>{t(key)}</dt>
          <dd>
            {value}
            {why && <small>{t(why)}</small>}
          </dd>
        </div>
      ))}
    </dl>
  );
}

const least = (a: string, b: string): string => (BigInt(a) < BigInt(b) ? a : b);
