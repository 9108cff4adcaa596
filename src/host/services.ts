/**
 * What the parts of the host offer each other: types only, so that `src/migration` and `src/jobs` can name them without
 * depending on the host's code. `compose.ts` is the one place that constructs them.
 */
import type { Hypervisor } from '../hypervisor/hypervisor.js';
import type { VmStorageError } from '../model/errors.js';
import type { MoveStatus, TurnLength } from '../model/move.js';
import type { Clock } from '../os/clock.js';
import type { HeldFolders, Owner } from '../os/held-folders.js';
import type { Log } from '../os/log.js';
import type { InstancePaths } from '../os/paths.js';
import type { WireObject, WireProgress, WireValue } from '../protocol/messages.js';
import type { JournalStatus, ServedDisk, WorkerEvent, WorkerMethod, WorkerMethods, WorkerStatus } from '../protocol/worker.js';
import type { Registry, VmRecord } from '../registry/registry.js';
import type { RunningRecord } from '../registry/running.js';
import type { Settings } from '../registry/settings.js';

export type { Clock } from '../os/clock.js';
export type { HeldFolders, Owner } from '../os/held-folders.js';
export type { Log } from '../os/log.js';
export type { InstancePaths } from '../os/paths.js';
export type { DiskOwner, Registry, VmFault, VmRecord } from '../registry/registry.js';
export type { HostSettings, Settings } from '../registry/settings.js';
export type { Hypervisor, VmRuntime } from '../hypervisor/hypervisor.js';

/** What happens to the process behind a WorkerClient. */
export type WorkerLifeEvent =
  /** It died; pending calls were rejected with HostConnectionLost. It is being started again. */
  | { readonly event: 'lost'; readonly reason: string }
  /** It (or its successor) serves again; a move is in `status.move` and `status.journal`. */
  | { readonly event: 'restored'; readonly status: WorkerStatus };

export interface CallOptions {
  /** Default: 30 s; 0 = no limit (createImage of a fixed disk, stopMove). */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** The worker of one VM. The object stays the same over restarts of the process behind it, until the worker is released. */
export interface WorkerClient {
  readonly vmId: string | null;
  /** pid of the process now behind it, or null while it is down. */
  readonly pid: number | null;
  /** False while it is down, and while it has not answered for some seconds: it is stopped, or hangs. */
  readonly answers: boolean;
  /** Waits, within the time-out, for a worker that is being restarted, then calls. Rejects with the worker's own error (code kept). */
  call<M extends WorkerMethod>(method: M, params: WorkerMethods[M]['params'], options?: CallOptions): Promise<WorkerMethods[M]['result']>;
  subscribe(listener: (event: WorkerEvent | WorkerLifeEvent) => void): () => void;
}

export interface WorkerHealth {
  readonly state: 'none' | 'starting' | 'serving' | 'restarting' | 'ending';
  readonly pid: number | null;
  /** Times it was started again since it was first needed. */
  readonly restarts: number;
  /** Why it is not serving or not answering, for Get-VM's Status; null when it is. */
  readonly trouble: string | null;
  /** Per disk the last request of the guest that its storage refused. */
  readonly diskErrors: readonly DiskError[];
  /** The longest turn of its reactor within the last minute or two, or null. */
  readonly longestTurn: TurnLength | null;
}

export interface DiskError {
  /** The worker's number of the disk. */
  readonly disk: number;
  readonly path: string;
  readonly errno: number;
  /** The errno in words. */
  readonly reason: string;
  readonly request: string;
  /** Of the request, in guest bytes, decimal. */
  readonly offset: string;
  /** Requests refused since this file serves the disk. */
  readonly count: number;
  readonly at: string;
}

export interface Workers {
  /**
   * The worker of the VM, started if there is none, serving the configuration's disks (pass-through ones excepted) with a
   * vhost-user socket each and with the VM's journal path. Resolves when it serves.
   */
  forVm(vm: VmRecord): Promise<WorkerClient>;
  /** The worker if there is one now. */
  peek(vmId: string): WorkerClient | null;
  health(vmId: string): WorkerHealth;
  /**
   * Runs `body`, which changes what the VM's worker serves, while nobody attempts to serve it, then attempts it at once. Throws (InvalidState) when it is
   * served. Within `exclusive` of the VM.
   */
  betweenAttempts<T>(vmId: string, body: () => Promise<T>): Promise<T>;
  /** Ends the worker if the VM is off and not moving (so: after the move's claim was released); otherwise does nothing. */
  release(vmId: string): Promise<void>;
  /** Runs `use` with a short-lived worker without VM (createImage, inspectImage, refuseInUse) and ends it. */
  tool<T>(use: (tool: WorkerClient) => Promise<T>): Promise<T>;
  /** What `serve` is told for this VM. */
  servedDisks(vm: VmRecord): readonly ServedDisk[];
}

export interface Claim {
  release(): void;
}

/** Who may do what to a VM or a path right now. In memory: what must survive a restart is in the journal. */
export interface Locks {
  /** The long-lived claim of a move. Refused (ObjectInUse) while there is one. Removing, attaching, detaching and Set-VM are refused meanwhile. */
  claimMove(vmId: string): Claim;
  isMoving(vmId: string): boolean;
  /** Short critical section per VM: start, stop, configuration changes, and the steps of a move that change the registry. In order of arrival; not re-entrant. */
  exclusive<T>(vmId: string, body: () => Promise<T>): Promise<T>;
  /** Reserves paths (targets of a move, of New-VHD) until released; refused (ObjectInUse) when one is held. By spelling after normalisation. */
  claimPaths(paths: readonly string[], holder: string): Claim;
  pathHolder(path: string): string | null;
}

export interface HostServices {
  readonly registry: Registry;
  readonly workers: Workers;
  readonly hypervisor: Hypervisor;
  readonly settings: Settings;
  /** Which guests run, and which wait to be started after a boot. */
  readonly running: RunningRecord;
  readonly locks: Locks;
  readonly heldFolders: HeldFolders;
  readonly paths: InstancePaths;
  readonly log: Log;
  readonly clock: Clock;
  /** What is wrong with the files of machines, by VM id; nothing of those that are as they should be. Bounded, whatever hangs. */
  readonly fileTrouble: (machines: readonly VmRecord[]) => Promise<ReadonlyMap<string, readonly string[]>>;
  /** What keeps the host from writing to its state folder, naming the path, or null. */
  readonly trouble: () => string | null;
}

/** One cmdlet invocation as its handler sees it: one per `process` record. */
export interface CmdletContext {
  readonly cmdlet: string;
  readonly parameterSet: string;
  /** What was bound in this record; objects carry their key properties (`Id` of a VirtualMachine ...). */
  readonly bound: { readonly [name: string]: WireValue };
  readonly cwd: string;
  /** The user who asks, by number; null when it cannot be said. */
  caller(): Promise<Owner>;
  /** Aborted when the connection closes or the host ends. Ends queries, never a move. */
  readonly signal: AbortSignal;
  /** Aborted when the client sent `stop` (Ctrl+C, Stop-Job): cancels a move. */
  readonly stopRequested: AbortSignal;
  /** Resolves when the client can take more; never rejects (a vanished client is `signal`). */
  output(value: WireObject): Promise<void>;
  /** A non-terminating error about one object of this record; the handler goes on. */
  error(error: VmStorageError): Promise<void>;
  verbose(text: string): Promise<void>;
  warning(text: string): Promise<void>;
  information(text: string): Promise<void>;
  progress(record: Omit<WireProgress, 'k'>): Promise<void>;
  /** Hyper-V's sentence and the caption; false for -WhatIf, No, or a client that is gone. */
  shouldProcess(text: string, caption?: string): Promise<boolean>;
  /** A question that is asked whatever -Confirm and $ConfirmPreference say; -Force is the caller's to look at. False as above. */
  shouldContinue(text: string, caption?: string): Promise<boolean>;
}

/** A thrown VmStorageError becomes one non-terminating error record; anything else is HostInternalError and is logged. */
export type CmdletHandler = (context: CmdletContext) => Promise<void>;
export type CmdletMethods = { readonly [cmdlet: string]: CmdletHandler };

/** What `src/migration` gives the host. Made in compose.ts by `createMigration(services)`. */
export interface Migration {
  /** Move-VMStorage, Get-VMStorageMove, Stop-VMStorageMove. */
  readonly methods: CmdletMethods;
  /** Figures of the VM's move that is running or waiting, for Get-VM's Status; null when there is none. */
  status(vmId: string): MoveStatus | null;
  /** The move as Get-VMStorageMove shows it; null when it is not shown (any more). */
  shown(moveId: string): WireObject | null;
  /** Of the moves that Get-VMStorageMove shows, in its order. */
  shownIds(): readonly string[];
  /** Told of each change of a move; `isNews` unless only its figures changed. */
  subscribe(listener: (moveId: string, vmId: string, isNews: boolean) => void): () => void;
  /**
   * Called once per VM with a journal file when the host starts (null: its worker knows of no move), after its worker serves and before another move of it is accepted.
   * Takes the move claim before its first await; may return once the move is tracked again.
   */
  recover(vm: VmRecord, journal: JournalStatus | null): Promise<void>;
  /** In the place of `recover`, when the worker cannot be asked: the VM's interrupted move is shown as failed. */
  abandon(vmId: string, cause: unknown): void;
  /**
   * Once, before cmdlets are served and after the workers were found again: takes up what needs no journal (moves without disks, half made
   * destinations). Moves with a journal are shown from here on, and go on by `recover`.
   */
  start(): Promise<void>;
  /** At the end of the host: stops retries, and ends the moves that wait in line, at once. Those that were begun go on in their workers. */
  close(): Promise<void>;
}
