/** The disks that are measured with. */
import { randomFillSync } from 'node:crypto';
import { open } from 'node:fs/promises';

const MIB = 1024 * 1024;
const PIECE_BYTES = 4 * MIB;
const BLOCK_BYTES = 4096;

/** A raw disk with something in every block, all blocks different, on the disk: neither side is spared anything by zeros or holes. */
export async function writeFullImage(path: string, sizeMiB: number): Promise<void> {
  await using file = await open(path, 'wx', 0o600);
  const piece = randomFillSync(Buffer.alloc(PIECE_BYTES));
  for (let at = 0; at < sizeMiB * MIB; at += PIECE_BYTES) {
    for (let block = 0; block < PIECE_BYTES; block += BLOCK_BYTES) piece.writeDoubleLE(at + block + 1, block);
    await file.write(piece, 0, Math.min(PIECE_BYTES, sizeMiB * MIB - at), at);
  }
  await file.datasync();
}

/** A new raw file that reads as zeros, as a move makes its target. */
export async function makeEmptyImage(path: string, sizeMiB: number): Promise<void> {
  await using file = await open(path, 'wx', 0o600);
  await file.truncate(sizeMiB * MIB);
}

export async function flushFile(path: string): Promise<void> {
  await using file = await open(path, 'r');
  await file.datasync();
}
