/** 4 KiB requests through a vhost-user-blk export, and what the serving process spends on each. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { systemProcesses } from '../../../src/os/processes.js';
import { BenchWorker } from '../bench-worker.js';
import type { Figures } from '../document.js';
import { GuestLoad } from '../guest-load.js';
import { putApart } from '../placement.js';
import { StorageDaemon } from '../storage-daemon.js';
import type { Bench, Case } from './case.js';

interface Profile {
  readonly name: string;
  readonly queues: number;
  readonly queueDepth: number;
  readonly writePercent: number;
  readonly flushEvery: number;
}

const profiles: readonly Profile[] = [
  { name: 'read-qd1', queues: 1, queueDepth: 1, writePercent: 0, flushEvery: 0 },
  { name: 'write-qd1', queues: 1, queueDepth: 1, writePercent: 100, flushEvery: 0 },
  { name: 'read-qd32', queues: 1, queueDepth: 32, writePercent: 0, flushEvery: 0 },
  { name: 'write-qd32', queues: 1, queueDepth: 32, writePercent: 100, flushEvery: 0 },
  { name: 'mixed-qd32', queues: 1, queueDepth: 32, writePercent: 30, flushEvery: 64 },
  // Beside the row before it: what four queues of a guest with four processors cost, with as many requests in flight.
  { name: 'mixed-qd32-queues4', queues: 4, queueDepth: 32, writePercent: 30, flushEvery: 64 },
];
const WARM_UP_MS = 300;

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function loadOn(bench: Bench, socket: string, pid: number, profile: Profile): Promise<Figures> {
  const { queues, queueDepth, writePercent, flushEvery } = profile;
  const spanBytes = bench.sizeMiB * 1024 * 1024;
  const identity = systemProcesses.identify(pid);
  const processorMs = (): number => {
    const time = identity && systemProcesses.processorTimeMs(identity);
    if (time === null) throw new Error('The serving process is gone.');
    return time;
  };
  const guest = await GuestLoad.start(socket, { queues, queueDepth, writePercent, flushEvery, spanBytes, rate: null });
  // With many requests under way nobody waits for a wake-up; there the kernel knows best.
  if (queueDepth === 1) await putApart(bench.children, pid);
  await sleep(WARM_UP_MS);
  guest.takeWaits();
  const [began, usedBefore] = [performance.now(), processorMs()];
  await sleep(bench.windowSeconds * 1000);
  const { count } = guest.takeWaits();
  const [seconds, usedMs] = [(performance.now() - began) / 1000, processorMs() - usedBefore];
  await guest.stop();
  // A clock tick at least: the processor's time is counted in ticks of 10 ms.
  return { perSecond: count / seconds, processorUs: (Math.max(usedMs, 10) * 1000) / Math.max(count, 1) };
}

const ours =
  (profile: Profile) =>
  async (bench: Bench): Promise<Figures> => {
    const socket = join(bench.folder, 'disk.sock');
    const worker = await BenchWorker.start(bench.children, bench.folder, {
      ...{ path: bench.rawImage, format: 'raw', vhostUserSocket: socket, queues: profile.queues },
    });
    try {
      return await loadOn(bench, socket, worker.pid, profile);
    } finally {
      await worker.end();
      await rm(socket, { force: true });
    }
  };

const peer =
  (profile: Profile) =>
  async (bench: Bench): Promise<Figures> => {
    const [socket, qmpSocket] = [join(bench.folder, 'disk.sock'), join(bench.folder, 'qmp.sock')];
    const place = { source: bench.rawImage, target: null, vhostUserSocket: socket, queues: profile.queues, qmpSocket };
    const daemon = await StorageDaemon.start(bench.children, place);
    try {
      return await loadOn(bench, socket, daemon.pid, profile);
    } finally {
      await daemon.end();
      await Promise.all([socket, qmpSocket].map((path) => rm(path, { force: true })));
    }
  };

const peerName = 'qemu-storage-daemon vhost-user-blk export';

export const vhostUserIo: readonly Case[] = profiles.map((profile) => ({
  rows: [
    {
      ...{ name: `vhost-4k-${profile.name}`, unit: 'requests/s', better: 'higher', peerName },
      ...{ ours: ['ours', 'perSecond'], peer: ['peer', 'perSecond'] },
    },
    {
      ...{ name: `vhost-4k-${profile.name}-processor`, unit: 'us/request', better: 'lower', peerName },
      ...{ ours: ['ours', 'processorUs'], peer: ['peer', 'processorUs'] },
    },
  ],
  runs: { ours: ours(profile), peer: peer(profile) },
}));
