/** Listens on the host's sockets (doors.ts). A stale socket is removed only after a connection to it was refused, under the instance lock. */
import { chmod, chown, rm } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { VmStorageError } from '../model/errors.js';
import { hasCode, reasonOf } from '../os/errno.js';
import type { Log } from '../os/log.js';
import { ownUid } from '../os/own-folder.js';
import { Connection, type ConnectionOptions } from './connection.js';
import type { Door } from './doors.js';
import { listen } from './instance-lock.js';

/** For the last words of handlers that fail because the host ends. One that does not listen to its signal is not waited for longer. */
const LAST_WORD_LIMIT_MS = 1_000;

export interface HostServer {
  /** Stops accepting and closes all connections; handlers that do not depend on their client go on. */
  close(): Promise<void>;
}

export async function serve(doors: readonly Door[], options: ConnectionOptions): Promise<HostServer> {
  const connections = new Map<Socket, Connection>();
  const acceptAt = ({ path, connectionsMost }: Door): ((socket: Socket) => void) => {
    let open = 0;
    return (socket) => {
      if (open >= connectionsMost) {
        options.log.warn({ path, connections: open }, 'a connection was refused: too many');
        socket.destroy();
        return;
      }
      open += 1;
      connections.set(socket, new Connection(socket, options));
      socket.on('close', () => {
        open -= 1;
        connections.delete(socket);
      });
    };
  };
  const servers: Server[] = [];
  for (const door of doors) servers.push(await openDoor(door, acceptAt(door), options.log));
  return {
    async close() {
      // Removes the sockets' files too.
      const closed = Promise.all(servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve()))));
      for (const connection of connections.values()) connection.end();
      const late = setTimeout(() => {
        for (const socket of connections.keys()) socket.destroy();
      }, LAST_WORD_LIMIT_MS);
      await closed;
      clearTimeout(late);
    },
  };
}

async function openDoor({ path, group }: Door, accept: (socket: Socket) => void, log: Log): Promise<Server> {
  await removeStale(path);
  const server = createServer(accept);
  await listen(server, path);
  await chmod(path, 0o600);
  if (group !== null) {
    try {
      await chown(path, ownUid(), group.gid);
      await chmod(path, 0o660);
    } catch (cause) {
      log.error({ path, group, reason: reasonOf(cause) }, 'a socket could not be opened to its group');
    }
  }
  server.on('error', (error) => log.error({ reason: error.message }, 'accepting a connection failed')); // EMFILE: the next may succeed
  return server;
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
