/** A disk nobody uses: the copy beside `qemu-img convert`, the whole move beside QEMU's mirror, with and without a comparison after it. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { DiskFormat } from '../../../src/model/vm.js';
import { BenchWorker } from '../bench-worker.js';
import type { Figures } from '../document.js';
import { makeEmptyImage } from '../images.js';
import { compareArguments, convertArguments } from '../qemu-programs.js';
import { StorageDaemon } from '../storage-daemon.js';
import type { Bench, Case } from './case.js';

const sourceOf = (bench: Bench, format: DiskFormat): string => (format === 'raw' ? bench.rawImage : bench.vhdxImage);

/** Runs `work` with the path of a target that is gone afterwards. */
async function withTarget<T>(bench: Bench, format: DiskFormat, work: (target: string) => Promise<T>): Promise<T> {
  const target = join(bench.folder, format === 'raw' ? 'target.img' : 'target.vhdx');
  try {
    return await work(target);
  } finally {
    await rm(target, { force: true });
  }
}

const move = (format: DiskFormat) => (bench: Bench) =>
  withTarget(bench, format, async (target): Promise<Figures> => {
    const worker = await BenchWorker.start(bench.children, bench.folder, { path: sourceOf(bench, format), format, vhostUserSocket: null });
    try {
      const { copySeconds, seconds } = await worker.move(target);
      return { copy: bench.sizeMiB / copySeconds, whole: bench.sizeMiB / seconds };
    } finally {
      await worker.end();
    }
  });

const convert = (format: DiskFormat) => (bench: Bench) =>
  withTarget(bench, format, async (target): Promise<Figures> => {
    const seconds = await bench.children.run('qemu-img', convertArguments(format, sourceOf(bench, format), target));
    return { copy: bench.sizeMiB / seconds };
  });

const mirror = (bench: Bench): Promise<Figures> =>
  withTarget(bench, 'raw', async (target) => {
    const qmpSocket = join(bench.folder, 'qmp.sock');
    await makeEmptyImage(target, bench.sizeMiB);
    const daemon = await StorageDaemon.start(bench.children, { source: bench.rawImage, target, vhostUserSocket: null, qmpSocket });
    let seconds;
    try {
      ({ seconds } = await daemon.mirror());
    } finally {
      await daemon.end();
      await rm(qmpSocket, { force: true });
    }
    const comparing = await bench.children.run('qemu-img', compareArguments('raw', bench.rawImage, target));
    return { whole: bench.sizeMiB / seconds, verified: bench.sizeMiB / (seconds + comparing) };
  });

const common = { unit: 'MiB/s', better: 'higher' } as const;

export const idleMoves: readonly Case[] = [
  {
    rows: [
      {
        ...common,
        name: 'idle-copy-raw',
        ours: ['move', 'copy'],
        peer: ['convert', 'copy'],
        peerName: 'qemu-img convert -W -m 16 -t none -T none',
      },
      {
        ...{ ...common, name: 'whole-move-raw', ours: ['move', 'whole'], peer: ['mirror', 'verified'] },
        peerName: 'qemu-storage-daemon blockdev-mirror, then qemu-img compare -T none',
      },
      {
        ...{ ...common, name: 'whole-move-raw-unverified-peer', ours: ['move', 'whole'], peer: ['mirror', 'whole'] },
        peerName: 'qemu-storage-daemon blockdev-mirror alone, nothing verified',
      },
    ],
    runs: { move: move('raw'), convert: convert('raw'), mirror },
  },
  {
    rows: [
      {
        ...{ ...common, name: 'idle-copy-vhdx', ours: ['move', 'copy'], peer: ['convert', 'copy'] },
        peerName: 'qemu-img convert -W -m 16 -t none -T none -O vhdx',
      },
    ],
    runs: { move: move('vhdx'), convert: convert('vhdx') },
  },
];
