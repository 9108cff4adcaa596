/** Time as the host sees it: one small port, so that tests decide what time it is and how long a wait takes. */
import { setTimeout as delay } from 'node:timers/promises';

export interface Clock {
  /** Wall clock, for what people read. */
  now(): Date;
  /** Monotonic milliseconds, for waits and durations. */
  monotonicMs(): number;
  /** Resolves after `delayMs`; rejects with an AbortError when the signal aborts first. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  now: () => new Date(),
  monotonicMs: () => performance.now(),
  sleep: (delayMs, signal) => delay(delayMs, undefined, signal ? { signal } : {}),
};

/** Asks `condition` until it gives a value other than undefined; returns undefined when `timeoutMs` has passed without one. */
export async function waitUntil<T>(
  clock: Clock,
  timeoutMs: number,
  everyMs: number,
  condition: () => Promise<T | undefined> | T | undefined,
  signal?: AbortSignal,
): Promise<T | undefined> {
  const deadline = clock.monotonicMs() + timeoutMs;
  for (;;) {
    const value = await condition();
    if (value !== undefined) return value;
    const leftMs = deadline - clock.monotonicMs();
    if (leftMs <= 0 || signal?.aborted) return undefined;
    try {
      await clock.sleep(Math.min(everyMs, leftMs), signal);
    } catch (error) {
      if (signal?.aborted) return undefined;
      throw error;
    }
  }
}
