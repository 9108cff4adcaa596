/** Which user each VM's QEMU runs as: one per VM, nobody else's, the same at the next start, and never a reason to lose a VM. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemFiles, type Files } from '../../../src/os/files.js';
import { silentLog } from '../../../src/os/log.js';
import { instancePaths, type InstancePaths } from '../../../src/os/paths.js';
import { type IdRange, subordinateRanges, whyNoOtherUser } from '../../../src/os/privileges.js';
import { GUEST_USERS_DEFAULT, guestUserRange, openGuestUsers } from '../../../src/registry/guest-users.js';

const [ONE, TWO, SAME_START] = [
  '00000005-0000-4000-8000-000000000001',
  '00000006-0000-4000-8000-000000000001',
  '00000005-0000-4000-8000-000000000002',
] as const;
let folder: string;
let paths: InstancePaths;
let there: string[];
let holders: Map<number, string>;
let range: IdRange;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vmstorage-users-'));
  paths = instancePaths({ VMSTORAGE_HOME: folder });
  [there, holders, range] = [[ONE, TWO, SAME_START], new Map(), { first: 1000, count: 10 }];
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const open = (files: Files = systemFiles, whyNot: string | null = null) =>
  openGuestUsers(paths, {
    files,
    log: silentLog,
    range: () => range,
    whyNot: () => whyNot,
    holder: async (uid) => holders.get(uid) ?? null,
    vmIds: () => there,
  });

describe('the user of a VM', () => {
  it('is its own, and the same for the next host', async () => {
    const users = await open();
    expect(users.of(ONE)).toBeNull();
    expect(await Promise.all([ONE, TWO, SAME_START, ONE].map((id) => users.assign(id)))).toEqual([1005, 1006, 1007, 1005]);
    expect((await open()).of(SAME_START)).toBe(1007);
  });

  it('is nobody else: no account, group or process has the number when the VM is started', async () => {
    holders.set(1005, 'the user postgres');
    const users = await open();
    expect(await users.assign(ONE)).toBe(1006);
    holders.set(1006, 'a process');
    expect(await users.assign(ONE)).toBe(1007);
  });

  it('is given to another VM only when its own is gone', async () => {
    range = { first: 1000, count: 2 };
    const users = await open();
    expect([await users.assign(ONE), await users.assign(TWO)]).toEqual([1001, 1000]);
    await expect(users.assign(SAME_START)).rejects.toThrow(/no user left.*1000 to 1001/);
    there = [TWO, SAME_START];
    const next = await open();
    await expect(next.assign(SAME_START)).resolves.toBe(1001);
    expect(next.of(ONE)).toBeNull();
  });

  it('is another one when the range was changed; one that runs is still known to be a VM', async () => {
    const users = await open();
    await users.assign(ONE);
    range = { first: 5000, count: 10 };
    expect([users.of(ONE), users.includes(1005), users.includes(1006), users.includes(5003)]).toEqual([1005, true, false, true]);
    expect(await users.assign(ONE)).toBe(5005);
  });

  it('is not given when it cannot be written down, and what cannot be read is made anew', async () => {
    const full: Files = {
      ...systemFiles,
      replace: () => Promise.reject(Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' })),
    };
    const users = await open(full);
    await expect(users.assign(ONE)).rejects.toMatchObject({ code: 'NoSpace', message: expect.stringContaining('guest-users.json') });
    expect(users.of(ONE)).toBeNull();
    await writeFile(paths.guestUsersFile, '{"schema":1,"users":{"x":-1}}');
    expect(await (await open()).assign(ONE)).toBe(1005);
    expect(JSON.parse(await readFile(paths.guestUsersFile, 'utf8'))).toEqual({ schema: 1, users: { [ONE]: 1005 } });
  });

  it('is of the numbers that the environment says, if it says numbers that people and services may have', () => {
    expect(guestUserRange(undefined)).toEqual(GUEST_USERS_DEFAULT);
    expect(guestUserRange('50000-50009')).toEqual({ first: 50_000, count: 10 });
    for (const wrong of ['50000', '0-10', '20-10', '5000-4000', '1000-4294967295', 'a-b', '1000-2000,3000-4000'])
      expect(() => guestUserRange(wrong), wrong).toThrow(/VMSTORAGE_GUEST_USERS is '.*2100000000-2100065535/);
  });

  it('is none where the host cannot give processes another user', async () => {
    await (await open()).assign(ONE);
    const users = await open(systemFiles, 'not root');
    expect([await users.assign(ONE), users.of(ONE)]).toEqual([null, null]);
  });
});

describe('what this system has of users', () => {
  const proc = async (capabilities: string, map: string): Promise<string> => {
    await writeFile(join(folder, 'status'), `Name:\tnode\nCapEff:\t${capabilities}\n`);
    for (const name of ['uid_map', 'gid_map']) await writeFile(join(folder, name), map);
    return folder;
  };
  const everybody = '         0          0 4294967295\n';

  it('lets root start others as another user, outside of a user namespace that lacks the numbers', async () => {
    expect(whyNoOtherUser(GUEST_USERS_DEFAULT, await proc('000001ffffffffff', everybody))).toBeNull();
    expect(whyNoOtherUser(GUEST_USERS_DEFAULT, await proc('0000000000000000', everybody))).toMatch(/CAP_SETUID/);
    expect(whyNoOtherUser(GUEST_USERS_DEFAULT, await proc('000001ffffffffff', '0 1000 1\n1 100000 65536\n'))).toMatch(/user namespace/);
    expect(whyNoOtherUser({ first: 30_000, count: 100 }, await proc('000001ffffffffff', '0 1000 1\n1 100000 65536\n'))).toBeNull();
  });

  it('has ranges of subordinate ids, which are not free', async () => {
    const file = join(folder, 'subuid');
    await writeFile(file, '# of containers\nalice:100000:65536\nbob:2100000000:10\n');
    expect(subordinateRanges([file, join(folder, 'none')])).toEqual([
      { first: 100_000, count: 65_536 },
      { first: 2_100_000_000, count: 10 },
    ]);
  });
});
