/**
 * A state folder whose file system has no room left: the guests' disks do not live there. The host starts over it, serves, starts dead workers again, names what it cannot write, and goes on when there is room.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ledgerFolder } from '../../src/hypervisor/built-in.js';
import { BuiltInVm } from '../support/built-in-vm.js';
import { Instance } from '../support/instance.js';
import { reasonOf } from '../support/machine.js';
import { mountTmpfs } from '../support/mounts.js';
import { requires } from '../support/requires.js';
import { until } from '../support/until.js';

const MIB = 2 ** 20;

describe.skipIf(!requires('mounts', process.getuid?.() === 0, 'only root mounts a file system'))('a state folder without room', () => {
  let instance: Instance;
  let vm: BuiltInVm;
  const filler = (): string => join(instance.home, 'filler');
  /** The guest's ledgers are there as well, sparse and mapped: they get their room first. */
  const fill = (): void => {
    const ledgers = ledgerFolder(instance.paths.vmLogFolder(vm.id));
    for (const name of readdirSync(ledgers)) {
      const file = join(ledgers, name);
      execFileSync('fallocate', ['-l', String(statSync(file).size), file]);
    }
    execFileSync('sh', ['-c', `dd if=/dev/zero of=${filler()} bs=4k 2>/dev/null || true`]);
  };

  /** The log's last page may have room for some lines yet; a refusal is a line. */
  const warningsOnceFull = (): Promise<string[]> =>
    until('the host warns', async () => {
      await instance.refusal('Get-VM', { Name: ['nobody'] });
      const { warnings } = await instance.collect('Get-VMHost', {});
      return warnings.length > 0 ? [...warnings] : undefined;
    });

  beforeEach(async () => {
    instance = await Instance.start('full', async (made) => {
      await BuiltInVm.environment(made);
      return mountTmpfs(made.home, 'size=16m,mode=700');
    });
    vm = await BuiltInVm.create(instance, { name: 'served', folder: join(instance.folder, 'a'), diskBytes: [64 * MIB, 16 * MIB] });
    await vm.start();
  });
  afterEach(async () => {
    await instance[Symbol.asyncDispose]();
  });

  it('is no reason not to start: the guest is served over the death of host and worker, and moves once there is room', async () => {
    await instance.killHost();
    fill();
    await instance.startHost();
    const before = vm.probe.kill();
    await until('another worker', () => (vm.probe.pid !== null && vm.probe.pid !== before) || undefined);
    await vm.goesOn();
    expect((await vm.get())['Status']).toBe('Operating normally');
    expect(await warningsOnceFull()).toEqual([
      expect.stringContaining(`'${instance.paths.hostLog}' cannot be written: no space left on device`),
    ]);
    expect(await instance.refusal('Set-VMHost', { MaximumStorageMigrations: 4 }, { set: 'ComputerName' })).toMatchObject({
      code: 'NoSpace',
      message: `The settings '${instance.paths.settingsFile}' cannot be written: no space left on device.`,
    });
    expect(await reasonOf(vm.move(join(instance.folder, 'b')))).toMatch(/^NoSpace: .*no space left on device/i);
    await rm(filler());
    await vm.move(join(instance.folder, 'b'));
    expect(await vm.diskPaths()).toEqual(vm.leaves.map((leaf) => join(instance.folder, 'b', 'Virtual Hard Disks', leaf)));
    expect((await instance.collect('Get-VMHost', {})).warnings).toEqual([]);
    expect(await readFile(instance.paths.hostLog, 'utf8')).toMatch(/the log is written again; lines were lost/);
    await vm.stopAndCheck();
  });

  it('keeps a move that was under way: it goes on, and is completed when its records can be written', async () => {
    const lost = reasonOf(vm.move(join(instance.folder, 'b')));
    await vm.journalIsThere();
    await instance.killHost();
    await lost;
    fill();
    await instance.startHost();
    await vm.goesOn();
    await warningsOnceFull();
    expect(await instance.run('Get-VMStorageMove', { Name: ['served'] })).toHaveLength(1);
    await rm(filler());
    await until('the move is completed', async () => {
      const [move] = await instance.run('Get-VMStorageMove', { Name: ['served'] });
      return ['Completed', 'Failed'].includes(String(move!['Outcome'])) || undefined;
    });
    // The journal may have had no room either: then it is undone as soon as that can be recorded, and can be asked for again.
    const there = join(instance.folder, 'b');
    if (!(await vm.diskPaths())[0]!.startsWith(there)) {
      await until('the failed one is undone', async () =>
        /being moved already|is not over/.test(await reasonOf(vm.move(there))) ? undefined : true,
      );
    }
    expect(await vm.diskPaths()).toEqual(vm.leaves.map((leaf) => join(there, 'Virtual Hard Disks', leaf)));
    await vm.stopAndCheck();
  });
});

describe('a host whose folders were never made, with no room to make them', () => {
  it.skipIf(!requires('mounts', process.getuid?.() === 0, 'only root mounts a file system'))('says which, and ends', async () => {
    await using full = await Instance.start('never');
    await full.killHost();
    await rm(full.home, { recursive: true });
    await mkdir(full.home);
    const home = await mountTmpfs(full.home, 'size=4k,nr_inodes=1');
    try {
      await expect(full.startHost()).rejects.toThrow(
        new RegExp(`The folder '${full.paths.runFolder}' cannot be made: no space left on device`),
      );
    } finally {
      await home[Symbol.asyncDispose]();
    }
  });
});
