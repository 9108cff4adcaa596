/**
 * A generation 2 machine boots as any machine with UEFI does: nobody hands it a kernel, the firmware reads the disk.
 *
 *   OVMF ── its virtio driver ── vhost-user-blk ── worker ── boot.vhdx: FAT with the test guest's kernel, which is an EFI program,
 *                                                            its initrd, and startup.nsh, by which the firmware's shell starts it
 *                                                            data.img:  what the guest then writes to
 */
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findFirmware } from '../../src/hypervisor/firmware.js';
import { temporaryName } from '../../src/os/files.js';
import { systemProcesses } from '../../src/os/processes.js';
import { ConsoleText } from '../support/console-text.js';
import { efiDiskNeeds, makeEfiDisk } from '../support/efi-disk.js';
import { GuestConsole } from '../support/guest.js';
import { guestKernel } from '../support/guest-kernel.js';
import { Instance } from '../support/instance.js';
import { filesBelow } from '../support/machine.js';
import { lacks, requires } from '../support/requires.js';

const run = promisify(execFile);
const MIB = 1024 * 1024;
const NAME = 'uefi';
const WORDS = 'this script was read from the virtual hard disk';
/** The firmware and its shell, which waits 5 s for a key, under emulation on a busy machine. */
const FIRMWARE_LIMIT_MS = 120_000;
/** The guest works on its second disk alone; the first is what it booted from and has to stay as it is. */
const KERNEL_ARGUMENTS = 'console=ttyS0 quiet panic=-1 w.disks=vdb w.span=8 w.qd=4 w.iops=300 w.fsync=4';
const SCRIPT = ['@echo -off', `echo "${WORDS}"`, `linux.efi initrd=\\initrd.cpio ${KERNEL_ARGUMENTS}`, ''].join('\r\n');
/** How the firmware calls the disk: behind the first root port. */
const PLACE = 'PciRoot(0x0)/Pci(0x2,0x0)/Pci(0x0,0x0)';

const missing = lacks('qemu-system-x86_64', 'qemu-img', 'guest', ...efiDiskNeeds);
const lacksFirmware = !requires('OVMF', await findFirmware());

describe.skipIf(missing || lacksFirmware)('a generation 2 virtual machine', () => {
  let instance: Instance;
  let id: string;
  let text: ConsoleText;
  let guest: GuestConsole;
  const at = (...place: string[]): string => join(instance.folder, ...place);
  const get = async () => (await instance.run('Get-VM', { Name: [NAME] }))[0]!;
  const qemuCommandLine = (): readonly string[] =>
    systemProcesses.commandLine(Number(readFileSync(instance.paths.qemuPidFile(id), 'utf8')));

  /** Start-VM; resolves when the guest that the firmware has loaded is ready for the `boot`th time. */
  async function boot(count: number): Promise<void> {
    await instance.run('Start-VM', { Name: [NAME] });
    await text.says(WORDS, count, FIRMWARE_LIMIT_MS);
    expect(await guest.ready(count)).toMatchObject({ disks: 1 });
  }

  beforeAll(async () => {
    instance = await Instance.start('ovmf');
    await mkdir(at('slow'));
    const { kernel, initrd } = guestKernel();
    await writeFile(at('startup.nsh'), SCRIPT);
    await makeEfiDisk(at('boot.raw'), 64 * MIB, { 'startup.nsh': at('startup.nsh'), 'linux.efi': kernel, 'initrd.cpio': initrd });
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'vhdx', '-o', 'subformat=dynamic', at('boot.raw'), at('slow/boot.vhdx')]);
    await instance.run('New-VHD', { Path: [at('slow/data.img')], SizeBytes: String(16 * MIB), Fixed: true }, { set: 'FixedWithoutSource' });
    const [vm] = await instance.run(
      'New-VM',
      {
        Name: NAME,
        Generation: 2,
        MemoryStartupBytes: String(256 * MIB),
        Path: at('slow'),
        VHDPath: at('slow/boot.vhdx'),
      },
      { set: 'Existing VHD' },
    );
    await instance.run('Add-VMHardDiskDrive', { VMName: [NAME], Path: at('slow/data.img') });
    // The firmware uses one queue of two, then the kernel both.
    await instance.run('Set-VM', { Name: [NAME], ProcessorCount: '2' });
    id = String(vm!['Id']);
    text = ConsoleText.of(vm!);
    guest = new GuestConsole(text.path);
  });
  afterAll(async () => {
    await guest?.close();
    await instance?.[Symbol.asyncDispose]();
  });

  it('boots from its VHDX: OVMF finds the file system behind the first root port and starts what is on it', async () => {
    await writeFile(temporaryName(instance.paths.firmwareVariables(id)), 'half'); // of a host that died while it copied them
    await boot(1);
    expect(text.text.slice(text.text.indexOf('FS0:'))).toContain(PLACE); // the shell's table of file systems
    expect(qemuCommandLine()).not.toContain('-kernel');
    expect(readdirSync(instance.paths.firmwareFolder)).toEqual([`${id}.vars.fd`]);
    expect(await get()).toMatchObject({ State: 'Running', Generation: 2 });
  });

  it('goes on while its storage is moved', async () => {
    const before = qemuCommandLine();
    const { errors, warnings } = await instance.collect('Move-VMStorage', { Name: NAME, DestinationStoragePath: at('fast') });
    expect({ errors, warnings }).toEqual({ errors: [], warnings: [] });
    await guest.goesOn(1);
    expect(guest.faults).toEqual([]);
    expect(guest.errorCounts).toEqual({ errors: 0, mismatches: 0 });
    expect(qemuCommandLine()).toEqual(before);
    expect(filesBelow(at('slow'))).toEqual([]);
    expect(filesBelow(at('fast'))).toEqual(
      [...['boot.vhdx', 'data.img'].map((leaf) => at('fast/Virtual Hard Disks', leaf)), at('fast/Virtual Machines', `${id}.vmcx`)].sort(),
    );
  });

  it('has, turned off, its boot disk at the destination as it was made', async () => {
    await instance.run('Stop-VM', { Name: [NAME], TurnOff: true });
    expect(await get()).toMatchObject({ State: 'Off' });
    const moved = at('fast/Virtual Hard Disks/boot.vhdx');
    await run('qemu-img', ['check', '-f', 'vhdx', moved]);
    await run('qemu-img', ['compare', '-f', 'raw', '-F', 'vhdx', at('boot.raw'), moved]);
  });

  it('boots from there, and finds what it wrote before', async () => {
    const from = guest.here;
    await boot(2);
    const disk = guest.lines.slice(from).find((line) => line.ev === 'disk');
    expect(disk).toMatchObject({ disk: 'vdb', queues: 2, err: 0, bad: 0 });
    expect(disk).toHaveProperty(
      'adopted',
      expect.toSatisfy((blocks: number) => blocks > 0),
    );
    await guest.goesOn(1);
    await instance.run('Stop-VM', { Name: [NAME], TurnOff: true });
  });

  it('leaves no variables of its firmware behind when it is removed', async () => {
    await instance.run('Remove-VM', { Name: [NAME] });
    expect(readdirSync(instance.paths.firmwareFolder)).toEqual([]);
  });

  it('boots as installed systems do: the firmware starts EFI/BOOT/BOOTX64.EFI of the first disk, without its shell', async () => {
    await mkdir(at('installed'));
    const disk = at('installed/boot.vhdx');
    await makeEfiDisk(at('installed.raw'), 64 * MIB, { 'EFI/BOOT/BOOTX64.EFI': guestKernel().kernel });
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'vhdx', '-o', 'subformat=fixed', at('installed.raw'), disk]);
    const bound = { Name: 'installed', Generation: 2, MemoryStartupBytes: String(256 * MIB), Path: at('installed'), VHDPath: disk };
    const [vm] = await instance.run('New-VM', bound, { set: 'Existing VHD' });
    const said = ConsoleText.of(vm!);
    await instance.run('Start-VM', { Name: ['installed'] });
    await said.says('BdsDxe: starting', 1, FIRMWARE_LIMIT_MS);
    expect(/BdsDxe: starting .*/.exec(said.text)?.[0]).toContain(`from ${PLACE}`);
    await instance.run('Stop-VM', { Name: ['installed'], TurnOff: true });
  });
});
