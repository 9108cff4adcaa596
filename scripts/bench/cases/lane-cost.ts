/**
 * What a lane costs a mirrored write: the same move under the same guest, to the source's own file system, where there is no lane, and to
 * another one. Both file systems are memory of their own, so that nothing but the way there differs. For root, who may mount them.
 */
import { copyFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { mountTmpfs } from '../../../test/support/mounts.js';
import { BenchWorker } from '../bench-worker.js';
import type { Figures } from '../document.js';
import { GuestLoad, type Load } from '../guest-load.js';
import type { Bench, Case } from './case.js';

/** One write after the other: what is waited for is one way there and back. */
const WRITES: Omit<Load, 'spanBytes'> = { queueDepth: 1, writePercent: 100, rate: 2000, flushEvery: 0 };
/** The guest's part of the disk at most. */
const SPAN_MOST_BYTES = 64 * 1024 * 1024;
/** First touches of memory are no part of the window. */
const WARM_UP_MS = 500;

const moveBetween =
  (target: 'here' | 'there') =>
  async (bench: Bench): Promise<Figures> => {
    const size = `size=${3 * bench.sizeMiB}m`;
    const here = await mountTmpfs(join(bench.folder, 'here'), size);
    const there = await mountTmpfs(join(bench.folder, 'there'), size);
    const [path, socket] = [join(here.path, 'disk.img'), join(bench.folder, 'disk.sock')];
    try {
      await copyFile(bench.rawImage, path);
      const worker = await BenchWorker.start(bench.children, bench.folder, { path, format: 'raw', vhostUserSocket: socket });
      try {
        const spanBytes = Math.min(SPAN_MOST_BYTES, (bench.sizeMiB / 2) * 1024 * 1024);
        const guest = await GuestLoad.start(socket, { ...WRITES, spanBytes });
        await new Promise((resolve) => setTimeout(resolve, WARM_UP_MS));
        guest.takeWaits();
        const { seconds } = await worker.move(join(bench.folder, target, 'target.img'));
        const { count, p50Us, p99Us } = guest.takeWaits();
        await guest.stop();
        if (count === 0) throw new Error('The guest had no request answered while its disk moved.');
        return { p50: p50Us, p99: p99Us, rate: bench.sizeMiB / seconds };
      } finally {
        await worker.end();
      }
    } finally {
      await rm(socket, { force: true });
      for (const mount of [there, here]) await mount[Symbol.asyncDispose]();
    }
  };

const peerName = 'the same move within one file system, without a lane';

/** None where nothing may be mounted. */
export const laneCost: readonly Case[] =
  process.getuid?.() === 0
    ? [
        {
          rows: [
            { ...{ name: 'lane-write-p50', unit: 'us', better: 'lower', peerName }, ours: ['lane', 'p50'], peer: ['none', 'p50'] },
            { ...{ name: 'lane-write-p99', unit: 'us', better: 'lower', peerName }, ours: ['lane', 'p99'], peer: ['none', 'p99'] },
            { ...{ name: 'lane-move-rate', unit: 'MiB/s', better: 'higher', peerName }, ours: ['lane', 'rate'], peer: ['none', 'rate'] },
          ],
          runs: { lane: moveBetween('there'), none: moveBetween('here') },
        },
      ]
    : [];
