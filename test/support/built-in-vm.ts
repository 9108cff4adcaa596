/** A VM of an instance under the built-in guest's verified load: no hypervisor, no boot, and every byte in a ledger that judges at the end. */
import { existsSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { Collected } from '../../src/client/invoke.js';
import { WorkerLink } from '../../src/host/worker-link.js';
import { askGuest } from '../../src/hypervisor/built-in-control.js';
import { guestReportFile, ledgerFolder } from '../../src/hypervisor/built-in.js';
import { native, type NativeGuestDisk, type NativeGuestReport } from '../../src/native/binding.js';
import { callNative } from '../../src/native/errors.js';
import type { WireObject } from '../../src/protocol/messages.js';
import type { ServedDisk, WorkerMethod, WorkerMethods } from '../../src/protocol/worker.js';
import { formatOf } from '../../src/model/disk-format.js';
import type { Instance } from './instance.js';
import { until } from './until.js';
import { WorkerProbe } from './worker-probe.js';

/** A stop reads back everything first. */
const ANSWER_LIMIT_MS = 60_000;

export interface BuiltInVmOptions {
  readonly name: string;
  readonly folder: string;
  /** One dynamic VHDX (the first), the others raw. */
  readonly diskBytes: readonly number[];
}

export class BuiltInVm {
  readonly probe: WorkerProbe;

  private constructor(
    private readonly instance: Instance,
    readonly name: string,
    readonly id: string,
    readonly leaves: readonly string[],
    private readonly made: readonly string[],
  ) {
    this.probe = new WorkerProbe(instance.paths.workerSocket(id));
  }

  /** For `Instance.start`: its machines run the built-in guest, gently enough for a machine with two processors, or with this load. */
  static async environment(instance: Instance, load: object = {}): Promise<void> {
    instance.environment['VMSTORAGE_HYPERVISOR'] = 'built-in';
    instance.environment['VMSTORAGE_BUILT_IN_GUEST'] = JSON.stringify({ queueDepth: 8, rate: 400, flushEvery: 16, seed: 7, ...load });
  }

  static async create(instance: Instance, { name, folder, diskBytes }: BuiltInVmOptions): Promise<BuiltInVm> {
    await mkdir(folder, { recursive: true });
    const leaves = diskBytes.map((_, index) => (index === 0 ? `${name}.vhdx` : `${name}-${index}.img`));
    const paths = leaves.map((leaf) => join(folder, leaf));
    for (const [index, path] of paths.entries()) {
      const kind = index === 0 ? 'Dynamic' : 'Fixed';
      await instance.run(
        'New-VHD',
        { Path: [path], SizeBytes: String(diskBytes[index]), [kind]: true },
        { set: index === 0 ? 'DynamicWithoutSource' : 'FixedWithoutSource' },
      );
    }
    const [vm] = await instance.run('New-VM', { Name: name, Path: folder, VHDPath: paths[0]! }, { set: 'Existing VHD' });
    for (const path of paths.slice(1)) await instance.run('Add-VMHardDiskDrive', { VMName: [name], Path: path });
    return new BuiltInVm(instance, name, String(vm!['Id']), leaves, paths);
  }

  async start(): Promise<void> {
    await this.instance.run('Start-VM', { Name: [this.name] });
    await this.goesOn(2);
  }

  guest(): Promise<readonly NativeGuestDisk[]> {
    return askGuest(this.instance.paths.guestSocket(this.id), 'stats', ANSWER_LIMIT_MS);
  }

  /** The guest is answered on every disk, this many writes more, and nothing was wrong so far. */
  async goesOn(writes = 16): Promise<void> {
    const before = await this.guest();
    const now = await until('the guest goes on', async () => {
      const disks = await this.guest();
      return disks.every((disk, i) => disk.connected && disk.writes > before[i]!.writes + writes) ? disks : undefined;
    });
    expect(now.map(({ ioErrors, wrongBlocks }) => ({ ioErrors, wrongBlocks }))).toEqual(now.map(() => ({ ioErrors: 0, wrongBlocks: 0 })));
  }

  get(): Promise<WireObject> {
    return this.instance.run('Get-VM', { Name: [this.name] }).then(([vm]) => vm!);
  }

  async diskPaths(): Promise<string[]> {
    return ((await this.get())['HardDrives'] as WireObject[]).map((drive) => String(drive['Path']));
  }

  async move(to: string): Promise<Collected> {
    const collected = await this.instance.collect('Move-VMStorage', { Name: this.name, DestinationStoragePath: to });
    if (collected.errors[0]) throw collected.errors[0];
    return collected;
  }

  async journalIsThere(): Promise<void> {
    await until('the journal of the move', () => existsSync(this.instance.paths.journal(this.id)) || undefined);
  }

  /** What the host tells its worker to serve, as it was made. */
  servedDisks(): readonly ServedDisk[] {
    return this.made.map((path, index) => ({
      index,
      path,
      format: formatOf(path),
      readOnly: false,
      queues: 1,
      vhostUserSocket: this.instance.paths.diskSocket(this.id, index),
      nbdSocket: null,
      owner: process.geteuid!(),
    }));
  }

  /** A question to the worker beside the host's. */
  async askWorker<M extends WorkerMethod>(method: M, params: WorkerMethods[M]['params']): Promise<WorkerMethods[M]['result']> {
    const link = await WorkerLink.open(this.instance.paths.workerSocket(this.id));
    try {
      return await link.call(method, params);
    } finally {
      link.close();
    }
  }

  /** Stop-VM, then the guest's own report and every byte of every disk, wherever it is by now. */
  async stopAndCheck(): Promise<void> {
    const paths = await this.diskPaths();
    await this.instance.run('Stop-VM', { Name: [this.name] });
    const logs = this.instance.paths.vmLogFolder(this.id);
    const report = JSON.parse(readFileSync(guestReportFile(logs), 'utf8')) as NativeGuestReport;
    expect({ clean: report.clean, stuck: report.stuck }).toEqual({ clean: true, stuck: 0 });
    for (const [index, path] of paths.entries()) {
      const verdict = await callNative(native().verifyByLedger(path, formatOf(path), join(ledgerFolder(logs), `disk${index}.ledger`)));
      expect(verdict).toMatchObject({ blocksWrong: 0n, firstWrong: null });
    }
  }
}
