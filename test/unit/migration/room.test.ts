/** How much room a disk takes at its destination, and when a move that runs has too little. */
import { describe, expect, test } from 'vitest';
import type { ImageFacts, MoveFiles } from '../../../src/migration/ports.js';
import { roomOf, shortOfRoom } from '../../../src/migration/room.js';

const MIB = 2 ** 20;
const GIB = 2 ** 30;

function image(change: Partial<ImageFacts>): ImageFacts {
  return {
    path: '/srv/slow/a.img',
    format: 'raw',
    kind: 'dynamic',
    sizeBytes: '0',
    fileBytes: '0',
    allocatedBytes: '0',
    growthBytes: '0',
    blockSizeBytes: 0,
    logicalSectorBytes: 512,
    physicalSectorBytes: 4096,
    diskIdentifier: null,
    dirtyLog: false,
    ...change,
  };
}
const inMib = ({ data, now, most }: ReturnType<typeof roomOf>): number[] => [data, now, most].map((bytes) => Number(bytes) / MIB);

describe('the room of a disk: its data, what has to be free, and what it may come to', () => {
  test('a thin one needs its data and a reserve, a twentieth but 256 MB at least', () => {
    const empty = image({ format: 'vhdx', fileBytes: String(4 * MIB), allocatedBytes: String(MIB), growthBytes: String(1024 * GIB) });
    expect(inMib(roomOf(empty))).toEqual([1, 257, 1024 * 1024 + 4]);
    const sparse = image({ fileBytes: String(100 * GIB), allocatedBytes: String(20 * GIB), growthBytes: String(80 * GIB) });
    expect(inMib(roomOf(sparse))).toEqual([20 * 1024, 21 * 1024, 100 * 1024]);
  });

  test('never more than it can come to', () => {
    const small = image({ fileBytes: String(100 * MIB), allocatedBytes: String(90 * MIB), growthBytes: String(10 * MIB) });
    expect(inMib(roomOf(small))).toEqual([90, 100, 100]);
  });

  test('a fixed one takes all of it at once', () => {
    const fixed = { kind: 'fixed' as const, fileBytes: String(64 * MIB), allocatedBytes: String(MIB), growthBytes: String(63 * MIB) };
    expect(inMib(roomOf(image(fixed)))).toEqual([64, 64, 64]);
    expect(inMib(roomOf(image({ ...fixed, format: 'vhdx' })))).toEqual([64, 64, 64]);
  });
});

describe('a move is short of room', () => {
  const target = '/mnt/fast/a.vhdx';

  function look(mib: { data?: number; most?: number; occupied: number; free: number }) {
    const text = (value?: number) => (value === undefined ? {} : String(value * MIB));
    const figures = mib.data === undefined ? {} : { data: text(mib.data) as string, most: text(mib.most) as string };
    const needs = [{ target, device: '1', folder: '/mnt/fast', bytes: '0', ...figures }];
    const files = {
      facts: async () => ({ allocatedBytes: BigInt(mib.occupied * MIB) }),
      freeBytes: async () => BigInt(mib.free * MIB),
    } as unknown as MoveFiles;
    const plan = { disks: [{ disk: 0, source: '/srv/slow/a.vhdx', target, format: 'vhdx' }] };
    return shortOfRoom({ entry: { needs }, plan, ports: { files } } as unknown as Parameters<typeof shortOfRoom>[0]);
  }

  test('when less is free than is still to be copied and 64 MB for others', async () => {
    const begun = { data: 1000, most: 100_000, occupied: 400 };
    expect(await look({ ...begun, free: 664 })).toBeNull();
    const error = await look({ ...begun, free: 663 });
    expect(error).toMatchObject({ code: 'NoSpace', target });
    for (const word of [target, '/srv/slow/a.vhdx', '663.0 MB are free', '600.0 MB are still to be copied'])
      expect(error!.message).toContain(word);
  });

  test('when the guest has written more than the reserve', async () => {
    const copied = { data: 1000, most: 100_000, occupied: 1500 };
    expect(await look({ ...copied, free: 64 })).toBeNull();
    expect(await look({ ...copied, free: 63 })).toMatchObject({ code: 'NoSpace' });
  });

  test('but not where all that its disks can still come to is there, nor where nothing is known', async () => {
    expect(await look({ data: 1000, most: 1010, occupied: 1000, free: 10 })).toBeNull();
    expect(await look({ data: 1000, most: 1000, occupied: 1000, free: 0 })).toBeNull();
    expect(await look({ occupied: 0, free: 0 })).toBeNull();
  });
});
