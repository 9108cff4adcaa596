/** The test guest itself, on plain raw disks of QEMU's own: what all other system tests rely on. */
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { describeWrong, verifyGuestImage } from '../../scripts/verify-guest-image.js';
import { BareQemu } from '../support/bare-qemu.js';
import { versionTables } from '../support/guest-lines.js';
import { lacks } from '../support/requires.js';
import { makeScratch } from '../support/scratch.js';

const DISK_BYTES = 96 * 1024 * 1024;

function blankDisk(folder: string, name: string): string {
  const path = join(folder, name);
  writeFileSync(path, '');
  truncateSync(path, DISK_BYTES);
  return path;
}

describe.skipIf(lacks('qemu-system-x86_64', 'guest'))('the test guest', () => {
  it('writes, reboots, goes on from what it finds, obeys the power button, and its disks hold what it says', async () => {
    await using scratch = await makeScratch('guest');
    const disks = [blankDisk(scratch.path, 'a.img'), blankDisk(scratch.path, 'b.img')];
    await using qemu = await BareQemu.start({ folder: scratch.path, rawDisks: disks, guestOptions: 'w.qd=4 w.iops=300' });
    const guest = qemu.console;

    expect(await guest.ready(1, qemu.gone)).toMatchObject({ disks: 2, cpus: 1 });
    expect(guest.lines.filter((line) => line.ev === 'disk')).toMatchObject([
      { disk: 'vda', index: 0, bytes: DISK_BYTES, blocks: 16384, cache: 'write back', adopted: 0, foreign: 0 },
      { disk: 'vdb', index: 1, bytes: DISK_BYTES, blocks: 16384, adopted: 0 },
    ]);
    await guest.goesOn(2);
    await qemu.pressCtrlAltDelete();
    const before = await guest.done(0, qemu.gone);
    const rebooted = guest.here;
    await guest.ready(2, qemu.gone);
    const found = guest.lines.slice(rebooted).filter((line) => line.ev === 'disk');
    expect(found.map(({ disk, adopted, foreign, bad }) => ({ disk, adopted, foreign, bad }))).toEqual(
      before.verified.map(({ disk, blocks }) => ({ disk, adopted: blocks, foreign: 0, bad: 0 })),
    );

    await guest.goesOn(1);
    await qemu.pressPowerButton();
    const { verified, tables } = await guest.done(rebooted, qemu.gone);
    expect(await qemu.exited).toBe(0);
    expect(verified.map(({ disk, err, bad }) => ({ disk, err, bad }))).toEqual([
      { disk: 'vda', err: 0, bad: 0 },
      { disk: 'vdb', err: 0, bad: 0 },
    ]);
    expect(guest.faults).toEqual([]);
    for (const [i, table] of tables.entries()) {
      const verdict = verifyGuestImage(disks[i]!, table, { restIsZero: true });
      expect(verdict).toMatchObject({ blocksWrong: 0, blocksUnsure: 0, strayBlocks: 0, blocksChecked: verified[i]!.blocks });
      expect(verdict.blocksChecked).toBeGreaterThan(500);
    }

    // The reader itself has to see a wrong byte, a stray byte, a lost write and swapped disks.
    const [table] = tables;
    const written = table!.versions.findIndex((version) => version > 0);
    const untouched = table!.versions.findIndex((version) => version === 0);
    const file = openSync(disks[0]!, 'r+');
    writeSync(file, Buffer.from([0xff]), 0, 1, written * 4096 + 4000);
    writeSync(file, Buffer.from([0xff]), 0, 1, untouched * 4096 + 17);
    closeSync(file);
    const damaged = verifyGuestImage(disks[0]!, table!, { restIsZero: true });
    expect(damaged).toMatchObject({ blocksWrong: 1, strayBlocks: 1 });
    expect(damaged.wrong.map(describeWrong).join('\n')).toMatch(/torn[^]*foreign|foreign[^]*torn/);
    const stale = {
      ...table!,
      versions: table!.versions.map((version, block) =>
        block === tables[0]!.versions.lastIndexOf(version) && version ? version + 1 : version,
      ),
    };
    expect(verifyGuestImage(disks[0]!, stale).blocksWrong).toBeGreaterThan(1);
    expect(verifyGuestImage(disks[1]!, table!).blocksWrong).toBe(verified[0]!.blocks);
    // And the command says the same with its exit code.
    const command = [join(process.cwd(), 'dist/scripts/verify-guest-image.js'), '--console', join(scratch.path, 'console.log')];
    expect(execFileSync(process.execPath, [...command, '--disk', 'vdb', disks[1]!], { encoding: 'utf8' })).toMatch(
      /^\d+ blocks checked, 0 wrong/m,
    );
    expect(() => execFileSync(process.execPath, [...command, '--disk', 'vda', disks[0]!], { stdio: 'pipe' })).toThrow(/Command failed/);
    expect(readFileSync(join(scratch.path, 'qemu.log'), 'utf8')).toBe('');
  });

  it('tells its versions while it writes, as a lower bound that holds after a power cut', async () => {
    await using scratch = await makeScratch('guest');
    const disk = blankDisk(scratch.path, 'a.img');
    await using qemu = await BareQemu.start({ folder: scratch.path, rawDisks: [disk], guestOptions: 'w.qd=8 w.span=4 w.table=1' });
    await qemu.console.ready(1, qemu.gone);
    await qemu.console.waitFor(
      'three tables',
      (lines) => lines.filter((line) => line.ev === 'table').length >= 3 || undefined,
      30_000,
      qemu.gone,
    );
    await qemu.stop();
    const [table] = versionTables(qemu.console.lines);
    expect(table).toMatchObject({ disk: 'vda', final: false });
    expect(verifyGuestImage(disk, table!)).toMatchObject({ blocksWrong: 0 });
    expect(verifyGuestImage(disk, { ...table!, final: true }).blocksWrong).toBeGreaterThan(0);
  });
});
