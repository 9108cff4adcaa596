/** A storage move: its plan (what the journal holds), its phases and what is reported of it. Pure. */
import type { DiskFormat, VmConfiguration } from './vm.js';

/** In order; each is bracketed by a durable record. The engine runs copy to switch, the host the rest. */
export const movePhases = [
  'queued',
  'plan',
  'check',
  'prepare',
  'copy',
  'mirror',
  'verify',
  'synchronized',
  'switch',
  'release',
  'cleanUp',
  'done',
] as const;
export type MovePhase = (typeof movePhases)[number];

/** What the journal's superblock says; numbers are on disk (native/engine/src/mirror/journal.rs). */
export type JournalPhase = 'started' | 'copy' | 'mirror' | 'verify' | 'prepared' | 'committed' | 'released' | 'deleted' | 'cancelled';

export interface DiskMove {
  /** The worker's number of the disk: its place in VmConfiguration.disks. */
  readonly disk: number;
  readonly source: string;
  readonly target: string;
  readonly format: DiskFormat;
}

/** Everything recovery needs; outranks registry and configuration while its journal exists. Stored as JSON inside the journal. */
export interface MovePlan {
  readonly schema: 1;
  readonly moveId: string;
  readonly vmId: string;
  readonly vmName: string;
  readonly createdAt: string;
  /** `storageGeneration` of the VM after this move; stands in the receipt. */
  readonly generation: number;
  /** Disks to move; may be empty when only configuration or paths move (then there is no engine part). */
  readonly disks: readonly DiskMove[];
  /** Configuration as it will be after the move. */
  readonly after: VmConfiguration;
  /** .vmcx file before and after; equal when the configuration stays. */
  readonly configurationSource: string;
  readonly configurationTarget: string;
  /** Folders this move created, outermost first: removed again (if empty) when it fails. */
  readonly createdFolders: readonly string[];
  /** Sources that are not deleted after the switch, with the reason for the warning (further hard links, -Retain...). */
  readonly keepSources: readonly { readonly path: string; readonly reason: string }[];
  /**
   * The kernel's boot id when the move began. A worker that opens a journal of another boot must not resume it before COMMITTED (the
   * bitmaps may be older than the data): it serves the source, reports an outcome that is not ok, and waits for `stopMove`.
   */
  readonly bootId: string;
  /** The user whose machine it is, who may have part in the folders of its files. Absent or null: nobody but root and the host's own. */
  readonly owner?: number | null;
}

/** Identity of a file as it was seen when the receipt was made. */
export interface FileIdentity {
  readonly path: string;
  readonly device: string;
  readonly inode: string;
}

export interface DiskReceipt {
  readonly disk: number;
  /** Guest bytes of the disk, decimal. */
  readonly bytes: string;
  /** xxh3-128 over the concatenated 16-byte big-endian xxh3-128 hashes of its 1 MiB units (the last may be shorter), hex. */
  readonly hash: string;
  /** Units the guest wrote after they had been verified, up to the switch: both sides got those writes, the hash did not. */
  readonly unitsWrittenSince: number;
  readonly source: FileIdentity;
  readonly target: FileIdentity;
  readonly generation: number;
  readonly verifiedAt: string;
  readonly switchedAt: string;
}

/** The longest turn of a worker's reactor: how long it kept every disk of its VM waiting at once. Each figure may be of another turn. */
export interface TurnLength {
  readonly operations: number;
  /** Processor time of the reactor's thread; 0 where no turn was as long as a millisecond. */
  readonly processorUs: number;
  /** Processor time, what other threads took meanwhile, and system calls that blocked. */
  readonly wallUs: number;
}

export interface MoveOutcome {
  readonly ok: boolean;
  readonly code: string;
  readonly message: string;
  /** The worker's number of the disk it is about, and the file, if it is about one. */
  readonly disk?: number | null;
  readonly path?: string | null;
}

/** Figures of a move, as the worker reports them. Byte counts are decimal strings on the wire. */
export interface MoveStatus {
  readonly moveId: string;
  readonly phase: MovePhase;
  /** 0..100 over the whole move; never goes back within one phase. */
  readonly percent: number;
  readonly bytesTotal: string;
  readonly bytesCopied: string;
  readonly bytesRecopied: string;
  readonly bytesMirrored: string;
  readonly bytesVerified: string;
  /** Bytes of data, as against the disks' length: what is copied and then compared. Null until the worker has looked the disks through. */
  readonly bytesData: string | null;
  readonly bytesCompared: string;
  readonly bytesPerSecond: number;
  readonly secondsRemaining: number | null;
  readonly guestP99Us: number | null;
  /** The guest's longest wait since the move began, and before it since its worker started or its last move ended; null: it asked for nothing. */
  readonly guestMaxUs: number | null;
  readonly guestRestMaxUs: number | null;
  /** Longest time the reactor held any request for the switch's sake, over all disks; null before the switch. */
  readonly blackoutUs: number | null;
  /** Upper bound of bytes the move may still have to copy; published when mirroring starts. */
  readonly boundBytes: string | null;
  /** While the move ran; null until the worker has said it. */
  readonly longestTurn: TurnLength | null;
  readonly outcome: null | MoveOutcome;
  readonly receipt: readonly DiskReceipt[] | null;
  /** For the person who asked for the move; of the worker, and forgotten when that is started again. */
  readonly warnings?: readonly string[];
}
