/** What a suite leaves behind is found, whatever it is. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { childrenOf, findLeftovers, killLeftovers, leftoversAfter, MARKER } from '../../support/leftovers.js';
import { makeScratch } from '../../support/scratch.js';
import { until } from '../../support/until.js';

describe('leftovers', () => {
  it('are a detached process, a socket and a file, and are gone when they were removed', async () => {
    await using scratch = await makeScratch('left');
    const run = { id: `leftovers-${process.pid}`, folder: scratch.path };
    expect(findLeftovers(run)).toEqual([]);

    // A grandchild that its parent no longer knows.
    const parent = spawn('sh', ['-c', 'setsid sleep 60 & echo'], { env: { ...process.env, [MARKER]: run.id } });
    await once(parent, 'exit');
    const server = createServer().listen(join(scratch.path, 'a.sock'));
    await once(server, 'listening');
    writeFileSync(join(scratch.path, 'b'), '');
    // In the middle of an exec a process has no environment to be known by.
    const found = await until('the process has its environment', () => {
      const left = findLeftovers(run);
      return left.some(({ kind }) => kind === 'process') ? left : undefined;
    });
    expect(found.map(({ kind }) => kind).sort()).toEqual(['file', 'file', 'process', 'socket']);
    expect(found.find(({ kind }) => kind === 'process')?.what).toMatch(/^\d+: (setsid )?sleep 60$/);

    killLeftovers(found);
    server.close();
    await once(server, 'close');
    expect((await leftoversAfter(run, 2000)).map(({ what }) => what)).toEqual([join(scratch.path, 'b')]);
  });
});

describe('the children of a process', () => {
  it('are those that /proc tells', async () => {
    const child = spawn('sleep', ['60']);
    await once(child, 'spawn');
    expect(childrenOf(process.pid)).toContain(child.pid);
    expect(childrenOf(child.pid!)).toEqual([]);
    child.kill('SIGKILL');
    await once(child, 'exit');
  });

  it('are not known when it does not show the process, or not whose child another is', async () => {
    await using scratch = await makeScratch('proc');
    const shows = (pid: number, parent: number): void => {
      mkdirSync(join(scratch.path, String(pid)));
      writeFileSync(join(scratch.path, String(pid), 'stat'), `${pid} (a) b) S ${parent} 1 1 0`);
    };
    expect(childrenOf(7, join(scratch.path, 'not-mounted'))).toBeNull();
    expect(childrenOf(7, scratch.path)).toBeNull();
    shows(8, 7);
    expect(childrenOf(7, scratch.path)).toBeNull();
    shows(7, 1);
    mkdirSync(join(scratch.path, '9')); // ended meanwhile
    expect(childrenOf(7, scratch.path)).toEqual([8]);
    mkdirSync(join(scratch.path, '10', 'stat'), { recursive: true }); // cannot be read
    expect(childrenOf(7, scratch.path)).toBeNull();
  });
});
