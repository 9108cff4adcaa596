/** What an error says of the move it ended: the sentence, and which disk and path it is about, where it is about one. */
import type { VmStorageError } from '../model/errors.js';
import type { MovePlan } from '../model/move.js';
import type { MoveFailure } from './receipts.js';

export function failureOf({ code, message, target }: VmStorageError, plan: MovePlan | undefined): MoveFailure {
  const path = target?.startsWith('/') ? target : null;
  const disk = plan?.disks.find((one) => one.source === path || one.target === path)?.disk ?? null;
  return { code, message, disk, path };
}
