/**
 * The sockets on which the host is asked, and the folder they are in: open to whom the roles name, by owner and mode, so that the kernel keeps
 * everybody else away. A socket has one group, so each role has its own; what a client may do is decided by its process, whichever it came by.
 *
 * ```text
 * folder   0700 nobody else     0710 of the one group     0711 where there are two: entered by name, never listed
 * host.sock 0660 of the administrators, else 0600         host-read.sock 0660 of the readers, else not there
 * ```
 */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { readerSocketBeside, type Role } from '../model/roles.js';
import { reasonOf } from '../os/errno.js';
import type { Log } from '../os/log.js';
import { ownUid } from '../os/own-folder.js';
import type { RoleGroup, Roles } from './roles.js';

/** Each is one running cmdlet; 50 parallel PowerShell runspaces are the most that was ever seen. Readers have their own: they keep no administrator out. */
export const CONNECTIONS_MOST = { administrator: 512, reader: 128 } as const satisfies Record<Role, number>;

export interface Door {
  readonly path: string;
  readonly connectionsMost: number;
  /** Who beside the owner may connect. */
  readonly group: RoleGroup | null;
}

export function doorsOf(hostSocket: string, { groups }: Roles): readonly Door[] {
  const forReaders = readerSocketBeside(hostSocket);
  return [
    { path: hostSocket, group: groups.administrator, connectionsMost: CONNECTIONS_MOST.administrator },
    ...(groups.reader !== null && forReaders !== null
      ? [{ path: forReaders, group: groups.reader, connectionsMost: CONNECTIONS_MOST.reader }]
      : []),
  ];
}

/** A folder that cannot be opened to a group (it is not ours to give away) stays shut, and that is logged: machines need a host all the same. */
export async function openFolder(hostSocket: string, { groups }: Roles, log: Log): Promise<void> {
  const folder = dirname(hostSocket);
  const wanted = Object.values(groups).filter((group) => group !== null);
  const one = new Set(wanted.map(({ gid }) => gid)).size === 1 ? wanted[0]! : null;
  const handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    if (one) await handle.chown(ownUid(), one.gid);
    await handle.chmod(one ? 0o710 : wanted.length > 0 ? 0o711 : 0o700);
  } catch (cause) {
    log.error({ folder, groups, reason: reasonOf(cause) }, 'the folder of the socket could not be opened to its group');
    await handle.chmod(0o700);
  } finally {
    await handle.close();
  }
}
