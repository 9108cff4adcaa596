/** What the operating system refuses in the course of a move, as errors of ours: which path, and why, in words instead of Node's. */
import { VmStorageError } from '../model/errors.js';
import type { MovePlan } from '../model/move.js';
import { diskAt } from './failure.js';
import { errnoOf, errorCodeOf, hasCode, reasonOf } from '../os/errno.js';

export function asMoveError(cause: unknown): VmStorageError {
  if (cause instanceof VmStorageError) return cause;
  if (errnoOf(cause) === null) {
    return new VmStorageError('HostInternalError', cause instanceof Error ? cause.message : String(cause), { cause });
  }
  const at = cause instanceof Error && 'path' in cause && typeof cause.path === 'string' ? cause.path : null;
  const message = at === null ? `${reasonOf(cause)}.` : `'${at}': ${reasonOf(cause)}.`;
  return new VmStorageError(errorCodeOf(cause), message, { ...(at === null ? {} : { target: at }), cause });
}

/** What the system refused becomes a refusal of ours; a bug stays what it is, so that the host logs where it came from. */
export function ofTheSystem(cause: unknown): unknown {
  return errnoOf(cause) === null ? cause : asMoveError(cause);
}

/** A question to the file system that failed is a refusal with the path in it, not an internal error. */
export function notLookedAt(at: string, cause: unknown): VmStorageError {
  return new VmStorageError(errorCodeOf(cause), `'${at}' cannot be looked at: ${reasonOf(cause)}.`, { target: at, cause });
}

export function notTakenUp(moveId: string, cause: unknown): VmStorageError {
  const { code, message } = asMoveError(cause);
  return new VmStorageError(
    code,
    `The interrupted move ${moveId} could not be taken up: ${message} The next start of the host tries again.`,
    {
      cause,
    },
  );
}

/** What the worker refused when it was handed the move; it leaves nothing behind. */
export function notBegun(cause: unknown, plan: MovePlan): VmStorageError {
  const error = asMoveError(cause);
  const disk = error.target === undefined ? null : diskAt(error.target, plan);
  if (disk === null) return error;
  const what =
    disk.source === error.target ? `The source of disk ${disk.disk} cannot be used` : `The destination of disk ${disk.disk} cannot be made`;
  return new VmStorageError(error.code, `${what}: ${error.message}`, { target: error.target!, cause: error });
}

export function folderNotMade(folder: string, given: unknown): VmStorageError {
  if (given instanceof VmStorageError && given.code === 'UnsafeFolder') return given;
  const cause = given instanceof VmStorageError && errnoOf(given.cause) !== null ? given.cause : given;
  return new VmStorageError(errorCodeOf(cause), `The destination folder '${folder}' cannot be made: ${whyNotMade(cause)}.`, {
    target: folder,
    recommendedAction: 'Name a destination on a file system where this host may make folders.',
    cause,
  });
}

/** The folder above was there a moment ago, which makes the system's own words for these two a riddle. */
function whyNotMade(cause: unknown): string {
  if (hasCode(cause, 'ENOENT')) return 'the folder above it is gone, or belongs to a file system that takes no folders, as /proc does';
  if (hasCode(cause, 'ENOTDIR')) return 'what is above it is not a folder any more';
  return reasonOf(cause);
}
