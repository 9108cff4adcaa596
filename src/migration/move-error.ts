/** What the operating system refuses in the course of a move, as errors of ours: which path, and why, in words instead of Node's. */
import { VmStorageError, type ErrorCode } from '../model/errors.js';
import { hasCode, reasonOf } from '../os/files.js';

export function asMoveError(cause: unknown): VmStorageError {
  if (cause instanceof VmStorageError) return cause;
  if (!isOfSystem(cause)) {
    return new VmStorageError('HostInternalError', cause instanceof Error ? cause.message : String(cause), { cause });
  }
  const at = 'path' in cause && typeof cause.path === 'string' ? `'${cause.path}': ` : '';
  return new VmStorageError(codeFor(cause), `${at}${reasonOf(cause)}`, { cause });
}

export function folderNotMade(folder: string, cause: unknown): VmStorageError {
  return new VmStorageError(codeFor(cause), `The destination folder '${folder}' cannot be made: ${whyNotMade(cause)}.`, {
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

function codeFor(cause: unknown): ErrorCode {
  if (hasCode(cause, 'ENOSPC', 'EDQUOT')) return 'NoSpace';
  return hasCode(cause, 'EACCES', 'EPERM', 'EROFS') ? 'AccessDenied' : 'StorageFailure';
}

function isOfSystem(cause: unknown): cause is Error {
  return cause instanceof Error && 'code' in cause && cause.code !== '';
}
