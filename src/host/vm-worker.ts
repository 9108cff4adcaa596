/**
 * The worker of one VM over its lives. Whoever holds this object sees one worker; behind it the process may die and be started again.
 *
 * ```text
 *            reached and serving                 connection or process lost
 *  starting ─────────────────────▶ serving ──────────────────────────────▶ restarting ─┐
 *     │ failed: the caller is told    ▲  │                                   ▲    │    │ failed: wait, twice as long each
 *     ▼                               │  │ end()                             └────┼────┘ time, at most 10 s; trouble says why
 *   ended ◀───────────────────────────┼──┴──────────── end() ─────────────────────┤
 *                                     └───────────────────────────────────────────┘ serving again
 * ```
 * It never gives up while it is needed: a guest is waiting on the other side, without an error, for as long as it takes. One that serves
 * and does not answer (heartbeat.ts) goes on serving for us, with a trouble that says so: it may come to itself.
 */
import { rm } from 'node:fs/promises';
import { VmStorageError } from '../model/errors.js';
import type { TurnLength } from '../model/move.js';
import { type Clock, waitUntil } from '../os/clock.js';
import type { Log } from '../os/log.js';
import { type ProcessCondition, type ProcessIdentity, type Processes, waitForExit } from '../os/processes.js';
import type {
  JournalStatus,
  ServedDisk,
  ServedDiskStatus,
  WorkerEvent,
  WorkerMethod,
  WorkerMethods,
  WorkerStatus,
} from '../protocol/worker.js';
import { Heartbeat, SILENT_AFTER_MS } from './heartbeat.js';
import { reachWorker, type WorkerPlace, type WorkerStarterOptions } from './worker-process.js';
import { CALL_LIMIT_MS, type WorkerLink } from './worker-link.js';
import type { CallOptions, DiskError, WorkerClient, WorkerHealth, WorkerLifeEvent } from './services.js';

/** The first restart is at once: a guest is waiting. Then 0.1 s, doubled up to 10 s. */
const RESTART_FIRST_DELAY_MS = 100;
const RESTART_DELAY_MAX_MS = 10_000;
/** A worker that served this long starts again without delay when it dies. */
const STABLE_AFTER_MS = 60_000;
/** Opening, fencing a dead predecessor, and replaying a log. */
const SERVE_LIMIT_MS = 60_000;
/** Nobody waits for the disks yet: who has them is told to whoever starts the machine. A worker that is just ending needs less. */
const LOCK_WAIT_FIRST_MS = 10_000;
const EXIT_LIMIT_MS = 10_000;
/** For the worker to notice that a VMM that is gone has closed its sockets. */
const VMM_GONE_LIMIT_MS = 3_000;
/** A disk that is broken refuses thousands of requests. */
const DISK_ERROR_LOG_EACH_MS = 60_000;

export interface VmWorkerOptions extends WorkerStarterOptions {
  readonly processes: Processes;
  readonly clock: Clock;
  readonly log: Log;
  readonly journalPath: string;
  readonly marksPath: string;
  /** Throws why nothing may be served: the records of a move contradict each other. `journal`: what stands in it, if there is one. */
  readonly judge: (journal: JournalStatus | null) => Promise<void>;
  /** Throws the same for a journal that was damaged or lost, and any other cause as it is. */
  readonly refuseUnreadable: (cause: unknown) => Promise<never>;
  /** Told when `health` says something else. */
  readonly changed: () => void;
  /** Disks as the registry has them now; asked before each `serve`. */
  readonly disks: () => readonly ServedDisk[];
}

type State = 'starting' | 'serving' | 'restarting' | 'ending' | 'ended';

export class VmWorker implements WorkerClient {
  readonly vmId: string;
  restarts = 0;
  #state: State = 'starting';
  #link: WorkerLink | null = null;
  #identity: ProcessIdentity | null = null;
  #trouble: string | null = null;
  #heartbeat: Heartbeat | null = null;
  #diskErrors: readonly DiskError[] = [];
  #longestTurn: TurnLength | null = null;
  /** When an error of a disk file was last put into the log. */
  readonly #logged = new Map<string, string>();
  #startingSinceMs: number;
  #failures = 0;
  #servingSinceMs = 0;
  readonly #listeners = new Set<(event: WorkerEvent | WorkerLifeEvent) => void>();
  readonly #gone = new AbortController();
  #ending: Promise<void> | null = null;
  #attempt: Promise<unknown> = Promise.resolve();
  /** While it is there no attempt begins. */
  #pause: Promise<void> | null = null;
  /** Ends the wait for the next attempt. */
  #hurry = new AbortController();

  constructor(
    private readonly place: WorkerPlace & { readonly vmId: string },
    private readonly options: VmWorkerOptions,
  ) {
    this.vmId = place.vmId;
    this.#startingSinceMs = options.clock.monotonicMs();
  }

  get pid(): number | null {
    return this.#link ? (this.#identity?.pid ?? null) : null;
  }

  get answers(): boolean {
    return this.#link !== null && this.#heartbeat?.silentMs === null;
  }

  get health(): WorkerHealth {
    const state = this.#state === 'ended' ? 'none' : this.#state;
    const trouble = this.#trouble ?? this.#silence();
    const longestTurn = this.#link === null ? null : this.#longestTurn;
    return { state, pid: this.pid, restarts: this.restarts, trouble, diskErrors: this.#diskErrors, longestTurn };
  }

  #silence(): string | null {
    const startingMs = this.#state === 'starting' ? this.options.clock.monotonicMs() - this.#startingSinceMs : 0;
    if (startingMs >= SILENT_AFTER_MS) return `the storage worker does not serve yet, after ${seconds(startingMs)}`;
    const silentMs = this.#heartbeat?.silentMs ?? null;
    if (silentMs === null || this.#identity === null) return null;
    const why = whySilent[this.options.processes.condition(this.#identity)];
    return `the storage worker (process ${this.#identity.pid}) has not answered for ${seconds(silentMs)}${why}`;
  }

  /** Brings it up the first time. `startNew` false: only one that is there already; false is returned when there is none. */
  async start(startNew: boolean): Promise<boolean> {
    try {
      if (await this.#bringUp(startNew, { lockWaitMs: LOCK_WAIT_FIRST_MS })) return true;
      this.#state = 'ended';
      return false;
    } catch (error) {
      if (this.#state !== 'starting') throw error;
      this.#state = 'ended';
      await this.#terminate(true).catch((failure: unknown) =>
        this.options.log.error({ vmId: this.vmId, error: String(failure) }, 'a worker that did not serve does not end'),
      );
      throw error;
    }
  }

  /** Takes over supervision of one that must exist (a guest is waiting), whatever the first attempt says. */
  async startOrKeepTrying(): Promise<void> {
    try {
      await this.#bringUp(true);
    } catch (error) {
      this.#lost(reasonOf(error));
    }
  }

  async call<M extends WorkerMethod>(
    method: M,
    params: WorkerMethods[M]['params'],
    options: CallOptions = {},
  ): Promise<WorkerMethods[M]['result']> {
    const limitMs = options.timeoutMs ?? CALL_LIMIT_MS;
    const link =
      this.#link ??
      (await waitUntil(
        this.options.clock,
        limitMs || Infinity,
        20,
        () => {
          if (this.#state === 'ended' || this.#state === 'ending')
            throw new VmStorageError('HostConnectionLost', `The worker was asked '${method}' after it was ended.`);
          return this.#link ?? undefined;
        },
        options.signal,
      ));
    if (!link)
      throw new VmStorageError('HostConnectionLost', `The worker cannot be asked '${method}': ${this.#trouble ?? 'it is not running'}.`);
    return link.call(method, params, options);
  }

  subscribe(listener: (event: WorkerEvent | WorkerLifeEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Ends the process in order (nothing is served any more when this resolves). */
  end(): Promise<void> {
    this.#ending ??= (async () => {
      const failed = this.#state === 'ended';
      this.#state = 'ending';
      this.#gone.abort();
      if (!failed) await this.#terminate(false);
      this.#state = 'ended';
    })();
    return this.#ending;
  }

  /** Lets go of the process without touching it: the host ends, the worker does not. */
  detach(): void {
    this.#state = 'ended';
    this.#gone.abort();
    this.#heartbeat?.stop();
    this.#link?.close();
  }

  /**
   * Runs `body` while nobody attempts to serve, and attempts it at once when it is over: what is changed there is seen whole. Throws when a
   * worker serves already. One `body` at a time.
   */
  async betweenAttempts<T>(body: () => Promise<T>): Promise<T> {
    let goOn!: () => void;
    this.#pause = new Promise((resolve) => (goOn = resolve));
    try {
      await this.#attempt;
      if (this.#link)
        throw new VmStorageError('InvalidState', `The disks of the virtual machine ${this.vmId} are being served by now.`, {
          target: this.vmId,
        });
      return await body();
    } finally {
      this.#pause = null;
      goOn();
      this.#hurry.abort();
    }
  }

  #bringUp(startNew: boolean, how: { readonly lockWaitMs?: number } = {}): Promise<boolean> {
    const attempt = this.#attemptToServe(startNew, how);
    this.#attempt = attempt.catch(() => {});
    return attempt;
  }

  async #attemptToServe(startNew: boolean, how: { readonly lockWaitMs?: number }): Promise<boolean> {
    const reached = await reachWorker(this.place, this.options, startNew, this.#gone.signal);
    if (!reached) return false;
    const { link, identity } = reached;
    this.#identity = identity;
    let status: WorkerStatus = reached.status;
    try {
      // One that serves is left as it is: during a move it serves other files than the registry knows yet.
      if (!reached.found || status.disks.length === 0) {
        await this.#judge(link, how.lockWaitMs);
        status = await link.call(
          'serve',
          {
            vmId: this.vmId,
            disks: this.options.disks(),
            journalPath: this.options.journalPath,
            marksPath: this.options.marksPath,
            ...how,
          },
          { timeoutMs: SERVE_LIMIT_MS, signal: this.#gone.signal },
        );
      }
    } catch (error) {
      link.close();
      throw error;
    }
    if (this.#gone.signal.aborted) {
      link.close();
      throw new VmStorageError('OperationStopped', 'The worker is no longer needed.');
    }
    this.#link = link;
    this.#trouble = null;
    this.#heartbeat?.stop();
    this.#heartbeat = this.#listenTo(link);
    this.#hear(status);
    this.#servingSinceMs = this.options.clock.monotonicMs();
    link.subscribe((event) => this.#tell(event));
    void link.closed.then((reason) => {
      if (this.#link !== link) return;
      this.#link = null;
      this.#heartbeat?.stop();
      if (this.#state === 'serving') this.#lost(reason);
    });
    this.#state = 'serving';
    this.#tell({ event: 'restored', status });
    return true;
  }

  #listenTo(link: WorkerLink): Heartbeat {
    const { clock, log } = this.options;
    let silent = false;
    return new Heartbeat(link, clock, {
      answered: (status) => {
        if (silent) log.warn({ vmId: this.vmId, worker: status.pid }, 'the worker answers again');
        if (silent) this.options.changed();
        silent = false;
        this.#hear(status);
      },
      silent: () => {
        silent = true;
        this.options.changed();
        log.error({ vmId: this.vmId, worker: this.#identity?.pid, reason: this.#silence() }, 'the worker does not answer');
      },
    });
  }

  /** What the guest was refused, and how long it waited for the worker itself. Each worker counts from its own start. */
  #hear({ disks, longestTurn }: WorkerStatus): void {
    const before = JSON.stringify([this.#longestTurn, this.#diskErrors]);
    this.#longestTurn = longestTurn;
    this.#diskErrors = disks.flatMap(diskError);
    if (JSON.stringify([longestTurn, this.#diskErrors]) !== before) this.options.changed();
    for (const error of this.#diskErrors) {
      const logged = this.#logged.get(error.path);
      if (logged !== undefined && Date.parse(error.at) - Date.parse(logged) < DISK_ERROR_LOG_EACH_MS) continue;
      this.#logged.set(error.path, error.at);
      this.options.log.error({ vmId: this.vmId, ...error }, 'the storage refused a request of the guest');
    }
  }

  /** Before anything is served: the worker's journal against what the host has written down. */
  async #judge(link: WorkerLink, lockWaitMs: number = SERVE_LIMIT_MS / 2): Promise<void> {
    const { journalPath, marksPath, judge, refuseUnreadable } = this.options;
    const params = { journalPath, marksPath, lockWaitMs };
    const { journal } = await link
      .call('readJournal', params, { timeoutMs: SERVE_LIMIT_MS, signal: this.#gone.signal })
      .catch(refuseUnreadable);
    await judge(journal);
  }

  #lost(reason: string): void {
    const { clock, log } = this.options;
    if (this.#state === 'ending' || this.#state === 'ended') return;
    log.warn({ vmId: this.vmId, worker: this.#identity?.pid, reason }, 'the worker is lost');
    if (this.#state === 'serving' && clock.monotonicMs() - this.#servingSinceMs >= STABLE_AFTER_MS) this.#failures = 0;
    this.#state = 'restarting';
    this.#trouble = `the storage worker ended (${reason}) and is being started again`;
    this.#tell({ event: 'lost', reason });
    void this.#restart();
  }

  async #restart(): Promise<void> {
    const { clock, log } = this.options;
    const signal = this.#gone.signal;
    while (!signal.aborted) {
      const delayMs = this.#failures === 0 ? 0 : Math.min(RESTART_FIRST_DELAY_MS * 2 ** (this.#failures - 1), RESTART_DELAY_MAX_MS);
      this.#hurry = new AbortController();
      if (delayMs > 0) await clock.sleep(delayMs, AbortSignal.any([signal, this.#hurry.signal])).catch(() => {});
      await this.#pause;
      if (signal.aborted) return;
      this.#failures += 1; // forgotten once it has served for a while
      this.restarts += 1;
      try {
        await this.#bringUp(true);
        log.info({ vmId: this.vmId, worker: this.#identity?.pid, restarts: this.restarts }, 'the worker serves again');
        return;
      } catch (error) {
        if (signal.aborted) return;
        this.#trouble = `the storage worker could not be started again (attempt ${this.restarts}): ${reasonOf(error)}`;
        this.options.changed();
        log.error({ vmId: this.vmId, restarts: this.restarts, reason: reasonOf(error) }, 'the worker could not be started again');
      }
    }
  }

  /** shutdown, then SIGKILL: used only when no guest and no move needs it, so nothing acknowledged is at stake. */
  async #terminate(force: boolean): Promise<void> {
    const { processes, clock, log } = this.options;
    const link = this.#link;
    const mayAnswer = this.answers;
    this.#heartbeat?.stop();
    // One that is stopped, or hangs, would be asked for minutes.
    if (link && mayAnswer) {
      const asked = await waitUntil(clock, VMM_GONE_LIMIT_MS, 50, () =>
        link.call('shutdown', { force }).then(
          () => true,
          (error: unknown) => (error instanceof VmStorageError && error.code === 'InvalidState' ? undefined : false),
        ),
      );
      if (asked === undefined) await link.call('shutdown', { force: true }).catch(() => {});
    }
    const identity = this.#identity;
    if (identity && !(await waitForExit(processes, clock, identity, mayAnswer ? EXIT_LIMIT_MS : 0))) {
      log.warn({ vmId: this.vmId, worker: identity.pid }, 'the worker did not end by itself and is killed');
      processes.signal(identity, 'SIGKILL');
      if (!(await waitForExit(processes, clock, identity, EXIT_LIMIT_MS))) {
        throw new VmStorageError('OperationFailed', `The worker process ${identity.pid} does not end; it waits in the kernel for storage.`);
      }
    }
    link?.close();
    this.#link = null;
    await rm(this.place.socket, { force: true });
  }

  #tell(event: WorkerEvent | WorkerLifeEvent): void {
    if (event.event !== 'move') this.options.changed();
    for (const listener of this.#listeners) listener(event);
  }
}

const whySilent: { readonly [C in ProcessCondition]: string } = {
  runs: '',
  stopped: ': it is stopped (SIGSTOP; SIGCONT lets it go on)',
  traced: ': a debugger holds it',
  waits: ': it waits in the kernel, for storage that does not answer',
  gone: ': it has ended',
};

const seconds = (ms: number): string => `${Math.round(ms / 1000)} s`;

function diskError({ index, path, failed }: ServedDiskStatus): readonly DiskError[] {
  // Absent: of a worker of an earlier release that outlived its host.
  if (!failed) return [];
  const { count, errno, text, request, offset, at } = failed;
  return [{ disk: index, path, errno, reason: text, request, offset, count, at }];
}

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error)).replace(/\.$/, '');
