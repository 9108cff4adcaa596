/**
 * Where the host listens; the module's HostAddress.cs has the same rule.
 *
 * ```text
 * VMSTORAGE_HOST   a socket, as it is
 * VMSTORAGE_HOME   host.sock in that folder
 * otherwise        /run/vmstorage/host.sock
 * ```
 */
import { join } from 'node:path';
import { VmStorageError } from '../model/errors.js';

/** Bytes of sun_path without its final zero. Node would listen on a truncated name without a word. */
export const maxSocketPathBytes = 107;

export function hostAddress(environment: NodeJS.ProcessEnv = process.env): string {
  const address =
    environment['VMSTORAGE_HOST'] ||
    (environment['VMSTORAGE_HOME'] ? join(environment['VMSTORAGE_HOME'], 'host.sock') : '/run/vmstorage/host.sock');
  if (Buffer.byteLength(address) > maxSocketPathBytes) {
    throw new VmStorageError(
      'HostNotReachable',
      `The socket of the VM storage host, '${address}', has a path longer than ${maxSocketPathBytes} bytes, which no socket can have. ` +
        'Use a shorter VMSTORAGE_HOME or VMSTORAGE_HOST.',
      { target: address },
    );
  }
  return address;
}
