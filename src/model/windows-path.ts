/** Paths as Windows spells them, and the one sentence that refuses them wherever a path is taken. */
import { VmStorageError } from './errors.js';

/**
 * `D:\x`, `D:x`, `\\server\share`, `//server/share`, and any path with a backslash. A file of this host may have such a name; to make one
 * of it in silence is worse than to refuse it.
 */
export function isWindowsPath(text: string): boolean {
  return /^[A-Za-z]:/.test(text) || text.includes('\\') || /^\/\/[^/]/.test(text);
}

/** `what` is the parameter, with its dash. */
export function refuseWindowsPath(text: string, what: string): void {
  if (!isWindowsPath(text)) return;
  throw new VmStorageError(
    'NotImplemented',
    `${what} '${text}' is a Windows path. Drives and shares are not mapped to folders yet; give the path as this host names it, such as /srv/disks/web01.vhdx. Nothing was changed.`,
    { target: text },
  );
}
