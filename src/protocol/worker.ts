/**
 * The contract between host and worker: frames as in messages.ts over the worker's own Unix socket.
 * Request `{ id, method, params }`, answer `{ id, result }` or `{ id, error: WireError }`, and `{ event, ... }` at any time.
 * The worker outlives the host; a new host connects to the same socket and asks `status`.
 */
import type { MovePlan, MoveStatus, JournalPhase, TurnLength } from '../model/move.js';
import type { DiskFormat } from '../model/vm.js';

export interface ServedDisk {
  readonly index: number;
  readonly path: string;
  readonly format: DiskFormat;
  readonly readOnly: boolean;
  /** Queues offered to the VMM: as many as the VMM is told to ask for. */
  readonly queues: number;
  /** Unix socket to listen on for the VMM, or null. */
  readonly vhostUserSocket: string | null;
  readonly nbdSocket: string | null;
  /** The user whose machine it is: who may own folders on the way to the file, beside root and the worker's own user. Absent: nobody. */
  readonly owner?: number | null;
}

export interface ServedDiskStatus {
  readonly index: number;
  /** The path being served now (the target after a switch). */
  readonly path: string;
  readonly device: string;
  readonly inode: string;
  readonly sizeBytes: string;
  /** pid of the connected VMM by SO_PEERCRED, or null. */
  readonly peerPid: number | null;
  /** Why the disk is not served yet (waiting for a lock ...), or null. */
  readonly waitingFor: string | null;
  /** The last request of the guest that the storage refused; null when none since `path` serves the disk. */
  readonly failed: FailedRequest | null;
}

export interface FailedRequest {
  /** How many there were. */
  readonly count: number;
  readonly errno: number;
  /** The errno in words. */
  readonly text: string;
  readonly request: 'read' | 'write' | 'flush' | 'discard' | 'write zeroes';
  /** Guest bytes, decimal. */
  readonly offset: string;
  readonly length: string;
  readonly at: string;
}

export interface JournalStatus {
  readonly path: string;
  readonly phase: JournalPhase;
  readonly plan: MovePlan;
}

export interface WorkerStatus {
  readonly pid: number;
  readonly vmId: string;
  readonly io: string;
  readonly disks: readonly ServedDiskStatus[];
  readonly move: MoveStatus | null;
  readonly journal: JournalStatus | null;
  /** Of the last minute or two; a worker that serves nothing has none. */
  readonly longestTurn: TurnLength | null;
}

export interface ImageFacts {
  readonly path: string;
  readonly format: DiskFormat;
  readonly kind: 'fixed' | 'dynamic';
  readonly sizeBytes: string;
  /** Length of the file, and what it occupies on its file system. */
  readonly fileBytes: string;
  readonly allocatedBytes: string;
  /** How much longer the file may become when every block is written. */
  readonly growthBytes: string;
  readonly blockSizeBytes: number;
  readonly logicalSectorBytes: number;
  readonly physicalSectorBytes: number;
  /** VirtualDiskId of a VHDX, upper case "D"; null for raw. */
  readonly diskIdentifier: string | null;
  /** True when a VHDX log has to be replayed. */
  readonly dirtyLog: boolean;
  // A worker outlives the host that started it: one of 0.1 does not tell these.
  /** What a raw disk's content is instead ("a qcow2 image"): a reason to ask, never a format. */
  readonly foreignContent?: string | null;
  /** Why a move could not carry everything over, or null. */
  readonly unmovable?: string | null;
  /** What a person should know of the file, a sentence each. */
  readonly warnings?: readonly string[];
}

export interface CreateImage {
  readonly path: string;
  readonly format: DiskFormat;
  readonly kind: 'fixed' | 'dynamic';
  readonly sizeBytes: string;
  readonly blockSizeBytes: number | null;
  readonly logicalSectorBytes: number | null;
  readonly physicalSectorBytes: number | null;
  /** As of a served disk. */
  readonly owner?: number | null;
}

/** Methods of a worker: parameters and result. A tool worker (no VM) answers only the image methods. */
export interface WorkerMethods {
  status: { params: Record<string, never>; result: WorkerStatus };
  /**
   * Opens (journal first: it outranks `disks`), locks and serves. Idempotent for the same list, also while the first call is under way;
   * another list is refused (InvalidState). `lockWaitMs`: how long whoever holds a lock is waited for; default: as long as it takes.
   * `marksPath`: where in memory a move keeps what has to survive a kill only; default: beside the journal.
   */
  serve: {
    params: { vmId: string; disks: readonly ServedDisk[]; journalPath: string; marksPath?: string; lockWaitMs?: number };
    result: WorkerStatus;
  };
  /**
   * Creates the targets (exclusively, with owner, mode and xattrs of their sources), the journal, and starts. Returns when the journal's `started` record is durable. When it rejects, no
   * target of its making is left; when the worker dies in it, the host removes what is there (by identity or birth time) and asks again.
   */
  startMove: { params: { plan: MovePlan; journalPath: string; marksPath?: string }; result: Record<string, never> };
  /**
   * Cancels before COMMITTED and returns when the targets are closed and their names gone; after it `stopped` is false and the move goes on.
   * Idempotent: `stopped` is true as well for a move that failed or was stopped before. The journal stays until `endMove`.
   * A target that cannot be deleted (its file system is gone) does not make it fail: the host looks for itself and keeps trying.
   */
  stopMove: { params: Record<string, never>; result: { stopped: boolean } };
  /** After COMMITTED: closes the sources and writes the `released` record. The host then deletes them and calls `endMove`. Idempotent. */
  releaseMove: { params: Record<string, never>; result: Record<string, never> };
  /**
   * Removes the journal (fsyncing its folder) and forgets the move. Deleted targets give their space back bit by bit; this waits until it
   * is there, unless the file system hangs: the next move asks for it.
   */
  endMove: { params: Record<string, never>; result: Record<string, never> };
  createImage: { params: CreateImage; result: ImageFacts };
  /** What the journal of a move says; null when there is none and none is missing. `lockWaitMs`: for a predecessor that is dying. */
  readJournal: { params: { journalPath: string; marksPath: string; lockWaitMs: number }; result: { journal: JournalStatus | null } };
  inspectImage: { params: { path: string; format: DiskFormat }; result: ImageFacts };
  /** Rejects (ObjectInUse, with who has it) when the kernel or another program works on the disk: mounted, swap, part of another device. */
  refuseInUse: { params: { path: string }; result: Record<string, never> };
  /** Closes everything cleanly and exits. Refused (InvalidState) while a VMM is connected, unless `force`. */
  shutdown: { params: { force: boolean }; result: Record<string, never> };
}

export type WorkerMethod = keyof WorkerMethods;

/** At least on every phase change and about 4 times a second while a move runs; the last one has an outcome. */
export type WorkerEvent = { readonly event: 'move'; readonly status: MoveStatus };

export type WorkerRequest = { [M in WorkerMethod]: { id: number; method: M; params: WorkerMethods[M]['params'] } }[WorkerMethod];
