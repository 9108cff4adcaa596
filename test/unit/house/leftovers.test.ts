/** What a suite leaves behind is found, whatever it is. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { findLeftovers, killLeftovers, leftoversAfter, MARKER } from '../../support/leftovers.js';
import { makeScratch } from '../../support/scratch.js';

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
    const found = findLeftovers(run);
    expect(found.map(({ kind }) => kind).sort()).toEqual(['file', 'file', 'process', 'socket']);
    expect(found.find(({ kind }) => kind === 'process')?.what).toMatch(/^\d+: (setsid )?sleep 60$/);

    killLeftovers(found);
    server.close();
    await once(server, 'close');
    expect((await leftoversAfter(run, 2000)).map(({ what }) => what)).toEqual([join(scratch.path, 'b')]);
  });
});
