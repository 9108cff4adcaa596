/** A running VM with a physical disk beside its virtual one: QEMU has the device itself, so there is nothing of it that we could move. */
import { truncate, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { errorTable } from '../../src/model/errors.js';
import { systemProcesses } from '../../src/os/processes.js';
import type { WireValue } from '../../src/protocol/messages.js';
import { Instance, type CmdletCall } from '../support/instance.js';
import { filesBelow, Machine } from '../support/machine.js';
import { loopDevice, type Mount } from '../support/mounts.js';
import { lacks } from '../support/requires.js';
import { makeScratch, type Scratch } from '../support/scratch.js';

const DEVICE_BYTES = 64 * 2 ** 20;
const GUEST = 'w.span=8 w.qd=4 w.iops=300 w.fsync=4';
const NAME = 'physical';

describe.skipIf(lacks('root', 'losetup', 'qemu-system-x86_64', 'qemu-img', 'guest'))('a running VM with a pass-through disk', () => {
  let scratch: Scratch;
  let device: Mount;
  let instance: Instance;
  let vm: Machine;
  const at = (...place: string[]): string => join(instance.folder, ...place);

  /** Refused as the error says, with the same QEMU on the same disks, no file anywhere, and a guest that goes on with both of them. */
  async function expectRefused(bound: { readonly [name: string]: WireValue }, how: CmdletCall = {}): Promise<void> {
    const state = async (): Promise<unknown> => {
      const { Path, ConfigurationLocation, HardDrives, State } = await vm.get();
      const { disks, move, journal } = await vm.probe.serves(1, vm.qemuPid);
      const served = disks.map(({ path, peerPid }) => ({ path, peerPid }));
      const moves = await instance.run('Get-VMStorageMove', {});
      return { Path, ConfigurationLocation, HardDrives, State, served, move, journal, moves, files: filesBelow(at('slow')) };
    };
    const before = await state();
    const refusal = await instance.refusal('Move-VMStorage', { Name: NAME, ...bound }, how);
    const [, category, errorId] = errorTable.InvalidState;
    expect(refusal).toMatchObject({ code: 'InvalidState', category, errorId });
    expect(refusal.message).toContain(`'${device.path}' is a physical disk (pass-through). Detach it first.`);
    expect(await state()).toEqual(before);
    expect(existsSync(at('fast'))).toBe(false);
    expect(existsSync(instance.paths.journal(vm.id))).toBe(false);
    await vm.console.goesOn(1);
    vm.expectNoGuestError();
  }

  beforeAll(async () => {
    scratch = await makeScratch('device');
    const back = join(scratch.path, 'back');
    await writeFile(back, '');
    await truncate(back, DEVICE_BYTES);
    device = await loopDevice(back);
    instance = await Instance.start('passthrough');
    vm = await Machine.create(instance, { name: NAME, folder: at('slow'), disks: ['system.vhdx'], devices: [device.path], guest: GUEST });
    await vm.start();
  });
  afterAll(async () => {
    await vm?.[Symbol.asyncDispose]();
    await instance?.[Symbol.asyncDispose](); // ends QEMU, which has the device open
    await device?.[Symbol.asyncDispose]();
    await scratch?.[Symbol.asyncDispose]();
  });

  it('has the device from QEMU itself and the virtual disk from its worker', async () => {
    const commandLine = systemProcesses.commandLine(vm.qemuPid);
    expect(commandLine.filter((word) => word.includes(device.path))).toHaveLength(1);
    const { disks } = await vm.probe.serves(1, vm.qemuPid);
    expect(disks.map(({ path }) => path)).toEqual([...vm.disks]);
    const seen = vm.console.lines.flatMap((line) => (line.ev === 'disk' ? [line.bytes] : []));
    expect(seen).toContain(DEVICE_BYTES);
    await vm.console.goesOn(1); // on both
  });

  it('is not moved as a whole', () => expectRefused({ DestinationStoragePath: at('fast') }));

  it('is not moved by a -Vhds pair for the device', () =>
    expectRefused(
      { Vhds: [{ SourceFilePath: device.path, DestinationFilePath: at('fast', basename(device.path)) }] },
      { set: 'NameMultipleDestinations' },
    ));

  it('has its virtual disk moved by name, while the guest works on both', async () => {
    const to = at('fast/system.vhdx');
    await vm.moveVhds([[vm.disks[0]!, to]]);
    expect(await vm.diskPaths()).toEqual([to, device.path]);
    await vm.console.goesOn(1);
    await vm.stopAndCheck([to]);
    expect(existsSync(vm.disks[0]!)).toBe(false);
  });
});
