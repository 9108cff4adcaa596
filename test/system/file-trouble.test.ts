/** Get-VM of machines whose files are gone, or whose file system does not answer: it says so, at once, and of no other machine. */
import { mkdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Instance } from '../support/instance.js';
import { HangingFile, lacksHangingDisks } from '../support/mounts.js';
import { lacks } from '../support/requires.js';
import { standStill } from '../support/stand-still.js';
import { until } from '../support/until.js';

const MIB = 2 ** 20;
/** The hang goes on until the test ends it: any answer shows that it was not waited for. */
const ANSWER_MOST_MS = 20_000;

describe('Get-VM', () => {
  let instance: Instance;
  const at = (...place: string[]): string => join(instance.folder, ...place);
  const statuses = async (): Promise<{ [name: string]: unknown }> =>
    Object.fromEntries((await instance.run('Get-VM', {})).map((vm) => [vm['Name'], vm['Status']]));
  const configurationOf = async (name: string): Promise<string> => {
    const [vm] = await instance.run('Get-VM', { Name: [name] });
    return at(name, 'Virtual Machines', `${String(vm!['Id'])}.vmcx`);
  };

  async function make(name: string): Promise<string> {
    await mkdir(at(name));
    const disk = at(name, 'disk.img');
    await instance.run('New-VHD', { Path: [disk], SizeBytes: String(MIB), Fixed: true }, { set: 'FixedWithoutSource' });
    await instance.run('New-VM', { Name: name, Path: at(name), VHDPath: disk }, { set: 'Existing VHD' });
    return disk;
  }

  beforeAll(async () => {
    instance = await Instance.start('file-trouble');
    await make('well');
  });
  afterAll(async () => {
    await instance?.[Symbol.asyncDispose]();
  });

  it('names a disk file that is gone, and says nothing of it when it is back', async () => {
    const disk = await make("it's lost");
    await rename(disk, `${disk}.away`);
    expect(await statuses()).toEqual({
      well: 'Operating normally',
      "it's lost": `Disk 0 '${disk}' cannot be found: No such file or directory.`,
    });
    const [lost] = await instance.run('Get-VM', { Name: ["it's lost"] });
    expect(lost).toMatchObject({ State: 'Off', OperationalStatus: ['SupportingEntityInError'] });
    await rename(`${disk}.away`, disk);
    expect((await statuses())["it's lost"]).toBe('Operating normally');
  });

  it('names a configuration that is gone: in the Status while the host has it in mind, after a restart in an error', async () => {
    await make('lost');
    const file = await configurationOf('lost');
    await rename(file, `${file}.away`);
    expect((await statuses())['lost']).toBe(`The configuration '${file}' cannot be found: No such file or directory.`);
    await instance.stopHost();
    await instance.startHost();
    const { output, errors } = await instance.collect('Get-VM', {});
    expect(output.map((vm) => vm['Name'])).not.toContain('lost');
    expect(errors).toMatchObject([{ code: 'ObjectNotFound', message: expect.stringContaining(file) as string }]);
    await rename(`${file}.away`, file);
    expect((await statuses())['lost']).toBe('Operating normally');
  });

  it.skipIf(lacks('root', 'qemu-storage-daemon') || lacksHangingDisks())(
    'does not wait for a file system that hangs, nor does the end of the host',
    async () => {
      await using hanging = await HangingFile.mount(at('hanging'), MIB);
      await instance.run('New-VM', { Name: 'hung', Path: at('hung'), VHDPath: hanging.path }, { set: 'Existing VHD' });
      expect((await statuses())['hung']).toBe('Operating normally');
      {
        using _ = standStill(hanging.daemonPid);
        const beganMs = performance.now();
        // What the kernel has seen a moment ago it says without asking.
        const all = await until('the hang is seen', async () => {
          const now = await statuses();
          return now['hung'] === 'Operating normally' ? undefined : now;
        });
        expect(all).toMatchObject({ well: 'Operating normally', hung: `The file system of disk 0 '${hanging.path}' does not answer.` });
        await statuses();
        await instance.stopHost();
        await instance.startHost();
        expect((await statuses())['well']).toBe('Operating normally');
        expect(performance.now() - beganMs).toBeLessThan(ANSWER_MOST_MS);
      }
      await until('it is as before', async () => ((await statuses())['hung'] === 'Operating normally' ? true : undefined));
    },
  );
});
