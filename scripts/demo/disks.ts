/**
 * The demo's disks: what is on them before the guest starts, and the check of every byte afterwards by readers that are not the
 * engine's: qemu-img turns the image into plain bytes, and the guest's blocks and the rest are compared here.
 *
 *   0        span           seed starts                seed ends       end
 *   | guest's blocks | zeros | random bytes, kept in seed.raw |  zeros  |
 */
import { execFile } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { open, stat, truncate, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import type { VersionTable } from '../../test/support/guest-lines.js';
import { describeWrong, verifyGuestImage } from '../verify-guest-image.js';

const run = promisify(execFile);
const MIB = 1024 * 1024;
const PIECE_BYTES = MIB;
const BLOCK_BYTES = 4096;
/** Part of each disk that the guest writes (w.span). */
export const SPAN_MIB = 64;
const SEED_START_BYTES = 96 * MIB;
const SEED_BYTES = 256 * MIB;

export type ImageFormat = 'vhdx' | 'raw';

/** A disk's content outside the guest's part, as a sparse raw file of the disk's size. */
export async function makeSeed(path: string, sizeBytes: number): Promise<void> {
  await writeFile(path, '', { flag: 'wx' });
  await truncate(path, sizeBytes);
  const file = await open(path, 'r+');
  try {
    const piece = Buffer.alloc(PIECE_BYTES);
    for (let done = 0; done < SEED_BYTES; done += PIECE_BYTES)
      await file.write(randomFillSync(piece), 0, PIECE_BYTES, SEED_START_BYTES + done);
  } finally {
    await file.close();
  }
}

/** Writes the seed into an existing, blank image, by QEMU's own writer. */
export async function fillImage(seed: string, image: string, format: ImageFormat): Promise<void> {
  await run('qemu-img', ['convert', '-n', '-f', 'raw', '-O', format, '--target-is-zero', seed, image]);
}

export interface DiskCheck {
  readonly blocksChecked: number;
  readonly blocksWrong: number;
  /** What is wrong, the first few. */
  readonly findings: readonly string[];
}

/** Every byte of the image: the guest's blocks against its version table, all others against the seed. */
export async function checkDisk(
  image: string,
  format: ImageFormat,
  table: VersionTable,
  seed: string,
  scratchRaw: string,
): Promise<DiskCheck> {
  const findings: string[] = [];
  if (format === 'vhdx') {
    await run('qemu-img', ['check', '-f', format, image]).catch((error: Error & { stdout?: string; stderr?: string }) => {
      findings.push(`qemu-img check does not accept ${image}: ${`${error.stdout ?? ''}${error.stderr ?? ''}`.trim()}`);
    });
  }
  await run('qemu-img', ['convert', '-f', format, '-O', 'raw', image, scratchRaw]);
  const guest = verifyGuestImage(scratchRaw, table);
  findings.push(...guest.wrong.map(describeWrong));
  if (guest.blocksUnsure > 0) findings.push(`${guest.blocksUnsure} blocks could not be judged: the guest's write of them failed`);
  const rest = await compareRest(scratchRaw, seed, table);
  findings.push(...rest.findings);
  return {
    blocksChecked: guest.blocksChecked + rest.checked,
    blocksWrong: guest.blocksWrong + rest.wrong,
    findings: findings.map((text) => `${image}: ${text}`),
  };
}

/** Blocks that the guest never wrote, on both files, byte by byte. */
async function compareRest(
  image: string,
  seed: string,
  { versions }: VersionTable,
): Promise<{ checked: number; wrong: number; findings: string[] }> {
  const findings: string[] = [];
  const [{ size: imageBytes }, { size: seedBytes }] = await Promise.all([stat(image), stat(seed)]);
  if (imageBytes !== seedBytes) return { checked: 0, wrong: 1, findings: [`${imageBytes} bytes long instead of ${seedBytes}`] };
  await using imageFile = await open(image, 'r');
  await using seedFile = await open(seed, 'r');
  const [is, was] = [Buffer.alloc(PIECE_BYTES), Buffer.alloc(PIECE_BYTES)];
  let checked = 0;
  let wrong = 0;
  for (let at = 0; at < imageBytes; at += PIECE_BYTES) {
    const bytes = Math.min(PIECE_BYTES, imageBytes - at);
    for (const [file, piece] of [
      [imageFile, is],
      [seedFile, was],
    ] as const) {
      const { bytesRead } = await file.read(piece, 0, bytes, at);
      if (bytesRead !== bytes) throw new Error(`${file === seedFile ? seed : image} gave ${bytesRead} of ${bytes} bytes at ${at}.`);
    }
    for (let offset = 0; offset < bytes; offset += BLOCK_BYTES) {
      const block = (at + offset) / BLOCK_BYTES;
      if ((versions[block] ?? 0) !== 0) continue;
      checked++;
      const end = Math.min(offset + BLOCK_BYTES, bytes);
      if (is.compare(was, offset, end, offset, end) === 0) continue;
      if (wrong++ < 5) findings.push(`block ${block} (byte ${at + offset}), which the guest never wrote, is not what it was`);
    }
  }
  return { checked, wrong, findings };
}
