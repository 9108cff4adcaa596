/**
 * Moves whose job is over and whose work is not: a destination that could not be cleaned, a step after the switch that kept failing.
 * Each is tried again with growing pauses until it is done, in this host or the next (its ledger entry is the durable part).
 */
import { VmStorageError } from '../model/errors.js';
import type { Ledger } from './ledger.js';
import type { Clock, Log } from './ports.js';

/** From a second to five minutes: a file system that comes back is noticed soon, one that does not costs nothing. */
const FIRST_DELAY_MS = 1_000;
const MOST_DELAY_MS = 300_000;
/** Moves that may wait here. More broken destinations at a time than moves one remembers is a host that needs a person. */
const LATER_MAX = 256;

/** True when the move is done with. */
export type Attempt = () => Promise<boolean>;

export class Later {
  readonly #waiting = new Set<string>();
  readonly #end = new AbortController();

  constructor(
    private readonly clock: Clock,
    private readonly log: Log,
    private readonly ledger: Pick<Ledger, 'read'>,
  ) {}

  get moveIds(): readonly string[] {
    return [...this.#waiting];
  }

  /** Takes the move over; `done` is called once, when nothing is left to do. */
  add(moveId: string, attempt: Attempt, done: () => void): void {
    if (this.#waiting.has(moveId)) return;
    if (this.#waiting.size >= LATER_MAX) {
      this.log.error({ moveId }, 'too many moves wait to be completed; this one goes on when the host is started again');
      return;
    }
    this.#waiting.add(moveId);
    void this.#keepTrying(moveId, attempt, done);
  }

  /** Stops trying; what is left is found again in the ledger. An attempt that is under way is let go at its next step. */
  close(): void {
    this.#end.abort();
  }

  async #keepTrying(moveId: string, attempt: Attempt, done: () => void): Promise<void> {
    for (let delayMs = FIRST_DELAY_MS; ; delayMs = Math.min(delayMs * 2, MOST_DELAY_MS)) {
      try {
        await this.clock.sleep(delayMs, this.#end.signal);
      } catch (cause) {
        if (this.#end.signal.aborted) return;
        throw cause;
      }
      if (!(await this.#tryOnce(moveId, attempt))) continue;
      this.#waiting.delete(moveId);
      this.log.info({ moveId }, 'a move that had been left over is done');
      done();
      return;
    }
  }

  async #tryOnce(moveId: string, attempt: Attempt): Promise<boolean> {
    try {
      return (await attempt()) || (await this.ledger.read(moveId)) === null;
    } catch (cause) {
      const reason = cause instanceof VmStorageError ? `${cause.code}: ${cause.message}` : String(cause);
      this.log.warn({ moveId, reason }, 'a move that had been left over cannot be finished yet');
      return false;
    }
  }
}
