/** Room at the destination: what is needed now decides, for VMs that are off and that run, also within one file system. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { rename, truncate, writeFile } from 'node:fs/promises';
import { existsSync, rmSync, statfsSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { WireValue } from '../../src/protocol/messages.js';
import { Instance } from '../support/instance.js';
import { filesBelow, Machine, reasonOf } from '../support/machine.js';
import { DaemonDisk, lacksHangingDisks, mountTmpfs, type Mount } from '../support/mounts.js';
import { lacks } from '../support/requires.js';
import { makeScratch, type Scratch } from '../support/scratch.js';
import { commandLine } from '../support/serving.js';
import { standStill } from '../support/stand-still.js';

const run = promisify(execFile);
const TB = 2n ** 40n;
const MIB = 2 ** 20;

describe.skipIf(lacks('root', 'qemu-img', 'qemu-io', 'qemu-system-x86_64'))('room at the destination', () => {
  let instance: Instance;
  let scratch: Scratch;
  let small: Mount;
  const at = (...place: string[]): string => join(instance.folder, ...place);

  beforeAll(async () => {
    instance = await Instance.start('room');
    scratch = await makeScratch('room-small');
    small = await mountTmpfs(join(scratch.path, 'small'), 'size=300m');
    await instance.run('New-VHD', { Path: [at('thin.vhdx')], SizeBytes: String(TB), Dynamic: true }, { set: 'DynamicWithoutSource' });
    await run('qemu-io', ['-f', 'vhdx', '-c', 'write -P 7 5M 1M', at('thin.vhdx')]);
    await instance.run('New-VM', { Name: 'thin', Path: at('thin'), VHDPath: at('thin.vhdx') }, { set: 'Existing VHD' });
  });
  afterAll(async () => {
    await instance?.[Symbol.asyncDispose]();
    await small?.[Symbol.asyncDispose]();
    await scratch?.[Symbol.asyncDispose]();
  });

  const move = (name: string, to: string, more: { readonly [name: string]: WireValue } = {}) =>
    instance.collect('Move-VMStorage', { Name: name, DestinationStoragePath: to, ...more });

  it('a thin disk of 1 TB is refused a small file system with -RequireFullSize, by both figures', async () => {
    const { errors } = await move('thin', small.path, { RequireFullSize: true });
    expect(errors[0]?.code).toBe('NoSpace');
    expect(errors[0]?.message).toMatch(/1024\.0 GB are needed \(with room for the disks to grow\), 300\.0 MB are free/);
    expect(filesBelow(small.path)).toEqual([]);
  });

  it('without it the difference is a warning, before anything is asked or done', async () => {
    const words = [commandLine, 'Move-VMStorage', 'thin', small.path, '-WhatIf'];
    const { stdout, stderr } = await run(process.execPath, words, { env: instance.environment });
    expect(stdout).toContain('What if');
    expect(stderr).toMatch(/need 2\d\d\.\d MB at '.*\/small' now and may grow to 1024\.0 GB; there is room for 300\.0 MB/);
    expect(filesBelow(small.path)).toEqual([]);
  });

  it('and the disk moves: off, within that file system, while the VM runs, and back', async () => {
    const moved = async (folder: string): Promise<void> => {
      expect((await move('thin', folder)).errors).toEqual([]);
      const path = join(folder, 'Virtual Hard Disks/thin.vhdx');
      expect(existsSync(path)).toBe(true);
    };
    await moved(join(small.path, 'one'));
    await run('qemu-io', ['-r', '-f', 'vhdx', '-c', 'read -P 7 5M 1M', join(small.path, 'one/Virtual Hard Disks/thin.vhdx')]);
    await moved(join(small.path, 'two'));
    await instance.run('Start-VM', { Name: ['thin'] });
    await moved(join(small.path, 'three'));
    await moved(at('back'));
    await instance.run('Stop-VM', { Name: ['thin'], TurnOff: true });
    await run('qemu-io', ['-r', '-f', 'vhdx', '-c', 'read -P 7 5M 1M', at('back/Virtual Hard Disks/thin.vhdx')]);
    expect(filesBelow(small.path)).toEqual([]);
  });

  it('data and a reserve have to be there', async () => {
    await writeFile(at('sparse.img'), randomBytes(100 * MIB));
    await truncate(at('sparse.img'), 10 * 1024 * MIB);
    await instance.run('New-VM', { Name: 'sparse', Path: at('sparse'), VHDPath: at('sparse.img') }, { set: 'Existing VHD' });
    const { errors } = await move('sparse', small.path);
    expect(errors[0]?.code).toBe('NoSpace');
    expect(errors[0]?.message).toMatch(/356\.\d MB are needed now \(the data and a reserve\), 300\.0 MB are free/);
    // A file that is punched needs less.
    await run('fallocate', ['--punch-hole', '-o', '0', '-l', String(80 * MIB), at('sparse.img')]);
    expect((await move('sparse', small.path)).errors).toEqual([]);
    await run('qemu-io', ['-r', '-f', 'raw', '-c', 'read -P 0 0 80M', join(small.path, 'Virtual Hard Disks/sparse.img')]);
  });
});

/** What others are left (LOW_WATER_BYTES of room.ts): with less, a move is stopped, though it would just fit. */
const LOW_WATER_BYTES = 64 * MIB;

describe.skipIf(
  lacks('root', 'qemu-system-x86_64', 'qemu-img', 'guest', 'qemu-storage-daemon', 'nbdkit', 'mkfs.ext4', 'losetup') || lacksHangingDisks(),
)('room that others take in the middle of a move', () => {
  let instance: Instance;
  let vm: Machine;
  const at = (...place: string[]): string => join(instance.folder, ...place);

  beforeAll(async () => {
    instance = await Instance.start('room-runs-out');
    vm = await Machine.create(instance, { name: 'runs', folder: at('a'), guest: 'w.span=16 w.qd=4 w.iops=300 w.fsync=4' });
    // A raw disk whose space is all taken when it is made cannot run out of it.
    await run('cp', ['--sparse=always', at('a/data.img'), at('a/sparse')]);
    await rename(at('a/sparse'), at('a/data.img'));
    await vm.start();
  });
  afterAll(async () => {
    await vm?.[Symbol.asyncDispose]();
    await instance?.[Symbol.asyncDispose]();
  });

  it.each([0, 1])(
    'disk %d: the guest does not notice, the move says what is free and what is needed, and a second one works',
    async (disk) => {
      const source = (await vm.diskPaths())[disk]!;
      const dataBytes = statSync(source).blocks * 512;
      // Slow, so that what happens after the filling takes longer than a look.
      await using small = await DaemonDisk.mount(at(`small-${disk}`), 720 * MIB, { writeMs: 1 });
      const target = join(small.path, basename(source));
      const moving = vm.moveVhds([[source, target]]);
      const fails = reasonOf(moving);
      expect(await vm.probe.inPhase(['copy'], moving)).toBe('copy');
      {
        // A real file of somebody else, so large that what is still to be copied fits, and less than the low water would be left.
        using _ = standStill(vm.probe.pid!);
        const leftBytes = Math.max(0, dataBytes - statSync(target).blocks * 512) + LOW_WATER_BYTES / 4;
        const { bavail, bsize } = statfsSync(small.path);
        await run('fallocate', ['-l', String(bavail * bsize - leftBytes), join(small.path, 'filler')]);
      }
      const told = await fails;
      expect(told).toMatch(/^NoSpace: .*The room at the destination runs out: \d+\.\d MB are free at '\S*\/small-\d\/disk'/);
      expect(told).toMatch(/\d+(\.\d MB| bytes) are still to be copied and up to \d+\.\d MB may come to be written/);
      expect(told).toContain('The virtual machine stays on its source files.');
      expect(await vm.lastMove()).toMatchObject({ Outcome: 'Failed', ErrorCode: 'NoSpace', FailedDisk: disk, FailedPath: target });
      await vm.console.goesOn(1);
      vm.expectNoGuestError();
      expect((await vm.diskPaths())[disk]).toBe(source);
      expect(filesBelow(small.path)).toEqual([join(small.path, 'filler')]);
      rmSync(join(small.path, 'filler'));
      await vm.moveVhds([[source, target]]);
      expect((await vm.diskPaths())[disk]).toBe(target);
      await vm.moveVhds([[target, source]]);
      await vm.console.goesOn(1);
      vm.expectNoGuestError();
    },
  );

  it('every byte is right at the end', async () => {
    await vm.stopAndCheck(await vm.diskPaths());
  });
});
