/**
 * What a move needs of the world, and nothing more: the host's services narrowed to what is used here, and the file system. The
 * only file of `src/migration` that names the host's types; tests put their own objects behind the same interfaces.
 */
import type {
  Claim,
  Clock,
  CmdletContext,
  HostServices,
  Hypervisor,
  InstancePaths,
  Locks,
  Log,
  Registry,
  Settings,
  VmRecord,
  WorkerClient,
  WorkerLifeEvent,
  Workers,
} from '../host/services.js';
import type { ImageFacts, JournalStatus, WorkerEvent, WorkerStatus } from '../protocol/worker.js';
import type { WireObject, WireValue } from '../protocol/messages.js';
import type { KnownFile } from '../os/file-identity.js';
import type { HeldFolders, Owner, Removed } from '../os/held-folders.js';

export type { HeldFolders, Owner };
export type { Claim, Clock, CmdletContext, HostServices, ImageFacts, Log, JournalStatus, VmRecord, WireObject, WireValue, WorkerClient };
export type { WorkerEvent, WorkerLifeEvent, WorkerStatus };

export type MoveRegistry = Pick<
  Registry,
  'list' | 'byId' | 'find' | 'configurationFileUnder' | 'diskOwner' | 'writeConfiguration' | 'isWritten' | 'repoint' | 'deleteConfiguration'
>;
export type MoveWorkers = Pick<Workers, 'forVm' | 'peek' | 'betweenAttempts' | 'release' | 'tool'>;
export type MoveHypervisor = Pick<Hypervisor, 'runtime'>;
export type MoveLocks = Pick<Locks, 'claimMove' | 'isMoving' | 'claimPaths' | 'exclusive' | 'pathHolder'>;
export type MovePaths = Pick<InstancePaths, 'stateFolder' | 'movesFolder' | 'journal' | 'witness' | 'marks'>;

/** A file or folder as `stat` sees it. Byte counts and identities are exact (bigint). */
export interface FileFacts extends KnownFile {
  readonly kind: 'file' | 'folder' | 'other';
  readonly hardLinks: number;
  readonly sizeBytes: bigint;
  readonly allocatedBytes: bigint;
}

/** The file system. Everything that writes is durable when it resolves (file and folder fsynced) and may be repeated. */
export interface MoveFiles {
  /** Follows symbolic links; null when there is nothing (or a component of the path is not a folder). */
  facts(path: string): Promise<FileFacts | null>;
  /** True when the path itself is a symbolic link. */
  isLink(path: string): Promise<boolean>;
  /** With every symbolic link resolved; null when it does not exist. */
  realPath(path: string): Promise<string | null>;
  /** Why this process cannot make files in the folder, as the end of "... because"; null when nothing is known against it. */
  whyNoFiles(folder: string): Promise<string | null>;
  /** Bytes an ordinary user may still use on the file system that holds `path`. */
  freeBytes(path: string): Promise<bigint>;
  list(folder: string): Promise<readonly string[]>;
  readText(path: string): Promise<string | null>;
  /** Replaces the file as a whole: after a crash there is the old text or the new one. */
  writeText(path: string, text: string): Promise<void>;
  // What is done to files of a machine. The way to them is walked once, and only through folders that `owner` may have part in
  // (src/os/held-folders.ts); else UnsafeFolder.
  /** Rejects when others can change what lies in the folder, or the way to it. */
  refuseUnsafe(folder: string, owner: Owner): Promise<void>;
  /** What is at the path, for as long as it is held; null when nothing is. A link at its end is followed if it is root's. */
  hold(path: string, owner: Owner): Promise<HeldFile | null>;
  /** The same, but a link at the end of the path is what is held. */
  holdItself(path: string, owner: Owner): Promise<HeldFile | null>;
  /** False when it was there already. */
  makeFolder(path: string, owner: Owner): Promise<boolean>;
  /** Of the state folder. */
  makeOwnFolder(path: string): Promise<void>;
  /** Gives a file a name under which nobody looks for it, durably. Returns that name, or nothing when there was no file. */
  setAside(path: string): Promise<readonly string[]>;
  /** Of the state folder. False when there was nothing. */
  deleteFile(path: string): Promise<boolean>;
  /** `gone` also when it was not there; `kept` when something is in it. */
  deleteEmptyFolder(path: string, owner: Owner): Promise<'gone' | 'kept'>;
}

/** A file by its name in a folder that is held: what is asked of it and what is done to it is about the same one. */
export interface HeldFile {
  readonly facts: FileFacts;
  readonly isLink: boolean;
  /** Removes this very file's name, durably, and gives its space back bit by bit; `other` when something else has the name by now. */
  delete(): Promise<Removed>;
  close(): void;
}

export interface MigrationPorts {
  readonly registry: MoveRegistry;
  readonly workers: MoveWorkers;
  readonly hypervisor: MoveHypervisor;
  readonly locks: MoveLocks;
  readonly paths: MovePaths;
  readonly settings: Pick<Settings, 'current' | 'subscribe'>;
  readonly clock: Clock;
  readonly log: Log;
  readonly files: MoveFiles;
  /** The kernel's boot id: another one means that the page cache of the journal's time is lost. */
  readonly bootId: string;
  /** Names that mean this host, in lower case. */
  readonly hostNames: readonly string[];
  /** What ComputerName of returned objects says. */
  readonly computerName: string;
  readonly newId: () => string;
}
