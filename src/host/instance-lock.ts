/**
 * Keeps a second host away from one instance's state: a lock (flock) on a file in the state folder, which the kernel frees when the process
 * ends, however it ends. It is in our own folder because of who else could take it: an abstract socket is anybody's to bind, and any user may
 * lock a file that he may open.
 */
import { constants } from 'node:fs';
import { lstat, open, type FileHandle } from 'node:fs/promises';
import type { Server } from 'node:net';
import { VmStorageError } from '../model/errors.js';
import { native } from '../native/binding.js';
import { errorCodeOf, hasCode, reasonOf } from '../os/errno.js';
import { ownUid } from '../os/own-folder.js';

export interface InstanceLock {
  release(): Promise<void>;
}

/** `file` is in a folder that was made by makeOwnFolder. Rejects with InvalidState when another host has the lock. */
export async function lockInstance(file: string, instance: string): Promise<InstanceLock> {
  for (;;) {
    const handle = await openLock(file);
    try {
      const { uid, ino } = await refuseForeign(handle, file);
      if (!native().lockDescriptor(handle.fd)) {
        throw new VmStorageError(
          'InvalidState',
          `Another host is already running for '${instance}'. Stop it first, or set VMSTORAGE_HOME to another folder.`,
          { target: instance },
        );
      }
      // A file that was removed meanwhile keeps nobody away.
      const there = await lstat(file).catch(() => null);
      if (there?.ino === ino && there.uid === uid) return { release: () => handle.close() };
    } catch (error) {
      await handle.close();
      throw error;
    }
    await handle.close();
  }
}

async function openLock(file: string): Promise<FileHandle> {
  const flags = constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  try {
    // NFS locks for writing only what is open for writing; a state folder that is read-only has to do without.
    return await open(file, flags | constants.O_RDWR, 0o600).catch((cause: unknown) => {
      if (hasCode(cause, 'EROFS')) return open(file, flags | constants.O_RDONLY);
      throw cause;
    });
  } catch (cause) {
    throw new VmStorageError(errorCodeOf(cause), `'${file}' cannot be opened: ${reasonOf(cause)}.`, { target: file, cause });
  }
}

async function refuseForeign(handle: FileHandle, file: string): Promise<{ readonly uid: number; readonly ino: number }> {
  const found = await handle.stat();
  if (found.isFile() && found.uid === ownUid()) return found;
  throw new VmStorageError('AccessDenied', `'${file}' is not a file of user ${ownUid()}. Delete it while no host is running.`, {
    target: file,
  });
}

export function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, () => {
      server.off('error', reject);
      resolve();
    });
  });
}
