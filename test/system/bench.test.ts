/** The benchmark itself, on a disk so small that its figures mean nothing: the peers take our command lines, and nothing is left. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { BenchDocument } from '../../scripts/bench/document.js';
import { repository } from '../support/guest-kernel.js';
import { leftoversAfter, MARKER } from '../support/leftovers.js';
import { lacks } from '../support/requires.js';
import { makeScratch } from '../support/scratch.js';

const RUN = ['--rounds', '1', '--size', '16', '--window', '0.2'];

/** Everything the run starts and makes can be told by the scratch folder. */
function start(folder: string, args: readonly string[]) {
  const env = { ...process.env, [MARKER]: folder, TMPDIR: folder, VMSTORAGE_SCRATCH: folder };
  const child = spawn(process.execPath, [join(repository, 'dist/scripts/bench.js'), ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const said = { out: '', err: '' };
  child.stdout.on('data', (text: Buffer) => (said.out += text.toString()));
  child.stderr.on('data', (text: Buffer) => (said.err += text.toString()));
  return { child, said, exit: once(child, 'exit').then(([code]) => code as number | null) };
}

describe.skipIf(lacks('qemu-img', 'qemu-storage-daemon'))('npm run bench', () => {
  it('measures every row beside its peer and leaves nothing behind', async () => {
    await using scratch = await makeScratch('bench-test');
    const { said, exit } = start(scratch.path, [...RUN, '--json']);
    expect(await exit, said.err).toBe(0);
    const { machine, rows } = JSON.parse(said.out) as BenchDocument;
    expect(machine).toMatchObject({ rounds: 1, sizeMiB: 16, io: expect.stringMatching(/^(io_uring|threads)$/) });
    const names = rows.map(({ name }) => name);
    for (const wanted of [
      'idle-copy-raw',
      'whole-move-raw',
      'idle-copy-vhdx',
      'loaded-move-rest-p99',
      'loaded-move-moving-max',
      'blackout',
    ])
      expect(names).toContain(wanted);
    for (const wanted of ['memory-idle', 'memory-moving', 'vhost-4k-read-qd1', 'vhost-4k-mixed-qd32-queues4'])
      expect(names).toContain(wanted);
    expect(new Set(names).size).toBe(names.length);
    for (const row of rows) {
      expect(row.peer.name).toMatch(row.name.startsWith('lane') ? /^the same move within one file system/ : /^qemu-(img|storage-daemon)/);
      for (const figure of [row.ours.min, row.ours.median, row.ours.max, row.peer.min, row.peer.median, row.peer.max])
        expect(figure, row.name).toBeGreaterThanOrEqual(0);
      expect(row.ratio, row.name).toBeGreaterThanOrEqual(0);
    }
    expect(await leftoversAfter({ id: scratch.path, folder: scratch.path })).toEqual([]);
  });

  it('measures itself beside another checkout, here once more itself', async () => {
    await using scratch = await makeScratch('bench-test');
    const { said, exit } = start(scratch.path, [...RUN, '--only', 'idle-copy-raw', '--against', repository, '--json']);
    expect(await exit, said.err).toBe(0);
    const { rows } = JSON.parse(said.out) as BenchDocument;
    expect(rows).toMatchObject([{ name: 'idle-copy-raw', peer: { name: repository } }]);
    expect(await leftoversAfter({ id: scratch.path, folder: scratch.path })).toEqual([]);
  });

  it('ends everything it started when it is interrupted', async () => {
    await using scratch = await makeScratch('bench-test');
    const { child, said, exit } = start(scratch.path, [...RUN, '--window', '60', '--only', 'loaded-move']);
    await new Promise<void>((resolve, reject) => {
      child.stderr.on('data', () => said.err.includes('round 1') && resolve());
      void exit.then(() => reject(new Error(said.err)));
    });
    child.kill('SIGINT');
    expect(await exit).toBe(130);
    expect(said.err).toContain('stopped by SIGINT');
    expect(said.out).toBe('');
    expect(await leftoversAfter({ id: scratch.path, folder: scratch.path })).toEqual([]);
  });

  it('refuses what it does not know before it starts anything', async () => {
    await using scratch = await makeScratch('bench-test');
    for (const [args, why] of [
      [['--only', 'nothing'], 'there is no such row'],
      [['--rounds', '0'], 'a whole number from 1'],
      [['--size', '1.5'], 'a whole number from 16'],
      [['--fast'], '--fast'],
      [['--against', '/'], 'holds no checkout'],
    ] as const) {
      const { said, exit } = start(scratch.path, args);
      expect(await exit).toBe(2);
      expect(said.err).toContain(why);
    }
    expect(await leftoversAfter({ id: scratch.path, folder: scratch.path })).toEqual([]);
  });
});
