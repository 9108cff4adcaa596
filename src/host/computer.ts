/** The names of this machine: what ComputerName says, and what -ComputerName may say. */
import { hostname } from 'node:os';
import { VmStorageError } from '../model/errors.js';
import type { WireValue } from '../protocol/messages.js';

/** As a Windows script would spell it: without the domain. */
export const computerName = (): string => hostname().split('.')[0]!;

const localNames = (): ReadonlySet<string> =>
  new Set(['.', 'localhost', '127.0.0.1', '::1', hostname().toLowerCase(), computerName().toLowerCase()]);

/** -ComputerName in any spelling of this machine is this machine; any other is refused. */
export function refuseRemote(bound: { readonly [name: string]: WireValue }): void {
  const given = bound['ComputerName'];
  if (given === undefined || given === null) return;
  for (const name of Array.isArray(given) ? given : [given]) {
    if (localNames().has(String(name).toLowerCase())) continue;
    throw new VmStorageError(
      'HostNotReachable',
      `Cannot connect to the host "${String(name)}": this host manages itself only. Leave -ComputerName out, or name "${computerName()}".`,
      {
        target: String(name),
        category: 'ResourceUnavailable',
      },
    );
  }
}
