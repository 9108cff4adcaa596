import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { deleteGradually } from '../../../src/os/delete-gradually.js';
import { makeScratch, type Scratch } from '../../support/scratch.js';

const MIB = 2 ** 20;

describe('a large file is deleted', () => {
  let scratch: Scratch;
  let file: string;
  beforeEach(async () => {
    scratch = await makeScratch('gradual');
    file = join(scratch.path, 'disk.img');
  });
  afterEach(() => scratch[Symbol.asyncDispose]());

  it('name first, then from its end to its beginning', async () => {
    await fs.writeFile(file, Buffer.alloc(160 * MIB, 7));
    const reader = await fs.open(file, 'r');
    const deleted = deleteGradually(file);
    const sizes = new Set<number>();
    let named = true;
    for (let over = false; !over; over = await Promise.race([deleted.then(() => true), fs.stat('/').then(() => false)])) {
      sizes.add((await reader.stat()).size / MIB);
      if (sizes.size > 1) named = (await fs.readdir(scratch.path)).length > 0;
    }
    await reader.close();
    expect(await deleted).toBe(true);
    expect(named).toBe(false);
    expect([...sizes]).toEqual([160, 128, 96, 64, 32]);
  });

  it('and one that has another name keeps its content there', async () => {
    await fs.writeFile(file, Buffer.alloc(80 * MIB, 7));
    await fs.link(file, join(scratch.path, 'other.img'));
    expect(await deleteGradually(file)).toBe(true);
    expect((await fs.stat(join(scratch.path, 'other.img'))).size).toBe(80 * MIB);
  });

  it('or was not there; and what is a link loses the link alone', async () => {
    expect(await deleteGradually(file)).toBe(false);
    await fs.writeFile(join(scratch.path, 'kept'), 'text');
    await fs.symlink(join(scratch.path, 'kept'), file);
    expect(await deleteGradually(file)).toBe(true);
    expect(await fs.readFile(join(scratch.path, 'kept'), 'utf8')).toBe('text');
  });

  it('or is refused as unlink refuses it', async () => {
    await fs.mkdir(file);
    await expect(deleteGradually(file)).rejects.toThrow(/EISDIR|EPERM/);
  });
});
