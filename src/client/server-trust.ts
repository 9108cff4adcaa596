/**
 * Whom a client speaks to: what it asks may hold secrets of its user, and what it is told is believed. Anybody may put a socket where a
 * variable or a habit leads; the kernel says whose process listens there.
 */
import type { Socket } from 'node:net';
import { VmStorageError } from '../model/errors.js';
import { native, type NativePeer } from '../native/binding.js';
import { socketPeer } from '../native/socket-peer.js';
import { administratorsGroup, GROUP_VARIABLES } from '../model/roles.js';

/** The process that listens. Rejects (AccessDenied) unless it is root's, our own user's, or of one who may administer virtual machines anyway. */
export async function trustedServer(socket: Socket, address: string): Promise<NativePeer> {
  const server = socketPeer(socket);
  if (server === null) throw new VmStorageError('HostConnectionLost', `The connection to the VM storage host at '${address}' was lost.`);
  if (server.uid === 0 || server.uid === process.geteuid!()) return server;
  const name = administratorsGroup(process.env);
  const group = name === null ? null : await native().groupId(name);
  if (group !== null && (server.gid === group || server.groups.includes(group))) return server;
  throw new VmStorageError(
    'AccessDenied',
    `The VM storage host at '${address}' is a process (${server.pid}) of user ${server.uid}, to whom nothing is told: it is neither root's nor yours` +
      `${group === null ? '' : `, nor of the group '${name}'`}. Check VMSTORAGE_HOST and VMSTORAGE_HOME; ${GROUP_VARIABLES.administrator} names the group of administrators where it has another name.`,
    { target: address },
  );
}
