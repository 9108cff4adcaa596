/** Disk images by other software: VMSTORAGE_IMAGES, else shared/images beside the checkout. `manifest.tsv` there says what each must be. */
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, existsSync, readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { checkoutFolder } from '../../src/powershell/checkout.js';

const folder = process.env['VMSTORAGE_IMAGES'] ?? join(checkoutFolder(), '..', 'shared', 'images');

export const haveImages = (): boolean => existsSync(join(folder, 'manifest.tsv'));

export interface KnownImage {
  readonly sha256OfFile: string;
  readonly guestBytes: number;
  readonly sha256OfGuest: string;
}

export async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  await using file = await open(path);
  // One buffer for all: a stream makes a new one for each piece, which costs more than the hash of a sparse file of 10 GiB.
  const buffer = Buffer.alloc(1 << 20);
  for (;;) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, null);
    if (bytesRead === 0) return hash.digest('hex');
    hash.update(buffer.subarray(0, bytesRead));
  }
}

/** Unpacks an image into `target` and returns what the manifest says of it. */
export async function unpackImage(name: string, target: string): Promise<KnownImage> {
  const line = readFileSync(join(folder, 'manifest.tsv'), 'utf8')
    .split('\n')
    .map((row) => row.split('\t'))
    .find((row) => row[0] === name);
  if (!line) throw new Error(`the manifest of images has no '${name}'`);
  await pipeline(createReadStream(join(folder, line[1]!)), createGunzip(), createWriteStream(target));
  return { sha256OfFile: line[2]!, guestBytes: Number(line[3]), sha256OfGuest: line[4]! };
}
