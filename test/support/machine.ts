/**
 * A VM of an instance, with the test guest on its disks: made by the cmdlets, followed at its console, judged at the end byte by byte
 * by readers that are not the engine's. The guest outlives the host; so does this object.
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { expect } from 'vitest';
import { checkDisk, fillImage, makeSeed, type ImageFormat } from '../../scripts/demo/disks.js';
import type { VmStorageError } from '../../src/model/errors.js';
import type { Collected } from '../../src/client/invoke.js';
import { systemProcesses } from '../../src/os/processes.js';
import type { WireObject, WireValue } from '../../src/protocol/messages.js';
import { GUEST_USERS_DEFAULT } from '../../src/registry/guest-users.js';
import { DONE_LIMIT_MS, GuestConsole } from './guest.js';
import { guestKernel } from './guest-kernel.js';
import type { CmdletCall, Instance } from './instance.js';
import { SideMonitor } from './side-monitor.js';
import { until } from './until.js';
import { WorkerProbe } from './worker-probe.js';

const MIB = 1024 * 1024;
const MEMORY_BYTES = 256 * MIB;
export const DISK_BYTES = 512 * MIB;

export interface MachineOptions {
  readonly name: string;
  /** Where its storage is made. */
  readonly folder: string;
  /** Default: a dynamic VHDX and a raw disk, 512 MiB with 256 MiB of random data each. */
  readonly disks?: readonly string[];
  /** Block devices, attached after the disks by their paths in /dev. The guest works on them too, and it alone checks them. */
  readonly devices?: readonly string[];
  /** Default: 1. */
  readonly processors?: number;
  /** Of the guest (test/guest/init.c); false: no seed and no kernel, for a VM that is never started. */
  readonly guest?: string;
}

export const formatOf = (path: string): ImageFormat => (path.endsWith('.vhdx') ? 'vhdx' : 'raw');

export class Machine implements AsyncDisposable {
  /** The paths of its disks as it was made; the same leaf names later. */
  readonly disks: readonly string[];
  readonly probe: WorkerProbe;
  readonly console: GuestConsole;
  private readonly side: SideMonitor;
  /** The console's position when its QEMU was started last. */
  startedAt = 0;

  private constructor(
    private readonly instance: Instance,
    readonly name: string,
    readonly id: string,
    disks: readonly string[],
    private readonly seeds: readonly string[],
    private readonly devices: readonly string[],
  ) {
    this.side = new SideMonitor(join(instance.folder, 'qemu', `side-${id}.sock`));
    this.disks = disks;
    this.probe = new WorkerProbe(instance.paths.workerSocket(id));
    this.console = new GuestConsole(instance.paths.vmLog(id, 'console'));
  }

  static async create(
    instance: Instance,
    { name, folder, disks = ['system.vhdx', 'data.img'], devices = [], processors = 1, guest = '' }: MachineOptions,
  ): Promise<Machine> {
    await mkdir(folder, { recursive: true });
    const paths = disks.map((leaf) => join(folder, leaf));
    const seeds: string[] = [];
    for (const path of paths) {
      const seed = join(instance.folder, `${name}-${basename(path)}.seed`);
      await instance.run(
        'New-VHD',
        { Path: [path], SizeBytes: String(DISK_BYTES), [formatOf(path) === 'vhdx' ? 'Dynamic' : 'Fixed']: true },
        { set: formatOf(path) === 'vhdx' ? 'DynamicWithoutSource' : 'FixedWithoutSource' },
      );
      await makeSeed(seed, DISK_BYTES);
      await fillImage(seed, path, formatOf(path));
      seeds.push(seed);
    }
    const { kernel, initrd } = guestKernel();
    const [vm] = await instance.run(
      'New-VM',
      {
        Name: name,
        MemoryStartupBytes: String(MEMORY_BYTES),
        Path: folder,
        VHDPath: paths[0]!,
        KernelPath: kernel,
        InitialRamdiskPath: initrd,
        KernelArguments: `quiet panic=-1 ${guest}`,
      },
      { set: 'Existing VHD' },
    );
    if (processors > 1) await instance.run('Set-VM', { Name: [name], ProcessorCount: String(processors) });
    for (const path of [...paths.slice(1), ...devices]) await instance.run('Add-VMHardDiskDrive', { VMName: [name], Path: path });
    return new Machine(instance, name, String(vm!['Id']), paths, seeds, devices);
  }

  /** Start-VM; resolves when the guest has its disks open and its load begins. */
  async start(): Promise<void> {
    const boots = this.console.lines.filter((line) => line.ev === 'ready').length;
    this.startedAt = this.console.here;
    await this.instance.run('Start-VM', { Name: [this.name] });
    // Root gives each of them a user of its own, in every test.
    if (process.geteuid?.() === 0) expect(systemProcesses.userOf(this.qemuPid)).toBeGreaterThanOrEqual(GUEST_USERS_DEFAULT.first);
    const ready = await this.console.ready(boots + 1);
    expect(ready.disks).toBe(this.disks.length + this.devices.length);
  }

  get qemuPid(): number {
    return Number(readFileSync(this.instance.paths.qemuPidFile(this.id), 'utf8'));
  }

  /** A command at the VM's second monitor: what an operator at the console would do, behind the host's back. */
  monitor(command: string, parameters: Record<string, unknown> = {}): Promise<unknown> {
    return this.side.call(command, parameters);
  }

  get(): Promise<WireObject> {
    return this.instance.run('Get-VM', { Name: [this.name] }).then(([vm]) => vm!);
  }

  /** Where its disks are now, in their order. */
  async diskPaths(): Promise<string[]> {
    const vm = await this.get();
    return (vm['HardDrives'] as WireObject[]).map((drive) => String(drive['Path']));
  }

  move(to: string, how: CmdletCall & { readonly more?: { readonly [name: string]: WireValue } } = {}): Promise<Collected> {
    const { more = {}, ...call } = how;
    return this.settled('Move-VMStorage', { Name: this.name, DestinationStoragePath: to, ...more }, call);
  }

  moveVhds(pairs: readonly (readonly [string, string])[], how: CmdletCall = {}): Promise<Collected> {
    const Vhds = pairs.map(([SourceFilePath, DestinationFilePath]) => ({ SourceFilePath, DestinationFilePath }));
    return this.settled('Move-VMStorage', { Name: this.name, Vhds }, { set: 'NameMultipleDestinations', ...how });
  }

  private async settled(cmdlet: string, bound: { readonly [name: string]: WireValue }, how: CmdletCall): Promise<Collected> {
    const collected = await this.instance.collect(cmdlet, bound, how);
    if (collected.errors[0]) throw collected.errors[0];
    return collected;
  }

  /** The last move of it that Get-VMStorageMove shows. */
  lastMove(): Promise<WireObject | undefined> {
    return this.instance.run('Get-VMStorageMove', { Name: [this.name] }).then(([move]) => move);
  }

  /** Resolves with a move once it has an outcome; for moves whose client is gone. */
  moveEnds(moveId: string, limitMs = 120_000): Promise<WireObject> {
    return until(
      `move ${moveId} of ${this.name} has ended`,
      async () => {
        const moves = await this.instance.run('Get-VMStorageMove', { Name: [this.name] });
        return moves.find((move) => move['MoveId'] === moveId && move['EndTime'] !== null);
      },
      limitMs,
    );
  }

  /** Resolves when the VM is in `state` by Get-VM. */
  async is(state: string): Promise<void> {
    await until(`${this.name} is ${state}`, async () => ((await this.get())['State'] === state ? true : undefined));
  }

  /** No error and no wrong block on any boot so far. */
  expectNoGuestError(): void {
    expect(this.console.faults).toEqual([]);
    expect(this.console.errorCounts).toEqual({ errors: 0, mismatches: 0 });
  }

  /** Stop-VM by the power button, then every byte of every disk at `paths` against what the guest says and the seed. */
  async stopAndCheck(paths: readonly string[]): Promise<void> {
    const from = this.console.here;
    await this.instance.run('Stop-VM', { Name: [this.name] });
    await this.checkDone(from, paths);
  }

  /** For a guest that was told to stop already: its last words since `from`, and every byte. */
  async checkDone(from: number, paths: readonly string[]): Promise<void> {
    // Its tables before that, told while it wrote, may be cut by `from`.
    await this.console.waitForLine('stopping', DONE_LIMIT_MS, from);
    const stopping = this.console.lines.findIndex((line, i) => i >= from && line.ev === 'stopping');
    const { verified, tables } = await this.console.done(stopping);
    this.expectNoGuestError();
    expect(verified).toHaveLength(this.disks.length + this.devices.length);
    await this.is('Off');
    for (const [i, path] of paths.entries()) {
      const table = tables.find(({ disk }) => disk === `vd${String.fromCharCode(97 + i)}`);
      expect(table, `the versions of disk ${i}`).toBeDefined();
      const check = await checkDisk(path, formatOf(path), table!, this.seeds[i]!, join(this.instance.folder, 'plain'));
      expect(check).toMatchObject({ blocksWrong: 0, findings: [] });
      expect(check.blocksChecked).toBe(DISK_BYTES / 4096);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.probe[Symbol.dispose]();
    this.side[Symbol.dispose]();
    await this.console.close();
  }
}

/** How a move that has to fail did so: `Code: message`. Listens at once, so that no rejection is unhandled. */
export function reasonOf(moving: Promise<unknown>): Promise<string> {
  return moving.then(
    () => 'it succeeded',
    (error: VmStorageError) => `${error.code}: ${error.message}`,
  );
}

/** Everything below a folder that is not a folder. */
export function filesBelow(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}
