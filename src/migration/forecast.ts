/**
 * How long a move will take, from the last one between the same two file systems since the host was started. A number without such a move
 * would be a guess, and there is none. What went on beside that move, and what will beside this one, nobody knows: so the basis is told with it.
 */
import type { CheckedMove } from './check.js';
import { bytesText } from './progress.js';
import type { MoveReceipt } from './receipts.js';

export interface Forecast {
  readonly seconds: number;
  readonly basis: string;
}

/** A move of less says what opening, journal and switch take, not how fast the devices are. */
const BASIS_LEAST_BYTES = 64n * 2n ** 20n;

/** `done`: receipts of completed moves, the oldest first. Their file systems are those of this boot. */
export function forecast(checked: Pick<CheckedMove, 'sources' | 'targets' | 'needs'>, done: readonly MoveReceipt[]): Forecast | null {
  const [route, ...others] = [...new Set(checked.sources.map(({ device }, at) => `${device} ${checked.targets[at]?.device}`))];
  if (route === undefined || others.length > 0) return null;
  const bytes = checked.needs.reduce((sum, { data }) => sum + data, 0n);
  for (const { status, vmName, startedAt, finishedAt } of [...done].reverse()) {
    const moved = BigInt(status.bytesData ?? '0');
    const isSame = status.receipt?.every(({ source, target }) => `${source.device} ${target.device}` === route) === true;
    const tookMs = finishedAt === null ? 0 : Date.parse(finishedAt) - Date.parse(startedAt);
    if (!isSame || moved < BASIS_LEAST_BYTES || tookMs <= 0) continue;
    return {
      seconds: Math.max(1, Math.ceil((Number(bytes) / Number(moved)) * (tookMs / 1000))),
      basis: `${bytesText(moved)} of the virtual machine "${vmName}" took ${Math.ceil(tookMs / 1000)} s between the same file systems on ${finishedAt}.`,
    };
  }
  return null;
}
