/** A VM that is off is moved, and the receipt of each disk is recomputed by the README's recipe from the file it has become. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { CommandLineShell } from '../../scripts/demo/cmdlet-shell.js';
import { DemoHost } from '../../scripts/demo/demo-host.js';
import type { DiskReceipt } from '../../src/model/move.js';
import { hashByHand } from '../support/receipt-recipe.js';
import { lacks } from '../support/requires.js';
import { makeScratch } from '../support/scratch.js';

const run = promisify(execFile);
const MIB = 1 << 20;

const disks = [
  { leaf: 'dynamic.vhdx', format: 'vhdx', kind: 'Dynamic', bytes: 1024 * MIB },
  { leaf: 'fixed.vhdx', format: 'vhdx', kind: 'Fixed', bytes: 64 * MIB },
  { leaf: 'plain.img', format: 'raw', kind: 'Fixed', bytes: 100 * MIB + 512 },
] as const;

describe.skipIf(lacks('qemu-img', 'qemu-io', 'xxhsum', 'split', 'perl'))('the receipt of a move', () => {
  it('of a VM that is off is what anybody computes from the moved disks', async () => {
    await using scratch = await makeScratch('receipt');
    const slow = join(scratch.path, 'slow');
    const fast = join(scratch.path, 'fast');
    await mkdir(slow);
    await mkdir(fast);
    await mkdir(join(scratch.path, 'home'));
    const host = await DemoHost.start(join(scratch.path, 'home'));
    try {
      await using shell = new CommandLineShell(host.environment);
      for (const { leaf, format, kind, bytes } of disks) {
        await shell.run('New-VHD', { Path: join(slow, leaf), SizeBytes: bytes, [kind]: true });
        // Data from the first to the last sector, holes between, a unit that is half zeros.
        const writes = [`write -P 1 0 512`, `write -P 2 3M 2560k`, `write -P 3 20M 30M`, `write -P 4 ${bytes - 512} 512`];
        await run('qemu-io', ['-f', format, join(slow, leaf), ...writes.flatMap((command) => ['-c', command])]);
      }
      const sources = await Promise.all(disks.map(({ leaf }) => stat(join(slow, leaf), { bigint: true })));
      const before = await Promise.all(disks.map(({ leaf, format }) => hashByHand(join(slow, leaf), format)));

      await shell.run('New-VM', { Name: 'still', MemoryStartupBytes: 64 * MIB, Path: slow, VHDPath: join(slow, disks[0].leaf) });
      for (const { leaf } of disks.slice(1)) await shell.run('Add-VMHardDiskDrive', { VMName: 'still', Path: join(slow, leaf) });
      await shell.run('Move-VMStorage', { VMName: 'still', DestinationStoragePath: fast });

      const [move] = await shell.run('Get-VMStorageMove', { Name: 'still' });
      expect(move).toMatchObject({ Outcome: 'Completed', Phase: 'done' });
      // Most of these disks are holes: read unit by unit, the operations of all of them would be in one turn of the worker.
      expect(Number(move!['LongestTurnOperations'])).toBeGreaterThan(0);
      expect(Number(move!['LongestTurnOperations'])).toBeLessThan(1000);
      const receipts = JSON.parse(move!.Receipt as string) as DiskReceipt[];
      expect(receipts.map(({ disk }) => disk)).toEqual(disks.map((_unused, index) => index));
      for (const [index, { leaf, format, bytes }] of disks.entries()) {
        const receipt = receipts[index]!;
        const source = join(slow, leaf);
        const target = join(fast, 'Virtual Hard Disks', leaf);
        const { dev, ino } = await stat(target, { bigint: true });
        expect(receipt, leaf).toMatchObject({
          bytes: String(bytes),
          unitsWrittenSince: 0,
          source: { path: source, device: String(sources[index]!.dev), inode: String(sources[index]!.ino) },
          target: { path: target, device: String(dev), inode: String(ino) },
        });
        expect(await hashByHand(target, format), leaf).toBe(receipt.hash);
        expect(before[index], leaf).toBe(receipt.hash);
        expect(existsSync(source), leaf).toBe(false);
        expect(Date.parse(receipt.verifiedAt)).toBeLessThanOrEqual(Date.parse(receipt.switchedAt));
        if (format === 'vhdx') expect((await run('qemu-img', ['check', '-f', 'vhdx', target])).stdout).toContain('No errors were found');
      }

      // A byte that changes afterwards shows.
      const first = join(fast, 'Virtual Hard Disks', disks[0].leaf);
      await run('qemu-io', ['-f', 'vhdx', first, '-c', 'write -P 9 20M 512']);
      expect(await hashByHand(first, 'vhdx')).not.toBe(receipts[0]!.hash);
    } finally {
      await host.end();
    }
  });
});
