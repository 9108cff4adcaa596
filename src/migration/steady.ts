/** Calls to a worker that may die and be started again meanwhile, and waits that grow up to a limit. */
import { VmStorageError } from '../model/errors.js';
import type { WorkerMethods } from '../protocol/worker.js';
import type { Clock, WorkerClient } from './ports.js';

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

/** Repeats an idempotent request until a worker has answered it; a worker's refusal is passed on. */
export async function steady<M extends 'status' | 'stopMove' | 'releaseMove' | 'endMove' | 'copyAttributes'>(
  worker: WorkerClient,
  clock: Clock,
  method: M,
  params: WorkerMethods[M]['params'],
): Promise<WorkerMethods[M]['result']> {
  // Closing a target waits for its last writes, and those for a file system that may hang: no limit, the move shows as stopping.
  const options = method === 'stopMove' || method === 'releaseMove' ? { timeoutMs: 0 } : {};
  return withBackOff(clock, workerBackOff, () => worker.call(method, params, options), isLost);
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
