/** Who is at the other end of one of Node's sockets, as the kernel knows it. */
import type { Socket } from 'node:net';
import { native, type NativePeer } from './binding.js';

/** Null when the connection is over. Throws when the addon cannot be loaded. */
export function socketPeer(socket: Socket): NativePeer | null {
  // Not documented, and as old as Node: there is no other way to a socket's descriptor.
  const descriptor = (Reflect.get(socket, '_handle') as { readonly fd?: number } | null | undefined)?.fd;
  return descriptor === undefined || descriptor < 0 ? null : native().peerOf(descriptor);
}
