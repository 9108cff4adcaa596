/**
 * Keeps a second host away from one instance's state: an abstract socket, which the kernel binds to one process only and frees when that
 * process ends, however it ends. Its name holds a secret of the state folder, so that other users can neither see nor take it.
 */
import { randomBytes } from 'node:crypto';
import { createServer, type Server } from 'node:net';
import { VmStorageError } from '../model/errors.js';
import { errorCodeOf, hasCode, reasonOf } from '../os/errno.js';
import { systemFiles } from '../os/files.js';

export interface InstanceLock {
  release(): Promise<void>;
}

export async function lockInstance(tokenFile: string, instance: string): Promise<InstanceLock> {
  const name = `\0vmstorage-${await token(tokenFile)}`;
  const server = createServer((socket) => socket.destroy());
  try {
    await listen(server, name);
  } catch (error) {
    if (!hasCode(error, 'EADDRINUSE')) throw error;
    throw new VmStorageError(
      'InvalidState',
      `Another host is already running for '${instance}'. Stop it first, or set VMSTORAGE_HOME to another folder.`,
      { target: instance },
    );
  }
  return { release: () => new Promise((resolve) => server.close(() => resolve())) };
}

/** Read first: a host whose state folder has no room left starts all the same. */
async function token(file: string): Promise<string> {
  const text = (await present(file)) ?? (await make(file));
  if (!/^[0-9a-f]{32}$/.test(text))
    throw new VmStorageError('ImageCorrupt', `'${file}' does not hold 32 hexadecimal digits. Delete it while no host is running.`);
  return text;
}

async function present(file: string): Promise<string | null> {
  try {
    return (await systemFiles.readText(file)).trim();
  } catch (cause) {
    if (hasCode(cause, 'ENOENT')) return null;
    throw new VmStorageError(errorCodeOf(cause), `'${file}' cannot be read: ${reasonOf(cause)}.`, { target: file, cause });
  }
}

async function make(file: string): Promise<string> {
  try {
    await systemFiles.createExclusively(file, randomBytes(16).toString('hex'));
  } catch (cause) {
    if (!hasCode(cause, 'EEXIST'))
      throw new VmStorageError(errorCodeOf(cause), `'${file}' cannot be written: ${reasonOf(cause)}.`, { target: file, cause });
  }
  return (await systemFiles.readText(file)).trim();
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
