/** Who asks: the user and the process at the other end of a client's socket, as the kernel knows them (SO_PEERCRED). For the audit lines. */
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { native } from '../native/binding.js';
import { socketPeer } from '../native/socket-peer.js';

export interface Peer {
  readonly uid: number;
  /** Null when the user database has no name for it. */
  readonly user: string | null;
  readonly pid: number;
  /** Name of the process when it was asked, or null if it was gone. */
  readonly program: string | null;
}

/** Null when it cannot be said: the connection is over, or the addon cannot be loaded. Never rejects. */
export async function peerOf(socket: Socket): Promise<Peer | null> {
  try {
    const peer = socketPeer(socket);
    if (peer === null) return null;
    const { pid, uid } = peer;
    return { uid, user: await native().userName(uid), pid, program: programOf(pid) };
  } catch {
    return null;
  }
}

function programOf(pid: number): string | null {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return null;
  }
}
