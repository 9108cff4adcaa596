/** Doing something again until it succeeds: waits that grow up to a limit. */
import { VmStorageError } from '../model/errors.js';
import type { Clock } from './ports.js';

/** Doubling delays. */
export interface BackOff {
  readonly firstMs: number;
  readonly mostMs: number;
  /** Attempts in all; Infinity where giving up would leave something behind (each wait is still bounded). */
  readonly attempts: number;
}

/** A worker is back after a second or two; asking four times a second costs nothing. Its supervisor decides whether it ever comes back. */
export const workerBackOff: BackOff = { firstMs: 250, mostMs: 5_000, attempts: Infinity };

export function isLost(cause: unknown): boolean {
  return cause instanceof VmStorageError && cause.code === 'HostConnectionLost';
}

/** Runs `body` until it succeeds, fails with something not worth repeating, or the attempts are used up (then the last error). */
export async function withBackOff<T>(
  clock: Clock,
  backOff: BackOff,
  body: (attempt: number) => Promise<T>,
  again: (cause: unknown) => boolean,
  signal?: AbortSignal,
): Promise<T> {
  let delayMs = backOff.firstMs;
  for (let attempt = 1; ; attempt++) {
    try {
      return await body(attempt);
    } catch (cause) {
      if (attempt >= backOff.attempts || !again(cause)) throw cause;
    }
    await clock.sleep(delayMs, signal);
    delayMs = Math.min(delayMs * 2, backOff.mostMs);
  }
}
