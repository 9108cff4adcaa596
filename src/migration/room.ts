/**
 * How much room a disk takes at its destination, and whether it is still there while the move runs. Pure figures, and one question to the
 * file system.
 *
 * ```text
 *   data ── what the source occupies now: copied in any case
 *   now ─── data and a reserve for what the guest writes meanwhile: has to be free when the move begins
 *   most ── every block written: has to be free with -RequireFullSize; else the difference is a warning
 * ```
 */
import { VmStorageError } from '../model/errors.js';
import type { ImageFacts, MoveFiles } from './ports.js';
import { bytesText } from './progress.js';
import type { Scene } from './scene.js';

const MIB = 2n ** 20n;
/** What a guest may write while its disk is copied, at least, and as a part of the data: who has more writes for longer. */
const RESERVE_LEAST_BYTES = 256n * MIB;
const RESERVE_PART = 20n;
/** Less than this is left to others: a file system that is full to the last block fails everybody who is on it. */
const LOW_WATER_BYTES = 64n * MIB;

export interface Room {
  readonly data: bigint;
  readonly now: bigint;
  readonly most: bigint;
}

export function roomOf(image: ImageFacts): Room {
  const most = mostBytes(image);
  // The space of a fixed disk is taken when it is made.
  const data = image.kind === 'fixed' ? most : smaller(BigInt(image.allocatedBytes), most);
  const reserve = larger(RESERVE_LEAST_BYTES, data / RESERVE_PART);
  return { data, now: smaller(data + reserve, most), most };
}

/**
 * What the image may come to occupy when every block of it is written. A dynamic VHDX becomes longer; any other file only fills its
 * holes, so its length is the bound.
 */
export function mostBytes(image: ImageFacts): bigint {
  const [file, allocated, growth] = [BigInt(image.fileBytes), BigInt(image.allocatedBytes), BigInt(image.growthBytes)];
  if (image.format === 'vhdx' && image.kind === 'dynamic') return file + growth;
  return file > allocated + growth ? file : allocated + growth;
}

/**
 * The error of a move whose destination will not hold it any more, or null: less is free than what is still to be copied and a little for
 * others, and the disks could need it. Others have taken the room, or the guest has written more than the reserve.
 */
export async function shortOfRoom(
  scene: Pick<Scene, 'entry' | 'plan'> & { readonly ports: { readonly files: MoveFiles } },
): Promise<VmStorageError | null> {
  const { files } = scene.ports;
  const { needs } = scene.entry;
  for (const device of new Set(needs.map((need) => need.device))) {
    let [toCopy, toGrow, worst] = [0n, 0n, { target: '', folder: '', bytes: -1n }];
    for (const { target, folder, data, most, device: own } of needs) {
      // A record of 0.1 does not say them.
      if (own !== device || data === undefined || most === undefined) continue;
      const occupied = (await files.facts(target))?.allocatedBytes ?? 0n;
      const left = larger(BigInt(most) - occupied, 0n);
      toCopy += larger(BigInt(data) - occupied, 0n);
      toGrow += left;
      if (left > worst.bytes) worst = { target, folder, bytes: left };
    }
    if (toGrow === 0n) continue;
    const free = await files.freeBytes(worst.folder);
    if (free >= smaller(toCopy + LOW_WATER_BYTES, toGrow)) continue;
    const source = scene.plan.disks.find((disk) => disk.target === worst.target)?.source ?? worst.target;
    return new VmStorageError(
      'NoSpace',
      `The room at the destination runs out: ${bytesText(free)} are free at '${worst.folder}', and of '${source}' (to '${worst.target}') and the disks ` +
        `moved with it ${bytesText(toCopy)} are still to be copied and up to ${bytesText(toGrow)} may come to be written. The move was stopped before the file system ` +
        'was full. The virtual machine stays on its source files.',
      { target: worst.target, recommendedAction: 'Free some space there, or name another destination.' },
    );
  }
  return null;
}

function smaller(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

function larger(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
