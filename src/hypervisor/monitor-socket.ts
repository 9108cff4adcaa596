/**
 * The socket of QEMU's monitor. The host makes it and QEMU inherits it, listening: so it is the host's (0600), in a folder QEMU cannot write to.
 */
import { chmod, rename, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { VmStorageError } from '../model/errors.js';

export interface ListeningSocket {
  readonly descriptor: number;
  /** Of the host's copy; the name stays. */
  close(): Promise<void>;
}

export async function listenPrivately(path: string): Promise<ListeningSocket> {
  // Node removes the name it has bound when it closes its copy: so the name is another one by then.
  const temporary = `${path}~`;
  await rm(temporary, { force: true });
  const server: Server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(temporary, resolve);
  });
  const close = (): Promise<void> => new Promise((resolve) => server.close(() => resolve()));
  try {
    await chmod(temporary, 0o600);
    await rename(temporary, path);
    return { descriptor: descriptorOf(server), close };
  } catch (error) {
    await close();
    throw error;
  }
}

function descriptorOf(server: Server): number {
  // Not documented, and as old as Node: docs/assumptions.md.
  const descriptor = (Reflect.get(server, '_handle') as { readonly fd?: number } | null | undefined)?.fd;
  if (descriptor === undefined || descriptor < 0)
    throw new VmStorageError('HostInternalError', 'This Node does not say which descriptor a socket has.');
  return descriptor;
}
