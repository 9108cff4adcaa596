/**
 * Checks a raw disk image that the test guest wrote, without the guest and without our engine: every block against the version
 * that the guest acknowledged last. The image is the raw disk itself, or what `qemu-img convert -O raw` made of another format.
 *
 *   node dist/scripts/verify-guest-image.js --console console.log --disk vda [--rest-is-zero] disk.raw
 *
 * The console is the guest's whole output; its last version table of that disk is used. A table told while the guest was still
 * writing is a lower bound: then a block may hold any whole version from that on.
 */
import { closeSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { BLOCK_BYTES, blockIs, blockIsZero, describeBlock, VERSION_UNSURE, type BlockFound } from '../test/support/guest-blocks.js';
import { parseGuestLine, versionTables, type VersionTable } from '../test/support/guest-lines.js';

const PIECE_BLOCKS = 256;
/** Wrong blocks described one by one; all are counted. */
const DESCRIBED_MOST = 20;

export interface WrongBlock {
  readonly block: number;
  readonly wanted: number;
  readonly found: BlockFound;
}

export interface ImageVerdict {
  /** Blocks with an acknowledged version that were compared byte by byte. */
  readonly blocksChecked: number;
  /** Those that are not right. */
  readonly blocksWrong: number;
  /** Blocks whose last write failed: not judged. */
  readonly blocksUnsure: number;
  /** With `restIsZero`: blocks that nobody wrote and that are not zero. */
  readonly strayBlocks: number;
  readonly wrong: readonly WrongBlock[];
}

/** `restIsZero`: the disk was blank before the guest's first write, so every other byte of the image has to be zero. */
export function verifyGuestImage(path: string, table: VersionTable, { restIsZero = false } = {}): ImageVerdict {
  const file = openSync(path, 'r');
  try {
    const sizeBytes = fstatSync(file).size;
    const { versions, index, final } = table;
    if (sizeBytes < versions.length * BLOCK_BYTES) {
      throw new Error(`${path} is ${sizeBytes} bytes long; the guest used ${versions.length * BLOCK_BYTES} bytes of ${table.disk}.`);
    }
    const blocks = restIsZero ? Math.floor(sizeBytes / BLOCK_BYTES) : versions.length;
    const piece = Buffer.from(new ArrayBuffer(PIECE_BLOCKS * BLOCK_BYTES));
    const words = new Uint32Array(piece.buffer);
    const wrong: WrongBlock[] = [];
    let blocksChecked = 0;
    let blocksWrong = 0;
    let blocksUnsure = 0;
    let strayBlocks = 0;
    for (let first = 0; first < blocks; first += PIECE_BLOCKS) {
      const count = Math.min(PIECE_BLOCKS, blocks - first);
      readFully(file, piece.subarray(0, count * BLOCK_BYTES), first * BLOCK_BYTES, path);
      for (let i = 0; i < count; i++) {
        const block = first + i;
        const at = (i * BLOCK_BYTES) / 4;
        const wanted = versions[block] ?? 0;
        if (wanted === VERSION_UNSURE) {
          blocksUnsure++;
        } else if (wanted === 0) {
          if (restIsZero && !blockIsZero(words, at) && (final || !isLater(describeBlock(words, at), index, block, 1))) {
            strayBlocks++;
            if (wrong.length < DESCRIBED_MOST) wrong.push({ block, wanted, found: describeBlock(words, at) });
          }
        } else {
          blocksChecked++;
          if (blockIs(words, at, index, block, wanted) || (!final && isLater(describeBlock(words, at), index, block, wanted))) continue;
          blocksWrong++;
          if (wrong.length < DESCRIBED_MOST) wrong.push({ block, wanted, found: describeBlock(words, at) });
        }
      }
    }
    return { blocksChecked, blocksWrong, blocksUnsure, strayBlocks, wrong };
  } finally {
    closeSync(file);
  }
}

/** Whether a block is whole, in its place, and of `least` or a later version. */
function isLater(found: BlockFound, disk: number, block: number, least: number): boolean {
  return found.whole && found.disk === disk && found.block === block && found.version >= least;
}

function readFully(file: number, into: Buffer, offset: number, path: string): void {
  for (let done = 0; done < into.length;) {
    const count = readSync(file, into, done, into.length - done, offset + done);
    if (count === 0) throw new Error(`${path} ended at ${offset + done} bytes while it was being read.`);
    done += count;
  }
}

export function describeWrong({ block, wanted, found }: WrongBlock): string {
  const want = wanted === 0 ? 'zero' : `version ${wanted}`;
  const is = found.zero
    ? 'zero'
    : !found.ours
      ? 'foreign data'
      : `version ${found.version} of block ${found.block} of disk ${found.disk}${found.whole ? '' : ', torn'}`;
  return `block ${block} (byte ${block * BLOCK_BYTES}): wanted ${want}, found ${is}`;
}

function main(args: string[]): number {
  const value = (key: string): string | undefined => (args.includes(key) ? args[args.indexOf(key) + 1] : undefined);
  const [consolePath, disk, image] = [value('--console'), value('--disk'), args.at(-1)];
  if (!consolePath || !disk || !image || image.startsWith('--')) {
    console.error('usage: verify-guest-image --console FILE --disk NAME [--rest-is-zero] IMAGE');
    return 2;
  }
  const lines = readFileSync(consolePath, 'latin1')
    .split('\n')
    .map((line) => parseGuestLine(line.trim()));
  const table = versionTables(lines.filter((line) => line !== null)).find((candidate) => candidate.disk === disk);
  if (!table) {
    console.error(`${consolePath} holds no version table of ${disk}; the guest tells it when it is stopped, or each w.table=N seconds.`);
    return 2;
  }
  const verdict = verifyGuestImage(image, table, { restIsZero: args.includes('--rest-is-zero') });
  for (const wrong of verdict.wrong) console.log(describeWrong(wrong));
  console.log(
    `${verdict.blocksChecked} blocks checked, ${verdict.blocksWrong} wrong, ${verdict.blocksUnsure} unsure, ${verdict.strayBlocks} stray`,
  );
  return verdict.blocksWrong + verdict.strayBlocks === 0 && verdict.blocksChecked > 0 ? 0 : 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = main(process.argv.slice(2));
