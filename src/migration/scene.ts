/** What the phases of one move share: the world, the durable record, the figures, and whoever asked it to stop. One per running move. */
import { VmStorageError } from '../model/errors.js';
import type { MovePhase, MovePlan, MoveStatus } from '../model/move.js';
import type { JobControl } from '../jobs/job.js';
import type { Ledger, LedgerEntry, LedgerState } from './ledger.js';
import type { MigrationPorts, Owner, WorkerClient } from './ports.js';
import { Lingering } from './lingering.js';
import { Tracker } from './progress.js';
import type { Receipts } from './receipts.js';
import { isLost, withBackOff, workerBackOff } from './repeat.js';
import { fromWorker } from './stalled.js';
import type { WorkerMethods } from '../protocol/worker.js';

export type MoveControl = Pick<JobControl<MoveStatus>, 'stop' | 'report' | 'warn' | 'say' | 'pointOfNoReturn' | 'stalled'>;

export class Scene {
  readonly tracker: Tracker;
  /** The VM's worker, from the moment this move needs it. */
  worker: WorkerClient | null = null;
  /** Sources that stay, with the reason, as it turned out. */
  readonly kept: { path: string; reason: string }[] = [];
  /** What the way back has not yet seen to be gone from the destination. */
  readonly remains = new Set<string>();
  #entry: LedgerEntry;
  #isRecorded: boolean;

  constructor(
    readonly ports: MigrationPorts,
    readonly ledger: Ledger,
    readonly receipts: Receipts,
    readonly control: MoveControl,
    entry: LedgerEntry,
    phase: MovePhase = 'prepare',
    /** Passed before every step. Once the host has been closed it never resolves: the next host goes on with this move, not this one. */
    readonly gate: () => Promise<void> = async () => undefined,
    /** False for a move that is about to write its first record. */
    isRecorded = true,
    /** Of all moves together: a later attempt at this one has a scene of its own. */
    readonly lingering = new Lingering(),
  ) {
    this.#entry = entry;
    this.#isRecorded = isRecorded;
    this.tracker = new Tracker(entry.plan, (status) => control.report(status), phase);
  }

  get entry(): LedgerEntry {
    return this.#entry;
  }

  /** False while nothing of this move is durable: there is nothing to undo. */
  get isRecorded(): boolean {
    return this.#isRecorded;
  }

  get plan(): MovePlan {
    return this.#entry.plan;
  }

  get owner(): Owner {
    return this.plan.owner ?? null;
  }

  get journalPath(): string {
    return this.ports.paths.journal(this.plan.vmId);
  }

  get marksPath(): string {
    return this.ports.paths.marks(this.plan.vmId);
  }

  /** Changes the durable record; nothing that depends on it may happen before this resolves. */
  async record(change: Partial<Omit<LedgerEntry, 'schema' | 'state'>> & { state?: LedgerState }): Promise<void> {
    await this.gate();
    this.#entry = await this.ledger.write({ ...this.#entry, ...change }, this.#entry.state);
    this.#isRecorded = true;
  }

  /** The VM's worker, started if there is none. The object stays the same over restarts of its process, until it is ended. */
  async needWorker(): Promise<WorkerClient> {
    await this.gate();
    if (this.worker) return this.worker;
    const vm = this.ports.registry.byId(this.plan.vmId);
    if (!vm) throw vmGone(this.plan);
    this.worker = await this.ports.workers.forVm(vm);
    return this.worker;
  }

  /**
   * Repeats an idempotent request until a worker has answered it; a worker's refusal is passed on. No time limit: closing a target waits
   * for its last writes, and those for a file system that may hang. A worker that dies ends the wait.
   */
  async ask<M extends SteadyMethod>(method: M, params: WorkerMethods[M]['params']): Promise<WorkerMethods[M]['result']> {
    const once = async (): Promise<WorkerMethods[M]['result']> => {
      const worker = await this.needWorker();
      try {
        return await worker.call(method, params, { timeoutMs: 0 });
      } catch (cause) {
        // It may have been ended for good (its VM was off): the next attempt asks for one anew.
        if (isLost(cause)) this.worker = null;
        throw cause;
      }
    };
    return this.fromWorker(withBackOff(this.ports.clock, workerBackOff, once, isLost));
  }

  /** For an answer that may wait for a worker without limit. */
  fromWorker<T>(answer: Promise<T>): Promise<T> {
    const { vmId, vmName } = this.plan;
    return fromWorker({ vmId, vmName, ports: this.ports, control: this.control, gate: this.gate }, answer);
  }
}

/** What may be asked twice. */
type SteadyMethod = 'status' | 'stopMove' | 'releaseMove' | 'endMove';

/** Whether the worker still has this move: not once its journal was ended, nor while it has a later one. */
export async function isAtIt(scene: Scene): Promise<boolean> {
  const status = await scene.ask('status', {});
  return status.journal?.plan.moveId === scene.plan.moveId || status.move?.moveId === scene.plan.moveId;
}

function vmGone(plan: MovePlan): VmStorageError {
  return new VmStorageError('ObjectNotFound', `The virtual machine "${plan.vmName}" (${plan.vmId}) is not registered any more.`, {
    target: plan.vmName,
  });
}
