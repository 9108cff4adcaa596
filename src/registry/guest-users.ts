/**
 * `guest-users.json`: which user each VM's QEMU runs as. A number alone, without an entry in the user database: nobody can log in as it, and
 * no file is ever its own, so it may be given to another VM once its VM is gone (docs/security.md, "QEMU and the worker").
 *
 * A VM begins to look at a number made of its id, and takes the first that is free: so two instances on one machine, which do not know of each
 * other, look at different ones. One that a process of somebody else has when the VM is started is given up for another.
 */
import { Type, type Static } from 'typebox';
import { Compile } from 'typebox/compile';
import { VmStorageError } from '../model/errors.js';
import { errorCodeOf, hasCode, reasonOf } from '../os/errno.js';
import type { Files } from '../os/files.js';
import type { Log } from '../os/log.js';
import type { InstancePaths } from '../os/paths.js';
import type { IdRange } from '../os/privileges.js';

/**
 * Not users of people or services (up to 65,535), not systemd's DynamicUser (61,184 to 65,519) or its containers (524,288 to 1,879,048,191),
 * not what useradd gives to containers (100,000 to 600,100,000), not what SSSD, FreeIPA and Winbind make of directories (up to
 * 2,000,200,000), and below systemd's foreign users (2,147,352,576).
 */
export const GUEST_USERS_DEFAULT: IdRange = { first: 2_100_000_000, count: 65_536 };

/** Users of people and services begin there; below are the system's own. */
const LEAST = 1000;
/** 2^32 - 1 is nobody (-1). */
const MOST = 2 ** 32 - 2;

/** `first-last` of VMSTORAGE_GUEST_USERS, or the default where it says nothing. Throws InvalidParameter. */
export function guestUserRange(text: string | undefined): IdRange {
  if (!text) return GUEST_USERS_DEFAULT;
  const [first, last] = /^(\d{1,10})-(\d{1,10})$/.exec(text)?.slice(1).map(Number) ?? [];
  if (first === undefined || last === undefined || first < LEAST || last < first || last > MOST) {
    throw new VmStorageError(
      'InvalidParameter',
      `VMSTORAGE_GUEST_USERS is '${text}'; it is the first and the last number of users that QEMU may run as, as in 2100000000-2100065535, from ${LEAST} to ${MOST}.`,
      { target: 'VMSTORAGE_GUEST_USERS' },
    );
  }
  return { first, count: last - first + 1 };
}

const file = Type.Object(
  {
    schema: Type.Literal(1),
    users: Type.Record(Type.String({ pattern: '^[0-9a-f-]{36}$' }), Type.Integer({ minimum: 1, maximum: 2 ** 32 - 2 }), {
      maxProperties: 100_000,
    }),
  },
  { additionalProperties: false },
);
const check = Compile(file);

export interface GuestUserPorts {
  readonly files: Files;
  readonly log: Log;
  readonly range: () => IdRange;
  /** Why no process can be given another user here, or null. */
  readonly whyNot: (range: IdRange) => string | null;
  /** Who has a number, whoever it is: an entry of a user or group database, a range of subordinate ids, a live process. Null: nobody. */
  readonly holder: (uid: number) => Promise<string | null>;
  /** Ids of the VMs there are. */
  readonly vmIds: () => readonly string[];
}

export interface GuestUserRegistry {
  of(vmId: string): number | null;
  /** For a VM that is off. */
  assign(vmId: string): Promise<number | null>;
  includes(uid: number): boolean;
}

export async function openGuestUsers(paths: InstancePaths, ports: GuestUserPorts): Promise<GuestUserRegistry> {
  const users = await read(paths.guestUsersFile, ports);
  let last: Promise<unknown> = Promise.resolve();
  return {
    of: (vmId) => (ports.whyNot(ports.range()) === null ? (users.get(vmId) ?? null) : null),
    // A range that was changed leaves guests that run where they are.
    includes: (uid) => inRange(uid, ports.range()) || [...users.values()].includes(uid),
    assign(vmId) {
      const result = last.then(() => assign(vmId));
      last = result.catch(() => {});
      return result;
    },
  };

  async function assign(vmId: string): Promise<number | null> {
    const range = ports.range();
    if (ports.whyNot(range) !== null) return null;
    const known = users.get(vmId);
    if (known !== undefined && inRange(known, range) && (await ports.holder(known)) === null) return known;
    const there = new Set(ports.vmIds());
    const next = new Map([...users].filter(([id]) => there.has(id) && id !== vmId));
    const uid = await firstFree(vmId, range, new Set(next.values()));
    next.set(vmId, uid);
    await write(next);
    users.clear();
    for (const [id, user] of next) users.set(id, user);
    ports.log.info({ vmId, uid, before: known }, 'the virtual machine has a user of its own');
    return uid;
  }

  async function firstFree(vmId: string, { first, count }: IdRange, taken: ReadonlySet<number>): Promise<number> {
    const start = Number.parseInt(vmId.slice(0, 8), 16) % count;
    for (let step = 0; step < count; step++) {
      const uid = first + ((start + step) % count);
      if (!taken.has(uid) && (await ports.holder(uid)) === null) return uid;
    }
    throw new VmStorageError(
      'OperationFailed',
      `There is no user left for the virtual machine ${vmId}: all of ${first} to ${first + count - 1} are taken. Set a larger range (VMSTORAGE_GUEST_USERS=first-last) and start the host again.`,
      { target: vmId },
    );
  }

  async function write(next: ReadonlyMap<string, number>): Promise<void> {
    const value: Static<typeof file> = { schema: 1, users: Object.fromEntries(next) };
    try {
      await ports.files.replace(paths.guestUsersFile, JSON.stringify(value, null, 2) + '\n');
    } catch (cause) {
      const message = `Which user a virtual machine runs as cannot be written to '${paths.guestUsersFile}': ${reasonOf(cause)}.`;
      throw new VmStorageError(errorCodeOf(cause), message, { target: paths.guestUsersFile, cause });
    }
  }
}

const inRange = (uid: number, { first, count }: IdRange): boolean => uid >= first && uid < first + count;

/** A file that cannot be used costs nothing: a VM that is off gets a number anew, and those that run are found by their processes. */
async function read(path: string, { files, log }: GuestUserPorts): Promise<Map<string, number>> {
  try {
    const value: unknown = JSON.parse(await files.readText(path));
    if (check.Check(value)) return new Map(Object.entries(value.users));
    log.error({ file: path }, 'which users virtual machines have cannot be read: the file is damaged; they get others');
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) log.error({ file: path, reason: reasonOf(error) }, 'which users virtual machines have cannot be read');
  }
  return new Map();
}
