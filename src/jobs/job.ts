/**
 * One job: its state, its latest progress, its outcome, and the one way to cancel it. It has one owner, the work function; all
 * others look at it, listen to it or ask it to stop. It does not know what the work is.
 */
import { VmStorageError } from '../model/errors.js';
import { allows, isFinished, mayFollow, type JobState } from './states.js';

/** What a cancel came to. `tooLate`: the work is past the point where it can be undone and will finish. */
export type CancelAnswer = 'cancelled' | 'requested' | 'tooLate' | 'finished';

export type JobOutcome<R> =
  | { readonly state: 'succeeded'; readonly value: R }
  | { readonly state: 'failed' | 'cancelled'; readonly error: VmStorageError };

export type JobEvent = 'state' | 'place' | 'progress' | 'warning' | 'verbose';
export type JobListener = (event: JobEvent, text: string) => void;

/** What the work sees of its job. */
export interface JobControl<P> {
  readonly id: string;
  /** Aborted when somebody asked to stop. */
  readonly stop: AbortSignal;
  /** Replaces the progress snapshot. */
  report(progress: P): void;
  warn(text: string): void;
  say(text: string): void;
  /** From here on a cancel is answered with `tooLate`; one that is pending is withdrawn. */
  pointOfNoReturn(): void;
  /** True while the work waits for what may never come: others get its place. It has one again, whatever the limit, when it goes on. */
  stalled(is: boolean): void;
}

/** Warnings and verbose lines kept for a client that comes late; the oldest are dropped. A move writes fewer than ten. */
const LINES_KEPT = 100;

export class Job<P, R> implements JobControl<P> {
  #state: JobState = 'queued';
  #progress: P;
  #committed = false;
  #stalled = false;
  #outcome: JobOutcome<R> | null = null;
  readonly #stop = new AbortController();
  readonly #listeners = new Set<JobListener>();
  readonly #lines: { event: 'warning' | 'verbose'; text: string }[] = [];
  #resolve!: (outcome: JobOutcome<R>) => void;
  readonly #settled = new Promise<JobOutcome<R>>((resolve) => (this.#resolve = resolve));

  constructor(
    readonly id: string,
    /** What the job is about (a VM id): at most one unfinished job per subject is the submitter's rule, not this class's. */
    readonly subject: string,
    initial: P,
    readonly submittedAt: Date,
    private readonly now: () => Date,
  ) {
    this.#progress = initial;
  }

  startedAt: Date | null = null;
  finishedAt: Date | null = null;

  get state(): JobState {
    return this.#state;
  }

  get progress(): P {
    return this.#progress;
  }

  get outcome(): JobOutcome<R> | null {
    return this.#outcome;
  }

  get lines(): readonly { readonly event: 'warning' | 'verbose'; readonly text: string }[] {
    return this.#lines;
  }

  get stop(): AbortSignal {
    return this.#stop.signal;
  }

  /** True once the work said that it cannot be undone any more. */
  get committed(): boolean {
    return this.#committed;
  }

  /** True while the work cannot go on and holds no place. */
  get isStalled(): boolean {
    return this.#stalled;
  }

  /** Resolves with the outcome; never rejects. */
  finished(): Promise<JobOutcome<R>> {
    return this.#settled;
  }

  subscribe(listener: JobListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  report(progress: P): void {
    if (isFinished(this.#state)) return;
    this.#progress = progress;
    this.#tell('progress', '');
  }

  warn(text: string): void {
    this.#line('warning', text);
  }

  say(text: string): void {
    this.#line('verbose', text);
  }

  pointOfNoReturn(): void {
    this.#committed = true;
    if (this.#state === 'cancelling') this.#move('running');
  }

  stalled(is: boolean): void {
    if (is === this.#stalled || isFinished(this.#state)) return;
    this.#stalled = is;
    this.#tell('place', '');
  }

  /** Asks the work to stop. Waiting for what comes of it: `finished()`. */
  cancel(reason: VmStorageError): CancelAnswer {
    if (isFinished(this.#state)) return 'finished';
    if (this.#committed) return 'tooLate';
    if (this.#state === 'queued') {
      this.settle({ state: 'cancelled', error: reason });
      return 'cancelled';
    }
    if ((allows.cancel as readonly JobState[]).includes(this.#state)) {
      this.#move('cancelling');
      this.#stop.abort(reason);
    }
    return 'requested';
  }

  /** For the queue: the job has its place. */
  start(): void {
    this.startedAt = this.now();
    this.#move('running');
  }

  /** For the queue: the work is over. A work that ended as cancelled without being asked to has failed. */
  settle(outcome: JobOutcome<R>): void {
    if (this.#outcome) return;
    const final: JobOutcome<R> =
      outcome.state === 'cancelled' && this.#state === 'running' ? { state: 'failed', error: outcome.error } : outcome;
    this.#outcome = final;
    this.#stalled = false;
    this.finishedAt = this.now();
    this.#move(final.state);
    this.#resolve(final);
    this.#listeners.clear();
  }

  #move(to: JobState): void {
    if (!mayFollow(this.#state, to)) {
      throw new VmStorageError('HostInternalError', `Job ${this.id} cannot go from ${this.#state} to ${to}.`);
    }
    this.#state = to;
    this.#tell('state', to);
  }

  #line(event: 'warning' | 'verbose', text: string): void {
    if (this.#lines.length >= LINES_KEPT) this.#lines.shift();
    this.#lines.push({ event, text });
    this.#tell(event, text);
  }

  #tell(event: JobEvent, text: string): void {
    for (const listener of [...this.#listeners]) listener(event, text);
  }
}
