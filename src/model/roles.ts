/**
 * Who may ask the host for what, by the groups of the system.
 *
 * | role | what | who |
 * | --- | --- | --- |
 * | administrator | everything the host can do: with root's rights, if it runs as root | the user it runs as, root, members of one group |
 * | reader | what changes nothing: Get-, Measure-, Test-, and -WhatIf of the rest | members of another group |
 */
export type Role = 'administrator' | 'reader';

/** Default names, for the host of the system alone: an instance in a folder of its own is its user's unless he names groups. */
const DEFAULTS = { administrator: 'vmstorage', reader: 'vmstorage-readers' } as const satisfies Record<Role, string>;
export const GROUP_VARIABLES = { administrator: 'VMSTORAGE_ADMINISTRATORS', reader: 'VMSTORAGE_READERS' } as const satisfies Record<
  Role,
  string
>;

type Environment = { readonly [name: string]: string | undefined };

/** The group that has a role, or null: none. An empty variable says so too. */
export function groupOf(role: Role, environment: Environment): string | null {
  const named = environment[GROUP_VARIABLES[role]];
  if (named !== undefined) return named === '' ? null : named;
  return environment['VMSTORAGE_HOME'] ? null : DEFAULTS[role];
}

/** True when the name was given, and is not only the one to look for. */
export const isGroupNamed = (role: Role, environment: Environment): boolean => Boolean(environment[GROUP_VARIABLES[role]]);

export const administratorsGroup = (environment: Environment): string | null => groupOf('administrator', environment);

/** Where readers connect, beside the socket of the administrators (src/host/doors.ts); null for a socket of another name. */
export function readerSocketBeside(hostSocket: string): string | null {
  return hostSocket.endsWith('/host.sock') ? hostSocket.replace(/host\.sock$/, 'host-read.sock') : null;
}
