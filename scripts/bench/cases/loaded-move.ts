/**
 * A disk that moves under a guest with a steady load: what the guest waits for at rest and while its disk moves, how long that takes, the
 * switch, and the memory of the process that serves it. QEMU's mirror runs beneath the vhost-user-blk export of its storage daemon.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { BenchWorker } from '../bench-worker.js';
import type { Figures, RowPlan } from '../document.js';
import { GuestLoad, type Load } from '../guest-load.js';
import { makeEmptyImage } from '../images.js';
import { mostWhile, privateDirtyMiB } from '../memory.js';
import { StorageDaemon } from '../storage-daemon.js';
import type { Bench, Case } from './case.js';

/** Well below what either side can serve: what is looked for is what the move adds. */
const STEADY: Omit<Load, 'spanBytes'> = { queueDepth: 8, writePercent: 50, rate: 1000, flushEvery: 16 };
/** The guest's part of the disk at most. */
const SPAN_MOST_BYTES = 256 * 1024 * 1024;
/** First touches of memory and disk are no part of a window. */
const WARM_UP_MS = 500;
/** Above what any server here needs to be quiet after its start. */
const SETTLE_MS = 300;

interface Served {
  readonly pid: number;
  move(): Promise<{ readonly seconds: number; readonly blackoutUs: number }>;
  end(): Promise<void>;
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const measure =
  (start: (bench: Bench, socket: string, target: string) => Promise<Served>) =>
  async (bench: Bench): Promise<Figures> => {
    const [socket, target] = [join(bench.folder, 'disk.sock'), join(bench.folder, 'target.img')];
    const served = await start(bench, socket, target);
    try {
      await sleep(SETTLE_MS);
      const idleMiB = await privateDirtyMiB(served.pid);
      const spanBytes = Math.min(SPAN_MOST_BYTES, (bench.sizeMiB / 2) * 1024 * 1024);
      const guest = await GuestLoad.start(socket, { ...STEADY, spanBytes });
      await sleep(WARM_UP_MS);
      guest.takeWaits();
      await sleep(bench.windowSeconds * 1000);
      const rest = guest.takeWaits();
      const { mostMiB, result } = await mostWhile(served.pid, () => served.move());
      const moving = guest.takeWaits();
      await guest.stop();
      if (rest.count === 0 || moving.count === 0) throw new Error('The guest had no request answered in a whole window.');
      return {
        ...{ restP50: rest.p50Us, restP99: rest.p99Us, restMax: rest.longestUs },
        ...{ movingP50: moving.p50Us, movingP99: moving.p99Us, movingMax: moving.longestUs },
        ...{ rate: bench.sizeMiB / result.seconds, blackout: result.blackoutUs, idleMiB, movingMiB: mostMiB },
      };
    } finally {
      await served.end();
      await Promise.all([socket, target].map((path) => rm(path, { force: true })));
    }
  };

async function startOurs(bench: Bench, socket: string, target: string): Promise<Served> {
  const worker = await BenchWorker.start(bench.children, bench.folder, { path: bench.rawImage, format: 'raw', vhostUserSocket: socket });
  return {
    pid: worker.pid,
    move: async () => {
      const { seconds, status } = await worker.move(target);
      if (status.blackoutUs === null) throw new Error('The worker did not say how long its switch held requests.');
      return { seconds, blackoutUs: status.blackoutUs };
    },
    end: () => worker.end(),
  };
}

async function startPeer(bench: Bench, socket: string, target: string): Promise<Served> {
  const qmpSocket = join(bench.folder, 'qmp.sock');
  await makeEmptyImage(target, bench.sizeMiB);
  const daemon = await StorageDaemon.start(bench.children, { source: bench.rawImage, target, vhostUserSocket: socket, qmpSocket });
  return {
    pid: daemon.pid,
    move: async () => {
      const { seconds, switchUs } = await daemon.mirror();
      return { seconds, blackoutUs: switchUs };
    },
    end: async () => {
      await daemon.end();
      await rm(qmpSocket, { force: true });
    },
  };
}

const EXPORT = 'qemu-storage-daemon vhost-user-blk export';
const MIRROR = `${EXPORT} over blockdev-mirror`;

const row = (name: string, figure: string, unit: string, peerName: string, better: RowPlan['better'] = 'lower'): RowPlan => ({
  ...{ name, unit, better, peerName },
  ours: ['ours', figure],
  peer: ['peer', figure],
});

export const loadedMove: Case = {
  rows: [
    row('loaded-move-rest-p50', 'restP50', 'us', EXPORT),
    row('loaded-move-rest-p99', 'restP99', 'us', EXPORT),
    row('loaded-move-rest-max', 'restMax', 'us', EXPORT),
    row('loaded-move-moving-p50', 'movingP50', 'us', MIRROR),
    row('loaded-move-moving-p99', 'movingP99', 'us', MIRROR),
    row('loaded-move-moving-max', 'movingMax', 'us', MIRROR),
    row('loaded-move-rate', 'rate', 'MiB/s', `${MIRROR}, nothing verified`, 'higher'),
    row('blackout', 'blackout', 'us', 'qemu-storage-daemon, block-job-complete to BLOCK_JOB_COMPLETED'),
    row('memory-idle', 'idleMiB', 'MiB', EXPORT),
    row('memory-moving', 'movingMiB', 'MiB', MIRROR),
  ],
  runs: { ours: measure(startOurs), peer: measure(startPeer) },
};
