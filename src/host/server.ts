/** Listens on host.sock. A stale socket is removed only after a connection to it was refused, under the instance lock. */
import { chmod, rm } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { VmStorageError } from '../model/errors.js';
import { hasCode } from '../os/errno.js';
import { Connection, type ConnectionOptions } from './connection.js';
import { listen } from './instance-lock.js';

/** Each is one running cmdlet; 50 parallel PowerShell runspaces are the most that was ever seen. */
export const CONNECTIONS_MAX = 512;

/** For the last words of handlers that fail because the host ends. One that does not listen to its signal is not waited for longer. */
const LAST_WORD_LIMIT_MS = 1_000;

export interface HostServer {
  /** Stops accepting and closes all connections; handlers that do not depend on their client go on. */
  close(): Promise<void>;
}

export async function serve(socketPath: string, options: ConnectionOptions): Promise<HostServer> {
  await removeStale(socketPath);
  const connections = new Map<Socket, Connection>();
  const server = createServer((socket) => {
    if (connections.size >= CONNECTIONS_MAX) {
      options.log.warn({ connections: connections.size }, 'a connection was refused: too many');
      socket.destroy();
      return;
    }
    connections.set(socket, new Connection(socket, options));
    socket.on('close', () => connections.delete(socket));
  });
  await listen(server, socketPath);
  await chmod(socketPath, 0o600);
  server.on('error', (error) => options.log.error({ reason: error.message }, 'accepting a connection failed')); // EMFILE: the next may succeed
  return {
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve())); // removes the socket file too
      for (const connection of connections.values()) connection.end();
      const late = setTimeout(() => {
        for (const socket of connections.keys()) socket.destroy();
      }, LAST_WORD_LIMIT_MS);
      await closed;
      clearTimeout(late);
    },
  };
}

async function removeStale(path: string): Promise<void> {
  const answer = await new Promise<'listening' | 'stale' | 'missing'>((resolve, reject) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve('listening');
    });
    probe.once('error', (error) => {
      if (hasCode(error, 'ENOENT')) resolve('missing');
      else if (hasCode(error, 'ECONNREFUSED')) resolve('stale');
      else reject(error);
    });
  });
  if (answer === 'listening')
    throw new VmStorageError(
      'InvalidState',
      `Another process listens on '${path}'. Stop it first, or set VMSTORAGE_HOME to another folder.`,
      { target: path },
    );
  if (answer === 'stale') await rm(path);
}
