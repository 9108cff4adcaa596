/**
 * The only door to the addon. What crosses is declared here and nowhere else; `test/addon` compares it with what the
 * built addon exports. 64-bit numbers are bigint on the way out and decimal strings on the way in. Handles are closed explicitly.
 */
import { createRequire } from 'node:module';
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { VmStorageError } from '../model/errors.js';
import type { DiskFormat } from '../model/vm.js';

export interface NativeImageFacts {
  readonly format: string;
  readonly kind: string;
  readonly sizeBytes: bigint;
  readonly fileBytes: bigint;
  readonly allocatedBytes: bigint;
  readonly growthBytes: bigint;
  readonly blockSizeBytes: number;
  readonly logicalSectorBytes: number;
  readonly physicalSectorBytes: number;
  readonly diskIdentifier: string | null;
  readonly dirtyLog: boolean;
  readonly foreignContent: string | null;
  readonly unmovable: string | null;
  readonly warnings: readonly string[];
}

export interface NativeServedDisk {
  readonly index: number;
  readonly path: string;
  readonly format: DiskFormat;
  readonly readOnly: boolean;
  /** 1 to 64. */
  readonly queues: number;
  readonly vhostUserSocket: string | null;
  readonly nbdSocket: string | null;
  /** Trusted with the folders on the way, beside root and our own user; null: any folder will do. */
  readonly owner: number | null;
}

/** One engine: a reactor thread with the disks of one VM. Every method may reject with a NativeFailure. */
export interface NativeEngine {
  readonly io: string;
  /**
   * Opens (a journal at `journalPath` outranks `disks`), locks and exports. Resolves when every disk is served. `marksPath`: a file in
   * memory for what the move notes per write; without it, beside the journal.
   */
  serve(disks: readonly NativeServedDisk[], journalPath: string, lockWaitMs: number, marksPath?: string | null): Promise<void>;
  /** JSON of WorkerStatus without pid and vmId. */
  status(): Promise<string>;
  startMove(planJson: string, journalPath: string, marksPath?: string | null): Promise<void>;
  /** False when the move is past the point of no return and goes on. */
  stopMove(): Promise<boolean>;
  releaseMove(): Promise<void>;
  endMove(): Promise<void>;
  /** True while a VMM is connected to any disk. */
  hasPeer(): boolean;
  close(): Promise<void>;
}

/** Options of the built-in guest; what is not given has the engine's default (testing/guest/options.rs). */
export interface NativeGuestOptions {
  /** vhost-user sockets, one per disk, in the disks' order. */
  readonly sockets: readonly string[];
  readonly seed?: number;
  /** Per disk. */
  readonly queues?: number;
  /** Requests in flight per disk, over all its queues. */
  readonly queueDepth?: number;
  readonly longestBlocks?: number;
  readonly spanBytes?: number;
  readonly hotBytes?: number;
  readonly hotPercent?: number;
  readonly writePercent?: number;
  readonly zeroPercent?: number;
  readonly flushEvery?: number;
  /** Requests per second and disk. */
  readonly rate?: number;
  /** Gets `disk<N>.ledger` per disk: what each block may hold. */
  readonly ledgerFolder?: string;
  /** Goes on with the ledgers that are there. */
  readonly continueLedger?: boolean;
  readonly verifyAtEnd?: boolean;
}

/** One disk of the built-in guest. Counts are of completed requests since it started. */
export interface NativeGuestDisk {
  readonly reads: number;
  readonly writes: number;
  readonly zeroes: number;
  readonly flushes: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly ioErrors: number;
  readonly wrongBlocks: number;
  readonly unexpectedCompletions: number;
  readonly reconnects: number;
  /** By queue: requests that workers whose connection broke had taken and not answered. */
  readonly leftByDead: readonly number[];
  /** Of those connections, how many broke with such requests in every queue. */
  readonly brokenInAllRings: number;
  readonly inFlight: number;
  readonly connected: boolean;
  readonly longestUs: number;
  readonly p50Us: number;
  readonly p99Us: number;
  /** The longest any request now in flight has been waiting; grows while the wait goes on. */
  readonly oldestWaitUs: number;
  readonly firstWrong: string | null;
  readonly lastConnectError: string | null;
}

/** Waits of all disks since the last one was taken. */
export interface NativeGuestWindow {
  readonly count: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly longestUs: number;
}

export interface NativeGuestReport {
  readonly clean: boolean;
  /** Requests that were never answered. */
  readonly stuck: number;
  readonly elapsedMs: number;
  readonly disks: readonly NativeGuestDisk[];
}

/** The built-in guest: a vhost-user-blk client doing verified writes. */
export interface NativeGuest {
  /** JSON of NativeGuestDisk[]. */
  stats(): string;
  /** JSON of NativeGuestWindow. */
  takeWindow(): string;
  /** Stops the load, waits for what is in flight, reads everything back; JSON of NativeGuestReport. */
  stop(): Promise<string>;
}

export interface NativeVerdict {
  readonly blocksChecked: bigint;
  readonly blocksWrong: bigint;
  readonly firstWrong: string | null;
}

/** Who is at the other end of a local socket: the process that connected or, for the one that connected, the process that listened. */
export interface NativePeer {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups of the process, whatever the group database says of its user. */
  readonly groups: readonly number[];
}

/** An entry of a folder, not followed. */
export interface NativeEntry {
  readonly kind: string;
  readonly device: bigint;
  readonly inode: bigint;
  readonly bornNs: bigint;
  readonly uid: number;
  readonly mode: number;
  readonly links: bigint;
  readonly size: bigint;
}

export interface NativeText {
  readonly text: string;
  readonly facts: NativeEntry;
}

/** A folder that is open until it is closed, or forgotten. */
export interface NativeFolder {
  readonly path: string;
  /** Where it was walked to for an entry: that one's name. */
  readonly entryName: string;
  close(): void;
  facts(): Promise<NativeEntry>;
  entry(name: string): Promise<NativeEntry | null>;
  enter(name: string): Promise<NativeFolder>;
  makeFolder(name: string): Promise<boolean>;
  create(name: string, text: string): Promise<NativeEntry>;
  read(name: string, mostBytes: number): Promise<NativeText | null>;
  rename(from: string, to: string, replace: boolean): Promise<void>;
  remove(name: string, device: string, inode: string, gradually: boolean): Promise<string>;
  removeFolder(name: string): Promise<boolean>;
  names(prefix: string): Promise<string[]>;
}

export interface NativeModule {
  NativeEngine: { start(onNotice: (count: number) => void): NativeEngine };
  NativeGuest: { start(optionsJson: string): NativeGuest };
  createImage(
    path: string,
    format: string,
    kind: string,
    sizeBytes: string,
    blockSizeBytes: number | null,
    logicalSectorBytes: number | null,
    physicalSectorBytes: number | null,
    owner: number | null,
  ): Promise<void>;
  inspectImage(path: string, format: string): Promise<NativeImageFacts>;
  /** Rejects (Locked) when the kernel or another program works on the disk at this moment, and says who. */
  refuseInUse(path: string): Promise<void>;
  /** Of a connected local socket's descriptor. */
  peerOf(descriptor: number): NativePeer;
  userName(uid: number): Promise<string | null>;
  groupId(name: string): Promise<number | null>;
  /** Signals the process of this number and start time (field 22 of /proc/<pid>/stat); false when it is gone. Throws when it may not. */
  signalProcess(pid: number, startTicks: string, signal: number): boolean;
  /** flock(2), exclusively, of an open file; false when another has it. */
  lockDescriptor(descriptor: number): boolean;
  groupName(gid: number): Promise<string | null>;
  /** What this process was started with and is not its standard three goes to nobody it starts, but by intent. */
  keepDescriptors(): void;
  /** For a worker, of all its threads, for good (native/engine/src/worker/refused_calls.rs). Throws where the kernel has no seccomp. */
  refuseDangerousCalls(): void;
  /** src/os/held-folders.ts says what these do. */
  holdFolder(path: string, owner: number | null): Promise<NativeFolder>;
  holdEntry(path: string, owner: number | null): Promise<NativeFolder>;
  /** JSON of JournalStatus; null when there is no journal and none is missing. */
  readJournal(journalPath: string, marksPath: string, lockWaitMs: number): Promise<string | null>;
  /** Digest of an image as a receipt gives it, and its length. */
  hashImage(path: string, format: string): Promise<{ hash: string; bytes: bigint }>;
  /** Judges an image at rest by the ledger its guest kept: every byte of it. */
  verifyByLedger(path: string, format: string, ledger: string): Promise<NativeVerdict>;
}

/** dist/native beside the compiled sources, whether this file runs from src/ (tests) or dist/src/. */
function addonFile(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    const native = join(folder, 'dist', 'native');
    const found = existsSync(native) ? readdirSync(native).find((name) => name.endsWith('.node')) : undefined;
    if (found) return join(native, found);
    const parent = dirname(folder);
    if (parent === folder) break;
    folder = parent;
  }
  throw new VmStorageError('OperationFailed', 'The addon is not built. Run `npm run setup`.');
}

let loaded: NativeModule | undefined;

/** Loads the addon on first use: most commands never need it. */
export function native(): NativeModule {
  loaded ??= createRequire(import.meta.url)(addonFile()) as NativeModule;
  return loaded;
}
