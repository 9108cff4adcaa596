/**
 * The blocks that the test guest writes, read from outside. The layout is drawn in test/guest/block.h; this is the host's own
 * reading of it, so that a disk can be judged without the guest and without our engine.
 */

export const BLOCK_BYTES = 4096;
const BLOCK_WORDS = BLOCK_BYTES / 8;
const MAGIC = 0x534d5642;
/** In a version table: a write of the block failed, so the old or the new version may be there. */
export const VERSION_UNSURE = 0xffffffff;
const U64 = (1n << 64n) - 1n;

export interface BlockFound {
  /** Whether the block carries the guest's magic number at all. */
  readonly ours: boolean;
  readonly zero: boolean;
  readonly disk: number;
  readonly block: number;
  readonly version: number;
  /** Whether all its bytes agree with its own header: false means torn or damaged. */
  readonly whole: boolean;
}

function seedOf(disk: number, block: number, version: number): bigint {
  return (((BigInt(version) << 40n) ^ (BigInt(block) << 4n) ^ BigInt(disk)) * 0x9e3779b97f4a7c15n) & U64;
}

/** Whether every byte of the block at `words[at ..]` (32-bit words, little endian) is that of (disk, block, version). */
export function blockIs(words: Uint32Array, at: number, disk: number, block: number, version: number): boolean {
  const seed = seedOf(disk, block, version);
  const low = Number(seed & 0xffffffffn);
  const high = Number(seed >> 32n);
  if (words[at] !== MAGIC || words[at + 1] !== disk || words[at + 2] !== block % 2 ** 32 || words[at + 3] !== Math.floor(block / 2 ** 32))
    return false;
  if (words[at + 4] !== version || words[at + 5] !== high) return false;
  for (let i = 3; i < BLOCK_WORDS; i++) {
    const sum = low + i;
    const carried = sum > 0xffffffff ? 1 : 0;
    if (words[at + 2 * i] !== sum >>> 0 || words[at + 2 * i + 1] !== (high + carried) >>> 0) return false;
  }
  return true;
}

export function blockIsZero(words: Uint32Array, at: number): boolean {
  for (let i = 0; i < 2 * BLOCK_WORDS; i++) if (words[at + i] !== 0) return false;
  return true;
}

/** What a block that is not the expected one is instead. */
export function describeBlock(words: Uint32Array, at: number): BlockFound {
  const [magic, disk, blockLow, blockHigh, version] = words.subarray(at, at + 5) as unknown as [number, number, number, number, number];
  const block = blockHigh * 2 ** 32 + blockLow;
  const ours = magic === MAGIC;
  return {
    ours,
    zero: blockIsZero(words, at),
    disk,
    block,
    version,
    whole: ours && Number.isSafeInteger(block) && blockIs(words, at, disk, block, version),
  };
}

/** FNV-1a, 64 bits, over (block as 8 bytes, version as 4 bytes) of every block with a version: what the guest's table ends with. */
export function hashOfVersions(versions: Uint32Array): string {
  const prime = 0x100000001b3n;
  let hash = 0xcbf29ce484222325n;
  versions.forEach((version, block) => {
    if (version === 0) return;
    for (let i = 0; i < 12; i++) {
      const byte = i < 8 ? Math.floor(block / 2 ** (8 * i)) % 256 : (version >>> (8 * (i - 8))) & 255;
      hash = ((hash ^ BigInt(byte)) * prime) & U64;
    }
  });
  return hash.toString(16).padStart(16, '0');
}
