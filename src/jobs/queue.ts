/**
 * The line of jobs: takes them in order of arrival, starts as many as the limit allows, remembers the last finished ones. What
 * the jobs do is the submitter's business; nothing here is durable (a move's durable part is its ledger entry and its journal).
 */
import { VmStorageError } from '../model/errors.js';
import { QUEUED_JOBS_MAX, admit, placeInLine } from './admission.js';
import { Job, type JobControl, type JobEvent, type JobOutcome } from './job.js';

/** The work of a job. It ends by returning its value, or by throwing; OperationStopped means that it was undone on request. */
export type Work<P, R> = (control: JobControl<P>) => Promise<R>;

export interface QueueOptions<P, R> {
  /** MaximumStorageMigrations, read at each decision. */
  readonly limit: () => number;
  /** How many finished jobs are remembered. */
  readonly finishedKept: number;
  readonly now: () => Date;
  /** Told of every job that was taken, and of everything that becomes of it. */
  readonly onChanged?: (job: Job<P, R>, event: JobEvent) => void;
  /** Told of every job that has ended, after its outcome is set. */
  readonly onFinished?: (job: Job<P, R>) => void;
}

interface Entry<P, R> {
  readonly job: Job<P, R>;
  readonly work: Work<P, R>;
}

export class JobQueue<P, R> {
  readonly #waiting: Entry<P, R>[] = [];
  readonly #active = new Map<string, Job<P, R>>();
  readonly #finished: Job<P, R>[] = [];

  constructor(private readonly options: QueueOptions<P, R>) {}

  /**
   * Adds a job. `admission: 'resumed'` is for work that was already running when the host ended: it starts at once and counts
   * against the limit like any other.
   */
  submit(id: string, subject: string, initial: P, work: Work<P, R>, admission: 'inOrder' | 'resumed' = 'inOrder'): Job<P, R> {
    if (this.find(id)) throw new VmStorageError('HostInternalError', `There is already a job ${id}.`);
    if (admission === 'inOrder' && this.#waiting.length >= QUEUED_JOBS_MAX) {
      throw new VmStorageError('InvalidState', `${QUEUED_JOBS_MAX} moves are waiting already. Try again when some of them have finished.`);
    }
    const job = new Job<P, R>(id, subject, initial, this.options.now(), this.options.now);
    job.subscribe((event) => this.options.onChanged?.(job, event));
    if (admission === 'resumed') {
      this.#run({ job, work });
      return job;
    }
    this.#waiting.push({ job, work });
    this.options.onChanged?.(job, 'state');
    // A job that is cancelled while it waits leaves the line by itself.
    void job.finished().then(() => this.#leaveLine(job));
    this.limitChanged();
    return job;
  }

  /** Looks again who may start: after each end of a job, and when the limit was changed. */
  limitChanged(): void {
    const waiting = this.#waiting.filter((entry) => entry.job.state === 'queued');
    const active = [...this.#active.values()].filter((job) => !job.isStalled).length;
    const ids = admit({ active, waiting: waiting.map((entry) => entry.job.id), limit: this.options.limit() });
    for (const id of ids) {
      const at = this.#waiting.findIndex((entry) => entry.job.id === id);
      const [entry] = this.#waiting.splice(at, 1);
      this.#run(entry!);
    }
  }

  /** Ends the line: nobody who waits in it begins any more, and each is told why. */
  cancelWaiting(reason: VmStorageError): void {
    for (const { job } of [...this.#waiting]) job.cancel(reason);
  }

  /** Running and waiting jobs, the oldest first. */
  unfinished(): readonly Job<P, R>[] {
    return [...this.#active.values(), ...this.#waiting.map((entry) => entry.job).filter((job) => job.state === 'queued')];
  }

  /** The last finished jobs, the oldest first. */
  finished(): readonly Job<P, R>[] {
    return this.#finished;
  }

  find(id: string): Job<P, R> | undefined {
    return [...this.unfinished(), ...this.#finished].find((job) => job.id === id);
  }

  placeInLine(id: string): number {
    return placeInLine({ waiting: this.#waiting.filter((entry) => entry.job.state === 'queued').map((entry) => entry.job.id) }, id);
  }

  #leaveLine(job: Job<P, R>): void {
    const at = this.#waiting.findIndex((entry) => entry.job === job);
    if (at < 0) return;
    this.#waiting.splice(at, 1);
    this.#remember(job);
    this.limitChanged();
  }

  #run({ job, work }: Entry<P, R>): void {
    this.#active.set(job.id, job);
    job.start();
    job.subscribe((event) => event === 'place' && this.limitChanged());
    void this.#outcome(job, work).then((outcome) => {
      this.#active.delete(job.id);
      job.settle(outcome);
      this.#remember(job);
      this.limitChanged();
    });
  }

  async #outcome(job: Job<P, R>, work: Work<P, R>): Promise<JobOutcome<R>> {
    try {
      return { state: 'succeeded', value: await work(job) };
    } catch (cause) {
      const error =
        cause instanceof VmStorageError
          ? cause
          : new VmStorageError('HostInternalError', cause instanceof Error ? cause.message : String(cause), { cause });
      return { state: error.code === 'OperationStopped' ? 'cancelled' : 'failed', error };
    }
  }

  #remember(job: Job<P, R>): void {
    this.#finished.push(job);
    while (this.#finished.length > this.options.finishedKept) this.#finished.shift();
    this.options.onFinished?.(job);
  }
}
