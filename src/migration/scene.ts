/** What the phases of one move share: the world, the durable record, the figures, and whoever asked it to stop. One per running move. */
import { VmStorageError } from '../model/errors.js';
import type { MovePhase, MovePlan, MoveStatus } from '../model/move.js';
import type { JobControl } from '../jobs/job.js';
import type { Ledger, LedgerEntry, LedgerState } from './ledger.js';
import type { MigrationPorts, WorkerClient } from './ports.js';
import { Tracker } from './progress.js';
import type { Receipts } from './receipts.js';
import { steady } from './steady.js';

export type MoveControl = Pick<JobControl<MoveStatus>, 'stop' | 'report' | 'warn' | 'say' | 'pointOfNoReturn'>;

export class Scene {
  readonly tracker: Tracker;
  /** The VM's worker, from the moment this move needs it. */
  worker: WorkerClient | null = null;
  /** Sources that stay, with the reason, as it turned out. */
  readonly kept: { path: string; reason: string }[] = [];
  #entry: LedgerEntry;

  constructor(
    readonly ports: MigrationPorts,
    readonly ledger: Ledger,
    readonly receipts: Receipts,
    readonly control: MoveControl,
    entry: LedgerEntry,
    phase: MovePhase = 'prepare',
  ) {
    this.#entry = entry;
    this.tracker = new Tracker(entry.plan, (status) => control.report(status), phase);
  }

  get entry(): LedgerEntry {
    return this.#entry;
  }

  get plan(): MovePlan {
    return this.#entry.plan;
  }

  get journalPath(): string {
    return this.ports.paths.journal(this.plan.vmId);
  }

  /** Changes the durable record; nothing that depends on it may happen before this resolves. */
  async record(change: Partial<Omit<LedgerEntry, 'schema' | 'state'>> & { state?: LedgerState }): Promise<void> {
    this.#entry = await this.ledger.write({ ...this.#entry, ...change }, this.#entry.state);
  }

  /** The worker, asked for once; it stays the same object over restarts of its process. */
  async needWorker(): Promise<WorkerClient> {
    if (this.worker) return this.worker;
    const vm = this.ports.registry.byId(this.plan.vmId);
    if (!vm) throw vmGone(this.plan);
    this.worker = await this.ports.workers.forVm(vm);
    return this.worker;
  }
}

/** Whether the worker still has this move: not once its journal was ended, nor while it has a later one. */
export async function isAtIt(scene: Scene): Promise<boolean> {
  const status = await steady(await scene.needWorker(), scene.ports.clock, 'status', {});
  return status.journal?.plan.moveId === scene.plan.moveId || status.move?.moveId === scene.plan.moveId;
}

function vmGone(plan: MovePlan): VmStorageError {
  return new VmStorageError('ObjectNotFound', `The virtual machine "${plan.vmName}" (${plan.vmId}) is not registered any more.`, { target: plan.vmName });
}
