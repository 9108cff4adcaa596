/**
 * Interrupted moves between the start of the host and the word of their worker: each is shown as a job, can be stopped, and keeps its paths
 * and its room from others, but what its work is comes once the journal has been told.
 */
import type { MoveStatus } from '../model/move.js';
import type { Work } from '../jobs/queue.js';
import type { Claims } from './claims.js';
import type { MoveReceipt } from './receipts.js';

export type MoveWork = Work<MoveStatus, MoveReceipt>;

interface Expected {
  readonly vmId: string;
  readonly claims: Claims;
  readonly begin: (work: MoveWork) => void;
}

export class Awaited {
  readonly #moves = new Map<string, Expected>();

  /** Resolves with the move's work. */
  expect(moveId: string, vmId: string, claims: Claims): Promise<MoveWork> {
    return new Promise((begin) => this.#moves.set(moveId, { vmId, claims, begin }));
  }

  has(moveId: string): boolean {
    return this.#moves.has(moveId);
  }

  /** Those that are still expected of a VM. */
  of(vmId: string): readonly string[] {
    return [...this.#moves].filter(([, move]) => move.vmId === vmId).map(([moveId]) => moveId);
  }

  /** For whoever claims for the move from here on, without an await in between. */
  giveBack(moveId: string): void {
    this.#moves.get(moveId)?.claims.release();
  }

  /** False when it was not, or is no longer, expected. */
  begin(moveId: string, work: MoveWork): boolean {
    const move = this.#moves.get(moveId);
    this.#moves.delete(moveId);
    move?.begin(work);
    return move !== undefined;
  }
}
