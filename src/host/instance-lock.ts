/**
 * Keeps a second host away from one instance's state: an abstract socket, which the kernel binds to one process only and frees when that
 * process ends, however it ends. Its name holds a secret of the state folder, so that other users can neither see nor take it.
 */
import { randomBytes } from 'node:crypto';
import { createServer, type Server } from 'node:net';
import { VmStorageError } from '../model/errors.js';
import { hasCode } from '../os/errno.js';
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

async function token(file: string): Promise<string> {
  try {
    await systemFiles.createExclusively(file, randomBytes(16).toString('hex'));
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error;
  }
  const text = (await systemFiles.readText(file)).trim();
  if (!/^[0-9a-f]{32}$/.test(text))
    throw new VmStorageError('ImageCorrupt', `'${file}' does not hold 32 hexadecimal digits. Delete it while no host is running.`);
  return text;
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
