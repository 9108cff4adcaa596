/** Where the files of a machine may lie: where nobody but root, the host's user and the machine's owner can change what has which name. */
import { chmodSync, chownSync, existsSync, readdirSync, symlinkSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { administeredBy, runAs } from '../support/administrator.js';
import { Instance } from '../support/instance.js';
import { lacksOrdinaryUser, OrdinaryUser } from '../support/ordinary-user.js';

describe.skipIf(lacksOrdinaryUser())('a folder for the files of a machine', () => {
  let user: OrdinaryUser;
  let other: OrdinaryUser;
  let instance: Instance;
  beforeAll(async () => {
    user = await OrdinaryUser.create();
    other = await OrdinaryUser.create();
    instance = await Instance.start('strict', async (made) => administeredBy(made, user));
    await instance.run('New-VM', { Name: 'web01', Path: await folder('good', 0, 0o755) });
  });
  afterAll(async () => {
    await instance[Symbol.asyncDispose]();
    await user[Symbol.asyncDispose]();
    await other[Symbol.asyncDispose]();
  });

  async function folder(leaf: string, owner: number, mode: number, group = 0): Promise<string> {
    const path = join(instance.folder, leaf);
    await mkdir(path);
    chownSync(path, owner, group);
    chmodSync(path, mode);
    return path;
  }

  const places = [
    ['every user can write to it', 0, 0o777, 0, /every user can write to it \(owner root, 0, mode 0777\)/],
    [
      'a group with others in it can write to it',
      0,
      0o770,
      'user',
      /the group vmstorage-test-\w+ can write to it \(owner root, 0, mode 0770\)/,
    ],
    ['it is of another user', 'user', 0o755, 0, /it belongs to another user \(owner vmstorage-test-\w+, \d+, mode 0755\)/],
  ] as const;
  it.each(places)(
    'is refused when %s: for a configuration, a new disk, an attached one, a move, with every switch',
    async (what, owner, mode, group, words) => {
      const uidOf = (who: 'user' | 0): number => (who === 'user' ? user.uid : 0);
      const bad = await folder(`bad ${what}`, uidOf(owner), mode, uidOf(group));
      const refused = { code: 'UnsafeFolder', category: 'SecurityError', message: expect.stringMatching(words) as string };
      const disk = join(instance.folder, 'good', `${mode}.img`);
      expect(await instance.refusal('New-VM', { Name: 'x', Path: bad })).toMatchObject(refused);
      expect(await instance.refusal('New-VM', { Name: 'x', Path: join(bad, 'below') })).toMatchObject(refused);
      const New = { SizeBytes: '4194304', Dynamic: true };
      expect(await instance.refusal('New-VHD', { Path: [join(bad, 'a.vhdx')], ...New }, { set: 'DynamicWithoutSource' })).toMatchObject(
        refused,
      );
      for (const AllowUnverifiedPaths of [true, false]) {
        const move = { Name: 'web01', DestinationStoragePath: bad, AllowUnverifiedPaths };
        expect(await instance.refusal('Move-VMStorage', move)).toMatchObject(refused);
      }
      await instance.run('New-VHD', { Path: [disk.replace('.img', '.vhdx')], ...New }, { set: 'DynamicWithoutSource' });
      chmodSync(bad, 0o755);
      chownSync(bad, 0, 0);
      await instance.run('New-VHD', { Path: [join(bad, 'late.vhdx')], ...New }, { set: 'DynamicWithoutSource' });
      chownSync(bad, uidOf(owner), uidOf(group));
      chmodSync(bad, mode);
      expect(await instance.refusal('Add-VMHardDiskDrive', { VMName: ['web01'], Path: join(bad, 'late.vhdx') })).toMatchObject(refused);
      expect(readdirSync(bad)).toEqual(['late.vhdx']);
      expect((await instance.run('Get-VM', { Name: ['web01'] }))[0]!['Path']).toBe(join(instance.folder, 'good'));
    },
  );

  it("may be of the machine's owner, for machines of that one", async () => {
    const own = await folder('own', user.uid, 0o700);
    const [vm] = await runAs(instance, user, 'New-VM', { Name: 'theirs', Path: own });
    expect(vm!['Path']).toBe(own);
    const another = runAs(instance, { uid: other.uid, gid: other.gid, groups: [user.gid] }, 'New-VM', { Name: 'x', Path: own });
    await expect(another).rejects.toMatchObject({ code: 'UnsafeFolder' });
    await instance.run('Move-VMStorage', { Name: 'theirs', DestinationStoragePath: join(own, 'further') });
    await instance.stopHost();
    await instance.startHost();
    expect(await instance.collect('Get-VM', { Name: ['theirs'] })).toMatchObject({ errors: [], output: [{ Path: join(own, 'further') }] });
  });

  it('may be writable for a group in which there is nobody else', async () => {
    const own = await folder('private group', user.uid, 0o770, user.gid);
    const [vm] = await runAs(instance, user, 'New-VM', { Name: 'grouped', Path: own });
    expect(vm!['Path']).toBe(own);
  });

  it("may lie under a sticky folder such as /tmp, and behind a link of root's; behind a link of another's it is refused", async () => {
    const sticky = await folder('sticky', 0, 0o1777);
    await mkdir(join(sticky, 'roots'), { mode: 0o755 });
    await instance.run('New-VM', { Name: 'sticky', Path: join(sticky, 'roots') });
    symlinkSync(join(sticky, 'roots'), join(instance.folder, 'by-root'));
    await instance.run('New-VM', { Name: 'linked', Path: join(instance.folder, 'by-root') });
    await user.sh('ln -s "$1/roots" "$1/by-user"', sticky);
    const refused = await instance.refusal('New-VM', { Name: 'x', Path: join(sticky, 'by-user') });
    expect(refused).toMatchObject({
      code: 'UnsafeFolder',
      message: expect.stringMatching(/by-user' is a symbolic link of vmstorage-test-/) as string,
    });
    expect(existsSync(join(sticky, 'roots', 'Virtual Machines'))).toBe(true);
  });
});
