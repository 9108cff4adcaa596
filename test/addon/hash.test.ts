/** The hash of a receipt is what the README says it is: recomputed by its recipe, with programs that are not ours. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { native } from '../../src/native/binding.js';
import { hashByHand } from '../support/receipt-recipe.js';
import { lacks } from '../support/requires.js';
import { makeScratch, type Scratch } from '../support/scratch.js';

const run = promisify(execFile);
const MIB = 1 << 20;

describe.skipIf(lacks('qemu-img', 'qemu-io', 'xxhsum', 'split', 'perl'))('hashImage', () => {
  let scratch: Scratch;
  const at = (name: string): string => join(scratch.path, name);
  beforeEach(async () => {
    scratch = await makeScratch('hash');
  });
  afterEach(() => scratch[Symbol.asyncDispose]());

  it.each([
    ['less than a unit', 512],
    ['one unit', MIB],
    ['units and a part of one', 5 * MIB + 512],
  ])('raw, %s', async (_what, bytes) => {
    await writeFile(at('disk.img'), randomBytes(bytes));
    const { hash, bytes: hashed } = await native().hashImage(at('disk.img'), 'raw');
    expect(hashed).toBe(BigInt(bytes));
    expect(hash).toBe(await hashByHand(at('disk.img'), 'raw'));
  });

  it.each(['fixed', 'dynamic'])('VHDX, %s, with holes; one byte makes a difference', async (kind) => {
    await native().createImage(at('disk.vhdx'), 'vhdx', kind, String(40 * MIB), null, null, null, null);
    await run('qemu-io', ['-f', 'vhdx', at('disk.vhdx'), '-c', 'write -P 0xa5 1M 3M', '-c', 'write -P 0x11 36M 512']);
    const { hash } = await native().hashImage(at('disk.vhdx'), 'vhdx');
    expect(hash).toBe(await hashByHand(at('disk.vhdx'), 'vhdx'));
    await run('qemu-io', ['-f', 'vhdx', at('disk.vhdx'), '-c', 'write -P 0x12 36M 512']);
    const after = await native().hashImage(at('disk.vhdx'), 'vhdx');
    expect(after.hash).not.toBe(hash);
    expect(after.hash).toBe(await hashByHand(at('disk.vhdx'), 'vhdx'));
  });
});
