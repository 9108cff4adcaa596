/**
 * Our side: a worker process as the host starts it, with one disk, driven over its socket by the host's own client. Nothing of the
 * benchmark is on its data path.
 */
import { rm } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { WorkerLink } from '../../src/host/worker-link.js';
import type { MovePlan, MovePhase, MoveStatus } from '../../src/model/move.js';
import type { DiskFormat } from '../../src/model/vm.js';
import { currentBootId } from '../../src/os/processes.js';
import { repository } from '../../test/support/guest-kernel.js';
import { type Child, type Children, whenReady } from './children.js';
import { flushFile } from './images.js';

const START_LIMIT_MS = 30_000;
/** Opening, locking, listening. */
const SERVE_LIMIT_MS = 60_000;
const VM_ID = '00000000-0000-4000-8000-000000000001';
const before: ReadonlySet<MovePhase> = new Set(['queued', 'plan', 'check', 'prepare', 'copy']);

export interface ServedDisk {
  readonly path: string;
  readonly format: DiskFormat;
  readonly vhostUserSocket: string | null;
  /** Of the vhost-user socket; 1 where nothing is said. */
  readonly queues?: number;
}

export interface MoveTimes {
  /** Until everything has been copied once and the target has been flushed. */
  readonly copySeconds: number;
  /** Until the worker serves the target, everything verified. */
  readonly seconds: number;
  readonly status: MoveStatus;
}

export class BenchWorker {
  private constructor(
    private readonly child: Child,
    private readonly link: WorkerLink,
    private readonly disk: ServedDisk,
    /** Which reactor it uses. */
    readonly io: string,
    private readonly files: { readonly socket: string; readonly journalPath: string },
  ) {}

  static async start(children: Children, folder: string, disk: ServedDisk): Promise<BenchWorker> {
    const socket = join(folder, 'worker.sock');
    const journalPath = join(folder, 'move.journal');
    const child = children.start(process.execPath, [join(repository, 'dist/src/worker/main.js'), '--socket', socket, '--vm', VM_ID]);
    // The socket is renamed into place when the worker listens on it.
    const link = await whenReady(child, START_LIMIT_MS, async () => (existsSync(socket) ? WorkerLink.open(socket) : undefined));
    const served = { index: 0, queues: 1, ...disk, readOnly: false, nbdSocket: null };
    const { io } = await link.call('serve', { vmId: VM_ID, disks: [served], journalPath }, { timeoutMs: SERVE_LIMIT_MS });
    return new BenchWorker(child, link, disk, io, { socket, journalPath });
  }

  get pid(): number {
    return this.child.pid;
  }

  /** Moves the disk to `target`; the source file stays. */
  async move(target: string): Promise<MoveTimes> {
    let copied: Promise<number> | null = null;
    const began = performance.now();
    const secondsSince = (): number => (performance.now() - began) / 1000;
    const over = new Promise<MoveStatus>((resolve) =>
      this.link.subscribe((message) => {
        if (message.event !== 'move') return;
        // The copy counts as done when its data would outlive a power cut, as qemu-img convert's does.
        if (!before.has(message.status.phase) && copied === null) {
          copied = flushFile(target).then(secondsSince);
          copied.catch(() => undefined); // heard of below
        }
        if (message.status.outcome !== null) resolve(message.status);
      }),
    );
    await this.link.call(
      'startMove',
      { plan: planOf(this.disk, target), journalPath: this.files.journalPath },
      { timeoutMs: SERVE_LIMIT_MS },
    );
    const lost = this.link.closed.then((why) =>
      Promise.reject(new Error(`The worker ended in the middle of a move: ${why} ${this.child.said}`)),
    );
    const status = await Promise.race([over, lost]);
    const seconds = secondsSince();
    if (status.outcome?.ok !== true) throw new Error(`The move failed: ${status.outcome?.message}`);
    const copySeconds = await (copied ?? Promise.reject(new Error('The worker did not say that the copy was done.')));
    await this.link.call('releaseMove', {});
    await this.link.call('endMove', {});
    return { copySeconds, seconds, status };
  }

  async end(): Promise<void> {
    this.link.close();
    await this.child.kill();
    for (const path of Object.values(this.files)) await rm(path, { force: true });
  }
}

/** The engine reads the disks; the rest is the host's and is kept for it. */
function planOf(disk: ServedDisk, target: string): MovePlan {
  const createdAt = new Date().toISOString();
  return {
    schema: 1,
    ...{ moveId: crypto.randomUUID(), vmId: VM_ID, vmName: 'bench', createdAt, bootId: currentBootId(), generation: 1 },
    disks: [{ disk: 0, source: disk.path, target, format: disk.format }],
    after: {
      schema: 1,
      ...{ id: VM_ID, name: 'bench', generation: 2, memoryStartupBytes: 512 * 1024 * 1024, processorCount: 1, notes: '' },
      ...{ path: '/', snapshotFileLocation: '/', smartPagingFilePath: '/', directBoot: null, createdAt },
      disks: [
        {
          ...{ id: VM_ID, controllerType: 'SCSI', controllerNumber: 0, controllerLocation: 0 },
          ...{ path: target, format: disk.format, passThrough: false },
        },
      ],
      ...{ automaticStartAction: 'Nothing', automaticStopAction: 'ShutDown' },
    },
    configurationSource: '/bench.vmcx',
    configurationTarget: '/bench.vmcx',
    createdFolders: [],
    keepSources: [{ path: disk.path, reason: 'it is measured again' }],
  };
}
