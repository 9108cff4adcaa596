/**
 * What the operating system refuses: which errno it is, in words, and as a code of ours. The engine says the same of its own files in
 * native/engine/src/disk/error.rs.
 */
import type { ErrorCode } from '../model/errors.js';

/** Not here: ENOENT and ENOTDIR. What is missing may be what was asked for, or the ground under a write; only the caller knows which. */
const codes: { readonly [errno: string]: ErrorCode } = {
  EEXIST: 'AlreadyExists',
  ENOSPC: 'NoSpace',
  EDQUOT: 'NoSpace',
  EACCES: 'AccessDenied',
  EPERM: 'AccessDenied',
  EROFS: 'AccessDenied',
};

/** What storage says on Linux and libuv has no name for: Node then makes both code and text of it "Unknown system error -122". */
const unnamed = new Map<unknown, { readonly name: string; readonly words: string }>([
  [-74, { name: 'EBADMSG', words: 'the file system found damaged metadata' }],
  [-116, { name: 'ESTALE', words: 'stale file handle' }],
  [-117, { name: 'EUCLEAN', words: 'the file system needs to be repaired' }],
  [-122, { name: 'EDQUOT', words: 'disk quota exceeded' }],
  [-123, { name: 'ENOMEDIUM', words: 'no medium in the drive' }],
]);

/** What the operating system said, as a code of ours: without a line of its own, the storage's failure; not of the system, a bug of ours. */
export function errorCodeOf(cause: unknown): ErrorCode {
  const errno = errnoOf(cause);
  return errno === null ? 'HostInternalError' : (codes[errno] ?? 'StorageFailure');
}

/** Its name, or its number where even we have none; null when the error is not of the operating system (Node's own are called ERR_...). */
export function errnoOf(error: unknown): string | null {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return null;
  const known = unnamed.get('errno' in error ? error.errno : undefined);
  if (known) return known.name;
  return /^E[A-Z0-9]+$/.test(error.code) ? error.code : (/^Unknown system error -(\d+)$/.exec(error.code)?.[1] ?? null);
}

/** True when `error` is of the operating system and has one of the codes. */
export function hasCode(error: unknown, ...names: string[]): boolean {
  const name = errnoOf(error);
  return name !== null && names.includes(name);
}

/** True when a write was refused for want of room, or of a file system that takes writes: it may succeed later, and nothing is broken. */
export function isRefusedWrite(error: unknown): boolean {
  return hasCode(error, 'ENOSPC', 'EDQUOT', 'EROFS');
}

/** The words of the operating system without Node's syscall noise: "no such file or directory". */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const words = unnamed.get('errno' in error ? error.errno : undefined)?.words;
  if (words !== undefined) return words;
  const match = /^(?:E[A-Z0-9]+|Unknown system error -\d+): (.*?), /.exec(error.message);
  return match?.[1] ?? error.message;
}
