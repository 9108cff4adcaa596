/**
 * What is left of a move for people and auditors: `receipts/<move id>.json` in the state folder. Written when the switch is durable
 * (with `finishedAt` null) and completed at the end, so a crash between loses neither hash nor identities. A move that failed or was stopped
 * leaves one as well, without hashes: with its cause.
 */
import * as path from 'node:path';
import type { MovePlan, MoveStatus } from '../model/move.js';
import type { MoveFiles } from './ports.js';
import { withFiguresOf } from './progress.js';
import { brokenRule } from './stored-schema.js';

/** Why a move did not get to its end. */
export interface MoveFailure {
  readonly code: string;
  readonly message: string;
  /** The number of the disk it is about, and the file or folder, where it is about one. */
  readonly disk: number | null;
  readonly path: string | null;
}

export type MoveEnd = 'Completed' | 'Failed' | 'Stopped';

export interface MoveReceipt {
  readonly schema: 1;
  readonly moveId: string;
  readonly vmId: string;
  readonly vmName: string;
  readonly startedAt: string;
  readonly finishedAt: string | null;
  readonly configurationSource: string;
  readonly configurationTarget: string;
  readonly moved: readonly { readonly source: string; readonly target: string }[];
  readonly kept: readonly { readonly path: string; readonly reason: string }[];
  /** Figures and per-disk receipts as the worker last reported them. */
  readonly status: MoveStatus;
  /** Absent in those of 0.1: Completed. */
  readonly end?: MoveEnd;
  readonly failure?: MoveFailure;
}

export const endOf = (receipt: MoveReceipt): MoveEnd => receipt.end ?? 'Completed';

/**
 * Receipts kept in the folder, and as many of moves that came to nothing: a script that fails every minute must not take the proofs of
 * those that were moved. The oldest are deleted. About 2 KB each.
 */
export const RECEIPTS_KEPT = 1000;

export class Receipts {
  constructor(
    private readonly folder: string,
    private readonly files: Pick<MoveFiles, 'list' | 'readText' | 'writeText' | 'makeOwnFolder' | 'deleteFile'>,
    private readonly kept: number = RECEIPTS_KEPT,
    /** Hears of each file that is no receipt, whenever all are read. Such a one is left alone. */
    private readonly onMalformed: (file: string, why: string) => void = () => {},
  ) {}

  /** Never replaces figures or per-disk receipts by none: a worker that was started again may have forgotten them. */
  async save(plan: MovePlan, status: MoveStatus, kept: MoveReceipt['kept'], finishedAt: Date | null): Promise<MoveReceipt> {
    const before = await this.read(plan.moveId);
    const figures = before ? withFiguresOf(before.status, status) : status;
    return this.#write({ ...ofPlan(plan, finishedAt), kept, status: figures, end: 'Completed' });
  }

  /** Of a move that failed or was stopped. */
  async saveFailure(plan: MovePlan, status: MoveStatus, end: MoveEnd, failure: MoveFailure, finishedAt: Date): Promise<void> {
    await this.#write({ ...ofPlan(plan, finishedAt), kept: [], status, end, failure });
    await this.prune();
  }

  async #write(receipt: MoveReceipt): Promise<MoveReceipt> {
    await this.files.makeOwnFolder(this.folder);
    await this.files.writeText(this.#file(receipt.moveId), `${JSON.stringify(receipt, null, 1)}\n`);
    return receipt;
  }

  async read(moveId: string): Promise<MoveReceipt | null> {
    const found = await this.#read(moveId);
    return typeof found === 'string' ? null : found; // not ours to repair: it is written anew as a whole
  }

  /** Null when there is none; why it cannot be used when it cannot. */
  async #read(moveId: string): Promise<MoveReceipt | string | null> {
    try {
      const text = await this.files.readText(this.#file(moveId));
      if (text === null) return null;
      const receipt: unknown = JSON.parse(text);
      const rule = brokenRule('receipt', receipt);
      if (rule !== null) return rule;
      return (receipt as MoveReceipt).moveId === moveId
        ? (receipt as MoveReceipt)
        : `it is the receipt of move ${(receipt as MoveReceipt).moveId}`;
    } catch (cause) {
      return cause instanceof Error ? cause.message : String(cause);
    }
  }

  /** The last finished ones, the oldest first. */
  async latest(count: number): Promise<readonly MoveReceipt[]> {
    const all = await this.#finished();
    return all.slice(Math.max(0, all.length - count));
  }

  async prune(): Promise<void> {
    const all = await this.#finished();
    for (const isCompleted of [true, false]) {
      const some = all.filter((receipt) => (endOf(receipt) === 'Completed') === isCompleted);
      for (const { moveId } of some.slice(0, Math.max(0, some.length - this.kept))) await this.files.deleteFile(this.#file(moveId));
    }
  }

  async #finished(): Promise<readonly MoveReceipt[]> {
    const all: MoveReceipt[] = [];
    for (const name of await this.files.list(this.folder)) {
      if (!name.endsWith('.json')) continue;
      const receipt = await this.#read(path.basename(name, '.json'));
      if (typeof receipt === 'string') this.onMalformed(path.join(this.folder, name), receipt);
      else if (receipt?.finishedAt) all.push(receipt);
    }
    return all.sort((a, b) => (a.finishedAt! < b.finishedAt! ? -1 : 1));
  }

  #file(moveId: string): string {
    return path.join(this.folder, `${moveId}.json`);
  }
}

function ofPlan(plan: MovePlan, finishedAt: Date | null): Omit<MoveReceipt, 'kept' | 'status'> {
  return {
    schema: 1,
    moveId: plan.moveId,
    vmId: plan.vmId,
    vmName: plan.vmName,
    startedAt: plan.createdAt,
    finishedAt: finishedAt?.toISOString() ?? null,
    configurationSource: plan.configurationSource,
    configurationTarget: plan.configurationTarget,
    moved: plan.disks.map(({ source, target }) => ({ source, target })),
  };
}
