/**
 * Watches the worker move the data, until the switch is durable or the move is over. The worker decides; the host only learns it,
 * from events while they come and from `status` when in doubt: after every change of phase, after every restart, and now and then.
 *
 * ```text
 *            ┌──────── figures, fall back to copy, worker lost and restored ───────┐
 *  watching ─┴─► journal says committed or later ──► committed
 *            ├─► outcome not ok ──► failed
 *            ├─► a target is not at its path any more, or the room runs out: stopMove ── stopped ──► failed
 *            ├─► stop asked: stopMove ── stopped ──► stopped
 *            │                       └── not stopped: too late, go on watching
 *            └─► neither journal nor move known ──► failed (it cannot go on by itself)
 * ```
 */
import { VmStorageError, errorTable, type ErrorCode } from '../model/errors.js';
import type { JournalPhase, MoveOutcome } from '../model/move.js';
import { isRefusedWrite, reasonOf } from '../os/errno.js';
import { killPoint } from '../os/kill-point.js';
import { writeIdentity } from '../os/file-identity.js';
import { stopped } from './prepare.js';
import type { WorkerClient, WorkerEvent, WorkerLifeEvent, WorkerStatus } from './ports.js';
import type { Scene } from './scene.js';
import { shortOfRoom } from './room.js';
import { lostTarget } from './vanished.js';

/** Silence after which the worker is asked; events come four times a second. */
const ASK_AFTER_MS = 2_000;

const settled: readonly JournalPhase[] = ['committed', 'released', 'deleted'];

export function isCommitted(phase: JournalPhase): boolean {
  return settled.includes(phase);
}

/** Resolves when COMMITTED is durable; throws why the move cannot get there. */
export async function follow(scene: Scene): Promise<void> {
  const worker = await scene.needWorker();
  const wake = new Wake(worker, scene, () => look());
  const targets = new Watch(
    () => lostTarget(scene),
    () => wake.ring(),
  );
  const room = new Watch(
    () => shortOfRoom(scene).catch(() => null), // of a file system that does not answer, the worker tells
    () => wake.ring(),
  );
  let askToStop = true;
  let known = false;
  let told = 0;
  // While they are made anew after a death of the worker, one may be away for a moment.
  const look = (): void => {
    if (!known) return;
    targets.look();
    room.look();
  };
  try {
    for (;;) {
      const status = await scene.ask('status', {});
      if (status.move) scene.tracker.fromWorker(status.move);
      const warnings = status.move?.moveId === scene.plan.moveId ? (status.move.warnings ?? []) : [];
      for (const warning of warnings.slice(told)) scene.control.warn(warning);
      told = Math.max(told, warnings.length);
      if (judge(status, scene)) return;
      if (wake.wasRestored()) known = false;
      if (!known && mayBeKnown(status, scene)) {
        known = await rememberTargets(scene);
        killPoint('host:targets');
      }
      // As it is before the stop: with that the worker deletes the targets, and a look that is under way finds them gone.
      const [lost, short] = [targets.found, room.found];
      if (askToStop && (lost ?? short) !== null) {
        askToStop = false;
        if ((await scene.ask('stopMove', {})).stopped) throw lost === null ? short! : await whyLost(lost, scene);
        scene.control.pointOfNoReturn();
        continue;
      }
      look();
      if (askToStop && scene.control.stop.aborted) {
        askToStop = false;
        const answer = await scene.ask('stopMove', {});
        if (answer.stopped) throw stopped(scene.plan.vmName);
        scene.control.pointOfNoReturn();
        continue;
      }
      await wake.next(askToStop ? scene.control.stop : null);
    }
  } finally {
    wake.close();
  }
}

/** True when the switch is durable, false while it is not decided; throws when the move has failed. */
function judge(status: WorkerStatus, scene: Scene): boolean {
  const { moveId } = scene.plan;
  const journal = status.journal?.plan.moveId === moveId ? status.journal : null;
  const move = status.move?.moveId === moveId ? status.move : null;
  if (journal && isCommitted(journal.phase)) {
    scene.control.pointOfNoReturn();
    // The worker says so itself once it has let the source go out of use; it refuses to close it before.
    return move === null || move.outcome !== null;
  }
  if (move?.outcome && !move.outcome.ok) throw outcomeError(move.outcome, scene);
  if (!journal && !move) {
    throw new VmStorageError('OperationFailed', 'The worker of the virtual machine does not know this move any more.', {
      target: scene.plan.vmName,
    });
  }
  return false;
}

/**
 * A target is gone from its path, and the move is stopped. A worker whose move fails deletes its targets before it tells why: then
 * that is the reason, and nothing had vanished.
 */
async function whyLost(path: string, scene: Scene): Promise<VmStorageError> {
  const { move } = await scene.ask('status', {});
  const own = move?.moveId === scene.plan.moveId ? move.outcome : null;
  if (own && !own.ok && own.code !== 'OperationStopped') return outcomeError(own, scene);
  return new VmStorageError('StorageFailure', `'${path}' is not there any more; was its file system unmounted?`, { target: path });
}

function outcomeError({ code, message, path }: MoveOutcome, scene: Scene): VmStorageError {
  return new VmStorageError(code in errorTable ? (code as ErrorCode) : 'OperationFailed', message, { target: path ?? scene.plan.vmName });
}

/** A worker that finds `started` makes its targets anew: not before the next record are they what they will be. */
function mayBeKnown(status: WorkerStatus, scene: Scene): boolean {
  return status.journal?.plan.moveId === scene.plan.moveId && status.journal.phase !== 'started';
}

/**
 * From here on the targets are known by identity: nothing else at their paths will ever be deleted in their stead. False when the record
 * cannot be written now (its file system is full): no reason to give the move up, and it is tried again at the next look.
 */
async function rememberTargets(scene: Scene): Promise<boolean> {
  const targets = await Promise.all(
    scene.entry.targets.map(async (target) => {
      const facts = await scene.ports.files.facts(target.path);
      return facts ? { ...target, identity: writeIdentity(facts) } : target;
    }),
  );
  try {
    await scene.record({ targets });
    return true;
  } catch (cause) {
    if (!isRefusedWrite(cause)) throw cause;
    scene.ports.log.warn(
      { moveId: scene.plan.moveId, reason: reasonOf(cause) },
      'the record of the move cannot be written; it is tried again',
    );
    return false;
  }
}

/**
 * Asks the destination without being waited for: one that hangs would hold up the answer, and with it a stop. One look at a time; what it
 * found is told at the next turn.
 */
class Watch<Found> {
  #looking = false;
  #found: Found | null = null;

  constructor(
    private readonly ask: () => Promise<Found | null>,
    private readonly tell: () => void,
  ) {}

  /** What the last look found wrong. */
  get found(): Found | null {
    return this.#found;
  }

  look(): void {
    if (this.#looking || this.#found !== null) return;
    this.#looking = true;
    void this.ask().then((found) => {
      this.#looking = false;
      this.#found = found;
      if (found !== null) this.tell();
    });
  }
}

/** Wakes the watcher when there is something to ask about. Holds one flag, not a queue: only the latest state matters. */
class Wake {
  #due = false;
  #phase: string | null = null;
  #restored = false;
  #resolve: (() => void) | null = null;
  readonly #unsubscribe: () => void;

  constructor(
    worker: WorkerClient,
    private readonly scene: Scene,
    /** Called at each sign of the move's going on, a few times a second. */
    private readonly onFigures: () => void,
  ) {
    this.#unsubscribe = worker.subscribe((event) => this.#hear(event));
  }

  /** Resolves at the next thing worth asking about, at a stop, or after a silence. */
  async next(stop: AbortSignal | null): Promise<void> {
    const { clock } = this.scene.ports;
    const end = new AbortController();
    const ring = (): void => this.ring();
    stop?.addEventListener('abort', ring, { once: true });
    try {
      if (this.#due || stop?.aborted) return;
      const rung = new Promise<void>((resolve) => (this.#resolve = resolve));
      // The timer loses the race more often than not: its rejection at the abort is no failure.
      await Promise.race([rung, clock.sleep(ASK_AFTER_MS, end.signal).catch(() => undefined)]);
    } finally {
      this.#due = false;
      this.#resolve = null;
      end.abort();
      stop?.removeEventListener('abort', ring);
    }
  }

  /** Whether a worker was started again since this was last asked. */
  wasRestored(): boolean {
    const was = this.#restored;
    this.#restored = false;
    return was;
  }

  close(): void {
    this.#unsubscribe();
  }

  #hear(event: WorkerEvent | WorkerLifeEvent): void {
    if (event.event === 'restored') {
      this.#restored = true;
      this.ring();
    }
    if (event.event !== 'move' || event.status.moveId !== this.scene.plan.moveId) return;
    this.scene.tracker.fromWorker(event.status);
    this.onFigures();
    if (event.status.outcome || event.status.phase !== this.#phase) this.ring();
    this.#phase = event.status.phase;
  }

  ring(): void {
    this.#due = true;
    this.#resolve?.();
  }
}
