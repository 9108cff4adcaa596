/**
 * What an error says of the move it ended: the sentence, which disk and path it is about, what holds of the virtual machine and what to do.
 * One place for every phase; what is asked of a failure is in the host's hands only here.
 */
import * as path from 'node:path';
import { VmStorageError, type ErrorCode } from '../model/errors.js';
import type { DiskMove, MovePlan } from '../model/move.js';
import type { MoveFailure } from './receipts.js';

export function failureOf({ code, message, target }: VmStorageError, plan: MovePlan | undefined): MoveFailure {
  const at = target?.startsWith('/') ? target : null;
  return { code, message, disk: at === null ? null : (diskAt(at, plan)?.disk ?? null), path: at };
}

/** The disk that a path is a file of, or that alone is to be below it; a folder of several disks is about none of them. */
export function diskAt(at: string, plan: MovePlan | undefined): DiskMove | null {
  const disks = plan?.disks ?? [];
  const own = disks.find((one) => one.source === at || one.target === at);
  if (own) return own;
  const below = disks.filter((one) => one.target.startsWith(path.posix.join(at, '/')));
  return below.length === 1 ? below[0]! : null;
}

/** The worker says it of what it ends itself. */
const STAYS = 'The virtual machine stays on its source files.';

/** The error of a move that came to nothing before COMMITTED, for whoever asked for it: where the virtual machine is now, and what to do. */
export function onItsSource(error: VmStorageError, plan: MovePlan): VmStorageError {
  const isStop = error.code === 'OperationStopped';
  return new VmStorageError(error.code, error.message.includes(STAYS) ? error.message : `${error.message} ${STAYS}`, {
    ...contextOf(error),
    ...(isStop || error.recommendedAction !== undefined ? {} : { recommendedAction: whatToDo(error, plan) }),
    cause: error,
  });
}

/** What an error is about, for one that says more than it. */
export function contextOf({ target, recommendedAction }: VmStorageError): {
  readonly target?: string;
  readonly recommendedAction?: string;
} {
  return { ...(target === undefined ? {} : { target }), ...(recommendedAction === undefined ? {} : { recommendedAction }) };
}

/** Paths a message names; further ones are in the log. */
const NAMED_MAX = 4;

/** What a destination that hangs, or is away, still holds of a move that is over. */
export function whatIsLeft(paths: readonly string[]): string {
  const named = paths.slice(0, NAMED_MAX).map((at) => `'${at}'`);
  const more = paths.length > NAMED_MAX ? ` and ${paths.length - NAMED_MAX} more` : '';
  return `The destination could not be cleaned yet: ${named.join(', ')}${more} may still be there. The host deletes it as soon as it can, also after a restart.`;
}

const advice: { readonly [C in ErrorCode]?: string } = {
  AccessDenied: 'Check owner and mode, and whether the file system is mounted read-only; then move again.',
  VerificationFailed: 'Storage that does not give back what was written is not to be used: check it, and name another destination.',
  HostConnectionLost: 'The log of the storage worker says why it ended. Move again.',
  HostInternalError: 'The log of the host says more.',
};

function whatToDo({ code, target }: VmStorageError, plan: MovePlan): string {
  const at = target?.startsWith('/') ? target : null;
  const disk = at === null ? null : diskAt(at, plan);
  const atTheDestination = at !== null && disk !== null && disk.source !== at;
  if (code === 'NoSpace')
    return atTheDestination
      ? 'Free some space there, or name another destination.'
      : `Free some space on the file system${at === null ? '' : ` of '${at}'`}, then move again.`;
  if (code === 'StorageFailure')
    return atTheDestination
      ? "Check the destination's storage (the kernel's log may say more), or name another destination."
      : "Check the storage (the kernel's log may say more), then move again.";
  return advice[code] ?? 'Mend the cause, then move again: nothing was changed.';
}
