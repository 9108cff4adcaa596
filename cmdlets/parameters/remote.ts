/**
 * -CimSession, -ComputerName and -Credential. -ComputerName accepts the local host in any spelling (the host judges); the other two
 * are there and refused: a CimSession cannot be made on Linux, and there is no remote host to log on to yet.
 */
import { parameter, t, type Placements } from '../define.js';

export const cimSession = (sets?: Placements) =>
  parameter(t.array(t.cimSession), {
    help: 'A CIM session with another host. Not implemented.',
    ...(sets && { sets }),
    validate: ['notNullOrEmpty'],
    notImplemented: true,
  });

export const computerName = (sets?: Placements, aliases: readonly string[] = []) =>
  parameter(t.array(t.string), {
    help: 'The host. Only the local one can be named, in any spelling.',
    ...(sets && { sets }),
    aliases,
    validate: ['notNullOrEmpty'],
  });

export const credential = (sets?: Placements) =>
  parameter(t.array(t.credential), {
    help: 'Credentials for another host. Not implemented.',
    ...(sets && { sets }),
    validate: ['notNullOrEmpty'],
    notImplemented: true,
  });

/** All three, in the same sets, without flags. */
export const remote = (sets?: Placements) => ({
  CimSession: cimSession(sets),
  ComputerName: computerName(sets),
  Credential: credential(sets),
});
