/**
 * A generation 1 machine with four processors boots by its BIOS, which uses one of the disk's four queues and leaves the others unset: SeaBIOS reads the first sector of our disk, and the program in it reads on by INT 13h.
 *
 *   SeaBIOS ── its virtio driver ── vhost-user-blk ── worker ── system.img: sector 0 the program, sector 1 what it says on COM1
 */
import { readdirSync } from 'node:fs';
import { mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ConsoleText } from '../support/console-text.js';
import { Instance } from '../support/instance.js';
import { filesBelow } from '../support/machine.js';
import { lacks } from '../support/requires.js';

const MIB = 1024 * 1024;
const SECTOR_BYTES = 512;
const NAME = 'bios';
const WORDS = 'sector 1 of the virtual hard disk';
/** SeaBIOS is done in a second; a busy machine takes longer. */
const BIOS_LIMIT_MS = 60_000;

/**
 * Reads sector 1, writes its text to COM1, and does it again with each tick of the timer, 18 times a second. It has the firmware's
 * polling driver alone, which never resends: one request that is not answered and it is silent for good.
 */
const program = Buffer.from([
  ...[0x31, 0xc0], //       7c00          xor  ax, ax       it was loaded to 0000:7c00
  ...[0x8e, 0xd8], //       7c02          mov  ds, ax
  ...[0x8e, 0xc0], //       7c04          mov  es, ax
  ...[0x8e, 0xd0], //       7c06          mov  ss, ax
  ...[0xbc, 0x00, 0x7c], // 7c08          mov  sp, 0x7c00
  ...[0xfb], //             7c0b          sti               the timer has to end a hlt
  ...[0x52], //             7c0c          push dx           dl: the drive that was booted from
  ...[0x5a], //             7c0d  again:  pop  dx
  ...[0x52], //             7c0e          push dx
  ...[0xb6, 0x00], //       7c0f          mov  dh, 0        head 0,
  ...[0xb9, 0x02, 0x00], // 7c11          mov  cx, 0x0002   cylinder 0, sector 2 (sectors count from 1)
  ...[0xbb, 0x00, 0x7e], // 7c14          mov  bx, 0x7e00   to 0000:7e00
  ...[0xb8, 0x01, 0x02], // 7c17          mov  ax, 0x0201   read one sector
  ...[0xcd, 0x13], //       7c1a          int  0x13
  ...[0x72, 0x1d], //       7c1c          jc   failed
  ...[0xfc], //             7c1e          cld
  ...[0xbe, 0x00, 0x7e], // 7c1f          mov  si, 0x7e00
  ...[0xac], //             7c22  next:   lodsb
  ...[0x84, 0xc0], //       7c23          test al, al       a zero ends the text
  ...[0x74, 0x11], //       7c25          jz   tick
  ...[0x88, 0xc4], //       7c27          mov  ah, al
  ...[0xba, 0xfd, 0x03], // 7c29          mov  dx, 0x3fd    line status of COM1:
  ...[0xec], //             7c2c  busy:   in   al, dx
  ...[0xa8, 0x20], //       7c2d          test al, 0x20     does it take a byte?
  ...[0x74, 0xfb], //       7c2f          jz   busy
  ...[0x88, 0xe0], //       7c31          mov  al, ah
  ...[0xb2, 0xf8], //       7c33          mov  dl, 0xf8     0x3f8: its data
  ...[0xee], //             7c35          out  dx, al
  ...[0xeb, 0xea], //       7c36          jmp  next
  ...[0xf4], //             7c38  tick:   hlt
  ...[0xeb, 0xd2], //       7c39          jmp  again
  ...[0xf4], //             7c3b  failed: hlt
  ...[0xeb, 0xfd], //       7c3c          jmp  failed
]);

function bootableSectors(): Buffer {
  const sectors = Buffer.alloc(2 * SECTOR_BYTES);
  program.copy(sectors);
  sectors.writeUInt16LE(0xaa55, SECTOR_BYTES - 2); // what makes a BIOS take it for bootable
  sectors.write(`${WORDS}\r\n\0`, SECTOR_BYTES, 'ascii');
  return sectors;
}

describe.skipIf(lacks('qemu-system-x86_64'))('a generation 1 virtual machine', () => {
  let instance: Instance;
  let id: string;
  let text: ConsoleText;
  const at = (...place: string[]): string => join(instance.folder, ...place);
  const get = async () => (await instance.run('Get-VM', { Name: [NAME] }))[0]!;

  /** Resolves when the program has read its sector twice more: the first of them may have been on its way already. */
  const readsOn = (): Promise<void> => text.says(WORDS, text.count(WORDS) + 2, BIOS_LIMIT_MS);

  beforeAll(async () => {
    instance = await Instance.start('seabios');
    await mkdir(at('slow'));
    const disk = at('slow/system.img');
    await instance.run('New-VHD', { Path: [disk], SizeBytes: String(16 * MIB), Fixed: true }, { set: 'FixedWithoutSource' });
    {
      await using file = await open(disk, 'r+');
      await file.write(bootableSectors(), 0, 2 * SECTOR_BYTES, 0);
    }
    const [vm] = await instance.run(
      'New-VM',
      { Name: NAME, Generation: 1, MemoryStartupBytes: String(64 * MIB), Path: at('slow'), VHDPath: disk },
      { set: 'Existing VHD' },
    );
    await instance.run('Set-VM', { Name: [NAME], ProcessorCount: '4' });
    id = String(vm!['Id']);
    text = ConsoleText.of(vm!);
  });
  afterAll(async () => {
    await instance?.[Symbol.asyncDispose]();
  });

  it('boots from its raw disk: the first sector is run, and reads the second one by INT 13h', async () => {
    await instance.run('Start-VM', { Name: [NAME] });
    await readsOn();
    expect(text.text.split('\r\n')).toContain(WORDS);
    expect(await get()).toMatchObject({ State: 'Running', Generation: 1 });
    expect(readdirSync(instance.paths.firmwareFolder)).toEqual([]); // no UEFI variables
  });

  it('reads on after its storage was moved', async () => {
    const { errors, warnings } = await instance.collect('Move-VMStorage', { Name: NAME, DestinationStoragePath: at('fast') });
    expect({ errors, warnings }).toEqual({ errors: [], warnings: [] });
    await readsOn();
    expect(filesBelow(at('slow'))).toEqual([]);
    expect(filesBelow(at('fast'))).toEqual([at('fast/Virtual Hard Disks/system.img'), at('fast/Virtual Machines', `${id}.vmcx`)]);
  });

  it('boots from where it was moved to', async () => {
    await instance.run('Stop-VM', { Name: [NAME], TurnOff: true });
    expect(await get()).toMatchObject({ State: 'Off' });
    await instance.run('Start-VM', { Name: [NAME] });
    await readsOn();
    await instance.run('Stop-VM', { Name: [NAME], TurnOff: true });
  });
});
