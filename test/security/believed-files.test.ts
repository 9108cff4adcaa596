/**
 * What lies in the folder of a machine's owner, who can put anything there: no word of it is believed, and nothing there is waited for.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, assert, beforeEach, describe, expect, it } from 'vitest';
import type { Collected } from '../../src/client/invoke.js';
import type { VmConfiguration } from '../../src/model/vm.js';
import { administeredBy, runAs } from '../support/administrator.js';
import { BuiltInVm } from '../support/built-in-vm.js';
import { Instance } from '../support/instance.js';
import { lacksOrdinaryUser, OrdinaryUser } from '../support/ordinary-user.js';
import { StopPoints } from '../support/stop-points.js';
import { makeVictim, type Victim } from '../support/victim.js';

const DISK_BYTES = 1 << 20;
/** Far more than any answer takes, far less than a pipe without a writer. */
const SOON_MS = 30_000;

describe.skipIf(lacksOrdinaryUser())('in the folder of its owner', () => {
  let user: OrdinaryUser;
  let instance: Instance;
  let points: StopPoints;
  let victim: Victim;
  let before: unknown;
  let [theirs, disk, file, id] = ['', '', '', ''];

  beforeEach(async () => {
    user = await OrdinaryUser.create();
    instance = await Instance.start('believed', async (made) => {
      points = StopPoints.for(made);
      administeredBy(made, user);
      await BuiltInVm.environment(made);
    });
    theirs = user.own(join(instance.folder, 'theirs'));
    disk = join(theirs, 'a.img');
    await user.sh('head -c "$2" /dev/zero > "$1"', disk, String(DISK_BYTES));
    victim = await makeVictim(join(instance.folder, 'roots', 'secret.img'), 'r'.repeat(DISK_BYTES));
    before = victim.look();
    const bound = { Name: 'web01', Path: theirs, VHDPath: disk, Generation: 2 };
    const [vm] = await runAs(instance, user, 'New-VM', bound, 'Existing VHD');
    id = String(vm!['Id']);
    file = join(theirs, 'Virtual Machines', `${id}.vmcx`);
    await instance.run('New-VM', { Name: 'other', Path: join(instance.folder, 'roots') });
  });
  afterEach(async () => {
    const after = victim.look();
    await instance[Symbol.asyncDispose]();
    await user[Symbol.asyncDispose]();
    assert.deepEqual(after, before); // of every test: root's file is as it was
  });

  /** The user's own folder in the place of the host's, with this text as the configuration. */
  async function replace(text: string): Promise<void> {
    const folder = join(theirs, 'Virtual Machines');
    const given = join(instance.folder, 'text');
    writeFileSync(given, text, { mode: 0o644 });
    await user.sh('mv "$1" "$1.away"; mkdir "$1"; cp "$2" "$1/$3.vmcx"', folder, given, id);
  }
  const configuration = (): VmConfiguration => JSON.parse(readFileSync(file, 'utf8')) as VmConfiguration;
  const naming = (path: string): string => {
    const vm = configuration();
    return JSON.stringify({ ...vm, disks: vm.disks.map((one) => ({ ...one, path })) });
  };
  const soon = <T>(answer: Promise<T>): Promise<T> =>
    Promise.race([answer, new Promise<never>((_, late) => setTimeout(() => late(new Error('it hangs')), SOON_MS).unref())]);

  it("a configuration that was replaced while the host was away is nobody's word: the machine is faulty, and says why", async () => {
    const text = naming(victim.path);
    await instance.stopHost();
    await replace(text);
    await instance.startHost();
    const { output, errors } = await instance.collect('Get-VM', {});
    expect(output.map((vm) => vm['Name'])).toEqual(['other']);
    expect(errors.map(({ code }) => code)).toEqual(['ImageCorrupt']);
    expect(errors[0]!.message).toMatch(/is not the file that this host has written \(it belongs to user \d+, mode 0644\)/);
    expect(await instance.refusal('Start-VM', { Name: ['web01'] })).toMatchObject({ code: 'ObjectNotFound' });
  });

  it('a configuration that was replaced is taken in when somebody vouches for it, and then written anew', async () => {
    const text = JSON.stringify({ ...configuration(), notes: 'restored' });
    await instance.stopHost();
    await replace(text);
    await instance.startHost();
    // Whoever owns nothing of it cannot: the folder is another's.
    expect(await instance.refusal('Import-VM', { Path: file })).toMatchObject({ code: 'UnsafeFolder' });
    const [vm] = await runAs(instance, user, 'Import-VM', { Path: file });
    expect(vm).toMatchObject({ Name: 'web01', Notes: 'restored' });
    await instance.stopHost();
    await instance.startHost();
    expect(await instance.collect('Get-VM', { Name: ['web01'] })).toMatchObject({ errors: [], output: [{ Notes: 'restored' }] });
    expect(await instance.refusal('Import-VM', { Path: file, Copy: true }, { set: 'Copy' })).toMatchObject({ code: 'NotImplemented' });
  });

  it('a disk that became a link is not followed when its machine starts', async () => {
    await user.sh('mv "$1" "$1.away"; ln -s "$2" "$1"', disk, victim.path);
    const refused = await instance.refusal('Start-VM', { Name: ['web01'] });
    expect(refused.code).toBe('UnsafeFolder');
    expect(refused.message).toContain(`'${disk}' is a symbolic link of ${user.name}`);
    await user.sh('rm "$1"; mv "$1.away" "$1"', disk);
    await instance.run('Start-VM', { Name: ['web01'] });
    await instance.run('Stop-VM', { Name: ['web01'], TurnOff: true });
  });

  it('a pipe at a name that is written holds up nothing: neither its own machine nor any other', async () => {
    const folder = join(theirs, 'Virtual Machines');
    const inTurn = async (pipe: string): Promise<Collected> => {
      await user.sh('mv "$1" "$1.away"; mkdir "$1"; mkfifo "$1/$2"', folder, pipe);
      const own = instance.collect('Set-VM', { Name: ['web01'], Notes: 'x' });
      const other = instance.run('Set-VM', { Name: ['other'], Notes: pipe, Passthru: true });
      expect((await soon(other)).map((vm) => vm['Notes'])).toEqual([pipe]);
      const answered = await soon(own);
      await user.sh('rm -r "$1" || mv "$1" "$1.x"; mv "$1.away" "$1"', folder);
      return answered;
    };
    // The name under which 0.1 began a file: nothing is written there any more.
    expect((await inTurn(`.${id}.vmcx.new`)).errors).toEqual([]);
    expect((await inTurn(`${id}.vmcx`)).errors[0]!.message).toMatch(/cannot be written to .*is not a regular file/);
    const [vm] = await instance.run('Set-VM', { Name: ['web01'], Notes: 'z', Passthru: true });
    expect(vm!['Notes']).toBe('z');
  });

  it('a pipe at the new place of a configuration holds up neither the move nor the answer to a stop', async () => {
    const destination = user.own(join(theirs, 'new'));
    points.arm('host:folders');
    const move = instance.collect('Move-VMStorage', { Name: 'web01', DestinationStoragePath: destination });
    const pid = await points.reached('host:folders', () => instance.hostPid, move);
    const pipes = 'mv "$1/Virtual Machines" "$1/away"; mkdir "$1/Virtual Machines"; mkfifo "$1/Virtual Machines/.$2.vmcx.new"';
    await user.sh(pipes, destination, id);
    points.goOn(pid);
    await soon(instance.collect('Stop-VMStorageMove', { Name: ['other'] }));
    expect((await soon(move)).errors).toEqual([]);
    expect((await instance.run('Get-VM', { Name: ['web01'] }))[0]!['Path']).toBe(destination);
  });
});
