/**
 * One instance of vmstorage in a temporary folder that is killed again and again: its host (started again at once, as systemd does), its
 * machine with two disks under the built-in guest's load, and the questions a round asks of it.
 *
 * ```text
 * <folder>/h   VMSTORAGE_HOME       <folder>/a, <folder>/b   the two places its storage moves between       <folder>/kill   armed points
 * ```
 */
import { spawn, type ChildProcess } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { invokeAndCollect, type Collected } from '../../src/client/invoke.js';
import { askGuest } from '../../src/hypervisor/built-in-control.js';
import { ledgerFolder } from '../../src/hypervisor/built-in.js';
import { VmStorageError } from '../../src/model/errors.js';
import type { NativeGuestDisk } from '../../src/native/binding.js';
import { instancePaths, type InstancePaths } from '../../src/os/paths.js';
import type { WireValue } from '../../src/protocol/messages.js';
import { repository } from '../../test/support/guest-kernel.js';
import { killLeftovers, leftoversAfter, markedProcesses } from '../../test/support/leftovers.js';
import { removeMemoryFolder } from '../../test/support/memory-folder.js';
import { SCRATCH_PREFIX } from '../../test/support/scratch.js';
import { SPAN_BYTES, type CrashDisk, type Shape } from './shapes.js';

export const VM_NAME = 'crash';
export type Side = 'a' | 'b';
export const other = (side: Side): Side => (side === 'a' ? 'b' : 'a');

/** A host is there within a second; a busy machine takes longer. */
const HOST_LIMIT_MS = 60_000;
const LOOK_EVERY_MS = 20;
/** A stop reads back everything first. */
const CMDLET_LIMIT_MS = 180_000;

export const sleep = (delayMs: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, delayMs));

/** Asks until the answer is not undefined; throws with what was waited for when the time is over. */
export async function until<T>(what: string, limitMs: number, condition: () => Promise<T | undefined> | T | undefined): Promise<T> {
  const limit = performance.now() + limitMs;
  for (;;) {
    const value = await condition();
    if (value !== undefined) return value;
    if (performance.now() > limit) throw new Stuck(`not within ${limitMs / 1000} s: ${what}`);
    await sleep(LOOK_EVERY_MS);
  }
}

/** Something that should have happened did not. */
export class Stuck extends Error {}
/** The guest saw what it must not see. */
export class GuestFailure extends Error {}

export class CrashInstance {
  readonly folder: string;
  readonly home: string;
  readonly killFile: string;
  readonly paths: InstancePaths;
  readonly #environment: NodeJS.ProcessEnv;
  #host: ChildProcess | null = null;
  #ending = false;
  #vmId = '';
  /** Times the host was started again; set to the wanted delay before each kill. */
  hostStarts = 0;
  restartDelayMs = 0;
  /** A host that ended by itself, in words. */
  hostFailure: string | null = null;

  constructor(
    readonly shape: Shape,
    load: object,
    place: string,
  ) {
    this.folder = mkdtempSync(join(place, `${SCRATCH_PREFIX}crash-`));
    this.home = join(this.folder, 'h');
    this.killFile = join(this.folder, 'kill');
    for (const folder of [this.home, this.place('a'), this.place('b')]) mkdirSync(folder, { mode: 0o700 });
    this.paths = instancePaths({ VMSTORAGE_HOME: this.home });
    this.#environment = {
      ...process.env,
      VMSTORAGE_HOME: this.home,
      VMSTORAGE_HYPERVISOR: 'built-in',
      VMSTORAGE_BUILT_IN_GUEST: JSON.stringify({ spanBytes: SPAN_BYTES, ...load }),
      VMSTORAGE_KILL_AT: `@${this.killFile}`,
    };
    delete this.#environment['VMSTORAGE_HOST'];
  }

  place(side: Side): string {
    return join(this.folder, side);
  }

  // --- the host ------------------------------------------------------------------------------------------------------------------

  startHost(): void {
    const log = openSync(join(this.home, 'host-output.log'), 'a', 0o600);
    const host = spawn(process.execPath, [join(repository, 'dist/src/host/main.js')], {
      env: this.#environment,
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    this.#host = host;
    this.hostStarts++;
    host.once('exit', (code, signal) => {
      if (this.#ending || this.#host !== host) return;
      this.#host = null;
      if (signal !== 'SIGKILL') this.hostFailure = `the host ended by itself (${signal ?? `code ${code}`})`;
      setTimeout(() => this.#ending || this.startHost(), this.restartDelayMs);
    });
  }

  get hostPid(): number | null {
    return this.#host?.pid ?? null;
  }

  async reachable(): Promise<void> {
    await until('the host answers', HOST_LIMIT_MS, async () => {
      if (this.hostFailure) throw new Error(this.hostFailure);
      return this.cmdlet('Get-VMHost', {}).then(
        () => true,
        (error: unknown) => (isAway(error) ? undefined : Promise.reject(error as Error)),
      );
    });
  }

  async cmdlet(name: string, bound: { readonly [parameter: string]: WireValue }, parameterSet = 'Name'): Promise<Collected> {
    const collected = await invokeAndCollect(name, parameterSet, bound, {
      address: this.paths.hostSocket,
      client: 'crash',
      signal: AbortSignal.timeout(CMDLET_LIMIT_MS),
    });
    if (collected.errors[0]) throw collected.errors[0];
    return collected;
  }

  /** A query, asked again while the host is away. */
  async ask(name: string, bound: { readonly [parameter: string]: WireValue }, parameterSet = 'Name'): Promise<Collected> {
    return until(`${name} is answered`, HOST_LIMIT_MS, () =>
      this.cmdlet(name, bound, parameterSet).catch((error: unknown) => (isAway(error) ? undefined : Promise.reject(error as Error))),
    );
  }

  // --- the machine ---------------------------------------------------------------------------------------------------------------

  async makeMachine(): Promise<void> {
    const folder = join(this.place('a'), 'Virtual Hard Disks');
    mkdirSync(folder);
    const { disks, processors } = this.shape;
    const [first, ...rest] = disks.map(({ leaf }) => join(folder, leaf));
    for (const { leaf, format, sizeBytes, blockBytes } of disks) {
      const path = [join(folder, leaf)];
      if (format === 'vhdx')
        await this.cmdlet(
          'New-VHD',
          { Path: path, SizeBytes: String(sizeBytes), Dynamic: true, ...(blockBytes === null ? {} : { BlockSizeBytes: blockBytes }) },
          'DynamicWithoutSource',
        );
      else await this.cmdlet('New-VHD', { Path: path, SizeBytes: String(sizeBytes), Fixed: true }, 'FixedWithoutSource');
    }
    const { output } = await this.cmdlet('New-VM', { Name: VM_NAME, Path: this.place('a'), VHDPath: first! }, 'Existing VHD');
    this.#vmId = String(output[0]?.['Id']);
    for (const path of rest) await this.cmdlet('Add-VMHardDiskDrive', { VMName: [VM_NAME], Path: path }, 'VMName');
    await this.cmdlet('Set-VM', { Name: [VM_NAME], ProcessorCount: String(processors) });
    await this.cmdlet('Start-VM', { Name: [VM_NAME] });
  }

  get vmId(): string {
    return this.#vmId;
  }

  get vmLogFolder(): string {
    return this.paths.vmLogFolder(this.#vmId);
  }

  ledger(index: number): string {
    return join(ledgerFolder(this.vmLogFolder), `disk${index}.ledger`);
  }

  /** Counters of the guest, straight from its process. */
  guest(): Promise<readonly NativeGuestDisk[]> {
    return askGuest(this.paths.guestSocket(this.#vmId), 'stats', 30_000);
  }

  /** The process that serves the machine's disks now. */
  workerPid(): number | null {
    const socket = this.paths.workerSocket(this.#vmId);
    return (
      markedProcesses(this.home, [process.pid], 'VMSTORAGE_HOME').find((pid) => commandLine(pid).includes(`--socket\0${socket}\0`)) ?? null
    );
  }

  /** Where the registry says that its disks are: all on one side, or it throws. */
  async side(): Promise<Side> {
    const drives = (await this.ask('Get-VMHardDiskDrive', { VMName: [VM_NAME] }, 'VMName')).output;
    const paths = drives.map((drive) => String(drive['Path']));
    for (const side of ['a', 'b'] as const) {
      const wanted = this.shape.disks.map(({ leaf }) => join(this.place(side), 'Virtual Hard Disks', leaf));
      if (wanted.every((path) => paths.includes(path)) && paths.length === wanted.length) return side;
    }
    throw new Error(`the machine's disks are not all at one side: ${paths.join(', ') || 'it has none'}`);
  }

  image(side: Side, disk: CrashDisk): string {
    return join(this.place(side), 'Virtual Hard Disks', disk.leaf);
  }

  // --- what is there -------------------------------------------------------------------------------------------------------------

  filesAt(side: Side): string[] {
    return readdirSync(this.place(side), { withFileTypes: true, recursive: true })
      .filter((entry) => !entry.isDirectory())
      .map((entry) => join(entry.parentPath, entry.name));
  }

  /** Journals, records of moves and their halves. */
  moveRecords(): string[] {
    return existsSync(this.paths.movesFolder) ? readdirSync(this.paths.movesFolder) : [];
  }

  /** Files of this side that any process of the instance has open, deleted ones too. */
  openAt(side: Side): string[] {
    return markedProcesses(this.home, [process.pid], 'VMSTORAGE_HOME').flatMap((pid) =>
      openFiles(pid).filter((path) => path.startsWith(`${this.place(side)}/`)),
    );
  }

  // --- kills ---------------------------------------------------------------------------------------------------------------------

  arm(names: readonly string[]): void {
    // Renamed into place: whoever looks sees all of it.
    writeFileSync(`${this.killFile}.new`, names.join('\n'));
    renameSync(`${this.killFile}.new`, this.killFile);
  }

  /** Points that were hit since the last call; what is left unarmed. */
  disarm(): string[] {
    rmSync(this.killFile, { force: true });
    const file = `${this.killFile}.hits`;
    const hits = existsSync(file)
      ? readFileSync(file, 'utf8')
          .split('\n')
          .filter((line) => line !== '')
      : [];
    rmSync(file, { force: true });
    return hits;
  }

  /** Ends host, worker and guest, whatever they do. Returns what had to be killed besides the host. */
  async end(): Promise<string[]> {
    this.#ending = true;
    const host = this.#host;
    if (host && host.exitCode === null && host.signalCode === null) {
      const exit = new Promise((resolve) => host.once('exit', resolve));
      host.kill('SIGTERM');
      const killing = setTimeout(() => host.kill('SIGKILL'), 10_000);
      await exit;
      clearTimeout(killing);
    }
    const left = await leftoversAfter({ variable: 'VMSTORAGE_HOME', id: this.home, folder: null, except: [process.pid] });
    killLeftovers(left);
    return left.map(({ what }) => what);
  }

  remove(): void {
    removeMemoryFolder({ VMSTORAGE_HOME: this.home });
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** The host is dead, dying or not there yet. */
export const isAway = (error: unknown): boolean =>
  error instanceof VmStorageError && (error.code === 'HostNotReachable' || error.code === 'HostConnectionLost');

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return ''; // ended meanwhile
  }
}

function openFiles(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
      } catch {
        return []; // closed meanwhile
      }
    });
  } catch {
    return []; // ended meanwhile
  }
}
