/** The guest's console and blocks as the host reads them. */
import { describe, expect, it } from 'vitest';
import { blockIs, describeBlock, hashOfVersions, VERSION_UNSURE } from '../../support/guest-blocks.js';
import { parseGuestLine, versionTables, type GuestLine } from '../../support/guest-lines.js';

/** As block.h has it, written down a third time with BigInt alone. */
function makeBlock(disk: number, block: number, version: number): Uint32Array {
  const bytes = Buffer.alloc(4096);
  const seed = BigInt.asUintN(64, ((BigInt(version) << 40n) ^ (BigInt(block) << 4n) ^ BigInt(disk)) * 0x9e3779b97f4a7c15n);
  bytes.writeUInt32LE(0x534d5642, 0);
  bytes.writeUInt32LE(disk, 4);
  bytes.writeBigUInt64LE(BigInt(block), 8);
  bytes.writeUInt32LE(version, 16);
  bytes.writeUInt32LE(Number(seed >> 32n), 20);
  for (let i = 3; i < 512; i++) bytes.writeBigUInt64LE(BigInt.asUintN(64, seed + BigInt(i)), i * 8);
  return new Uint32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + 4096));
}

describe('a block', () => {
  it('is right only as a whole and in its place', () => {
    // Small and large numbers, a block beyond 32 bits; some of these seeds carry from the low word to the high one.
    for (const [disk, block, version] of [
      [0, 0, 1],
      [1, 16383, 7],
      [3, 2 ** 33 + 5, 255],
      [0, 77, 65537],
    ] as const) {
      const words = makeBlock(disk, block, version);
      expect(blockIs(words, 0, disk, block, version)).toBe(true);
      expect(blockIs(words, 0, disk, block, version + 1)).toBe(false);
      expect(blockIs(words, 0, disk + 1, block, version)).toBe(false);
      expect(blockIs(words, 0, disk, block + 1, version)).toBe(false);
      words[1000]! ^= 1 << 9;
      expect(blockIs(words, 0, disk, block, version)).toBe(false);
      expect(describeBlock(words, 0)).toEqual({ ours: true, zero: false, disk, block, version, whole: false });
    }
    expect(describeBlock(new Uint32Array(1024), 0)).toMatchObject({ ours: false, zero: true, whole: false });
  });
});

describe('the console', () => {
  it('holds lines of the kernel, half lines and ours', () => {
    expect(parseGuestLine('[    0.1] Linux')).toBeNull();
    expect(parseGuestLine('{"ev":"done"')).toBeNull();
    expect(parseGuestLine('{"t":3,"disk":"vda","r":1}')).toEqual({ ev: 'second', t: 3, disk: 'vda', r: 1 });
    expect(parseGuestLine('{"ev":"done","ms":5}')).toEqual({ ev: 'done', ms: 5 });
  });

  it('gives the last whole version table of each disk and refuses one with a lost line', () => {
    const versions = Uint32Array.of(0, 0, 0, 5, 1, 1, VERSION_UNSURE, 0);
    const lines: GuestLine[] = [
      { ev: 'versions', disk: 'vda', from: 0, runs: '9*8' },
      { ev: 'versions', disk: 'vda', from: 0, runs: '0*3,5' },
      { ev: 'versions', disk: 'vda', from: 4, runs: '1*2,?,0' },
      { ev: 'table', disk: 'vda', index: 0, blocks: 8, hash: hashOfVersions(versions), final: true },
    ];
    expect(versionTables(lines)).toEqual([{ disk: 'vda', index: 0, final: true, versions }]);
    expect(() => versionTables(lines.filter((_, i) => i !== 2))).toThrow(/incomplete/);
  });
});
