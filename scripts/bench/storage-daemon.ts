/** The peer that serves and mirrors: qemu-storage-daemon, driven over QMP. */
import { existsSync } from 'node:fs';
import { Qmp, type QmpEvent } from '../../src/hypervisor/qmp.js';
import { type Child, type Children, whenReady } from './children.js';
import { MIRROR_JOB, mirrorCommand, storageDaemonArguments, type StorageDaemonPlace } from './qemu-programs.js';

const START_LIMIT_MS = 30_000;

export interface MirrorTimes {
  /** From the command to the end of the job, which is when the export is on the target. */
  readonly seconds: number;
  /** From block-job-complete to BLOCK_JOB_COMPLETED: the export is drained in it. */
  readonly switchUs: number;
}

export class StorageDaemon {
  readonly #events: { readonly name: string; readonly resolve: (data: QmpEvent['data']) => void }[] = [];

  private constructor(
    private readonly child: Child,
    private readonly qmp: Qmp,
  ) {
    qmp.subscribe(({ event, data }) => {
      for (const waiting of this.#events.filter(({ name }) => name === event)) waiting.resolve(data);
    });
  }

  static async start(children: Children, place: StorageDaemonPlace): Promise<StorageDaemon> {
    const child = children.start('qemu-storage-daemon', storageDaemonArguments(place));
    const qmp = await whenReady(child, START_LIMIT_MS, async () => {
      if (!existsSync(place.qmpSocket) || (place.vhostUserSocket !== null && !existsSync(place.vhostUserSocket))) return undefined;
      return Qmp.open(place.qmpSocket, null);
    });
    return new StorageDaemon(child, qmp);
  }

  get pid(): number {
    return this.child.pid;
  }

  /** Mirrors the source to the target and switches to it as soon as both are equal. */
  async mirror(): Promise<MirrorTimes> {
    const [ready, completed] = [this.#event('BLOCK_JOB_READY'), this.#event('BLOCK_JOB_COMPLETED')];
    const began = performance.now();
    await this.qmp.call('blockdev-mirror', mirrorCommand);
    const early = await Promise.race([ready.then(() => null), completed, this.#gone()]);
    if (early !== null) throw new Error(`QEMU's mirror ended before it was ready: ${JSON.stringify(early)}`);
    const switching = performance.now();
    await this.qmp.call('block-job-complete', { device: MIRROR_JOB });
    const data = await Promise.race([completed, this.#gone()]);
    const end = performance.now();
    if (data['error'] !== undefined) throw new Error(`QEMU's mirror failed: ${JSON.stringify(data['error'])}`);
    return { seconds: (end - began) / 1000, switchUs: (end - switching) * 1000 };
  }

  async end(): Promise<void> {
    this.qmp.close();
    await this.child.kill();
  }

  #event(name: string): Promise<QmpEvent['data']> {
    return new Promise((resolve) => this.#events.push({ name, resolve }));
  }

  async #gone(): Promise<never> {
    await this.child.ended;
    throw new Error(`qemu-storage-daemon ended: ${this.child.said}`);
  }
}
