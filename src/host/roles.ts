/**
 * Which role a client has: by the groups of its process as they were when it connected (SO_PEERCRED, SO_PEERGROUPS), which is what the kernel
 * goes by for everything else. The group database is not asked for members: it says what somebody's next session will have, so it would let in
 * a process that has put the group down, and refuse one that was given it (a unit's SupplementaryGroups=, newgrp). Who is taken out of a group
 * keeps it until his sessions end, as everywhere in Linux.
 */
import { VmStorageError } from '../model/errors.js';
import { GROUP_VARIABLES, groupOf, isGroupNamed, type Role } from '../model/roles.js';
import { native, type NativePeer } from '../native/binding.js';
import { reasonOf } from '../os/errno.js';
import type { Log } from '../os/log.js';
import { ownUid } from '../os/own-folder.js';
import type { Peer } from './peer.js';

export interface RoleGroup {
  readonly name: string;
  readonly gid: number;
}

export class Roles {
  constructor(readonly groups: { readonly [R in Role]: RoleGroup | null }) {}

  /** Null: nothing is told to him. */
  of(peer: NativePeer): Role | null {
    const isIn = (group: RoleGroup | null): boolean => group !== null && (peer.gid === group.gid || peer.groups.includes(group.gid));
    if (peer.uid === 0 || peer.uid === ownUid() || isIn(this.groups.administrator)) return 'administrator';
    return isIn(this.groups.reader) ? 'reader' : null;
  }

  /** Why a client may not do this, and what has to be done that it may. */
  refusal(what: string, needed: Role, peer: Peer | null): VmStorageError {
    const who = peer === null ? 'a user who is not known' : `user ${peer.user === null ? peer.uid : `'${peer.user}' (${peer.uid})`}`;
    const group = this.groups[needed];
    const how =
      group === null
        ? `There is no group of ${needed}s here: name one with ${GROUP_VARIABLES[needed]} in the environment of the host, and start it again.`
        : `An administrator of the system adds the user to the group: usermod --append --groups ${group.name} ${peer?.user ?? 'NAME'}. It holds from the next login on.`;
    return new VmStorageError(
      'AccessDenied',
      `You do not have the required permission: ${what} needs the role of ${needed === 'administrator' ? 'an administrator' : 'a reader'}, which ` +
        `root, the user who runs the host (${ownUid()})${group === null ? '' : ` and members of the group '${group.name}'`} have, and ${who} has not. ${how}`,
      { target: what },
    );
  }
}

/** Of an instance that is its user's alone. */
export const noRoles = new Roles({ administrator: null, reader: null });

/** The groups by name, as they are now: one that is made later counts from the next start of the host on. */
export async function readRoles(environment: { readonly [name: string]: string | undefined }, log: Log): Promise<Roles> {
  const read = async (role: Role): Promise<RoleGroup | null> => {
    const name = groupOf(role, environment);
    if (name === null) return null;
    try {
      const gid = await native().groupId(name);
      if (gid !== null) return { name, gid };
      // A default that is not there is nobody's mistake.
      if (isGroupNamed(role, environment)) log.error({ role, group: name }, 'there is no such group: nobody has the role by it');
    } catch (cause) {
      log.error({ role, group: name, reason: reasonOf(cause) }, 'a group could not be looked up: nobody has the role by it');
    }
    return null;
  };
  return new Roles({ administrator: await read('administrator'), reader: await read('reader') });
}
