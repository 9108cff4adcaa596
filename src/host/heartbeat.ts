/**
 * Whether a worker that serves still answers. One question at a time, so that a worker that is stopped or hangs collects none; it goes
 * through the worker's main thread and its reactor and is answered from memory, so that silence means that neither serves the guest.
 *
 * ```text
 *          answered within SILENT_AFTER_MS           no answer for SILENT_AFTER_MS
 *   asked ─────────────────────────────────▶ asked ──────────────────────────────▶ silent ──── answered ────▶ asked
 * ```
 * Nobody is killed for being silent: a debugger, or storage in the kernel, lets go in the end, and a kill does not help against the latter.
 */
import type { Clock } from '../os/clock.js';
import type { WorkerStatus } from '../protocol/worker.js';
import type { WorkerLink } from './worker-link.js';

/** Between an answer and the next question. */
const ASK_EACH_MS = 1_000;
/** A worker on a machine that is busy answers within a second. */
export const SILENT_AFTER_MS = 4_000;

export interface HeartbeatListener {
  answered(status: WorkerStatus): void;
  /** Once for each silence. */
  silent(): void;
}

export class Heartbeat {
  readonly #end = new AbortController();
  #lastAnswerMs: number;
  #isSilent = false;

  constructor(
    link: WorkerLink,
    private readonly clock: Clock,
    private readonly listener: HeartbeatListener,
  ) {
    this.#lastAnswerMs = clock.monotonicMs();
    void this.#beat(link).catch(() => this.stop()); // the connection is over; whoever has it hears of that
  }

  /** How long it has not answered, or null while it does. */
  get silentMs(): number | null {
    return this.#isSilent ? this.clock.monotonicMs() - this.#lastAnswerMs : null;
  }

  stop(): void {
    this.#end.abort();
    this.#isSilent = false;
  }

  async #beat(link: WorkerLink): Promise<void> {
    const { signal } = this.#end;
    while (!signal.aborted) {
      const answered = new AbortController();
      void this.#watch(AbortSignal.any([signal, answered.signal]));
      const status = await link.call('status', {}, { timeoutMs: 0, signal }).finally(() => answered.abort());
      this.#lastAnswerMs = this.clock.monotonicMs();
      this.#isSilent = false;
      this.listener.answered(status);
      await this.clock.sleep(ASK_EACH_MS, signal);
    }
  }

  async #watch(over: AbortSignal): Promise<void> {
    try {
      await this.clock.sleep(SILENT_AFTER_MS, over);
    } catch {
      return; // answered, or nobody asks any more
    }
    this.#isSilent = true;
    this.listener.silent();
  }
}
