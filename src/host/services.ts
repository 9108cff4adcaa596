/**
 * What the parts of the host offer each other: types only, so that `src/migration` and `src/jobs` can name them without
 * importing the host. `compose.ts` is the one place that constructs them.
 */
import type { JournalStatus, WorkerEvent, WorkerMethod, WorkerMethods, WorkerStatus, ServedDisk } from '../protocol/worker.js';
import type { WireObject, WireProgress, WireValue } from '../protocol/messages.js';
import type { MoveStatus } from '../model/move.js';
import type { VmConfiguration, VmState } from '../model/vm.js';
import type { VmStorageError } from '../model/errors.js';

/** Time, injected so that tests decide it. */
export interface Clock {
  /** Wall clock, for what people read. */
  now(): Date;
  /** Monotonic milliseconds, for waits and durations. */
  monotonicMs(): number;
  /** Resolves after `delayMs`; rejects with the signal's reason when it aborts first. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
}

/** The subset of pino that is used: object first, then text. */
export interface Log {
  debug(fields: object, text: string): void;
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
  child(bindings: Record<string, unknown>): Log;
}

/** Where this instance keeps its things; every folder is 0700, every socket 0600. */
export interface InstancePaths {
  readonly stateFolder: string;
  readonly runFolder: string;
  readonly hostSocket: string;
  readonly registryFile: string;
  readonly settingsFile: string;
  readonly movesFolder: string;
  /** `moves/<vm id>.journal` */
  journal(vmId: string): string;
  /** `run/<first 8 hex of the id>/`: worker.sock, qmp.sock, d0.sock ..., runtime.json. */
  vmRunFolder(vmId: string): string;
  workerSocket(vmId: string): string;
  qmpSocket(vmId: string): string;
  diskSocket(vmId: string, index: number): string;
  /** `logs/<vm id>/`: worker.log, qemu.log, console.log. */
  vmLogFolder(vmId: string): string;
}

/** A registered VM as it is on disk now. A new object after each change; hold ids, not records, across awaits. */
export interface VmRecord {
  readonly configuration: VmConfiguration;
  /** Absolute path of its `.vmcx`. */
  readonly configurationFile: string;
}

/** A registered VM whose `.vmcx` cannot be used, and which rule it breaks. The file is never overwritten. */
export interface VmFault {
  readonly vmId: string;
  readonly configurationFile: string;
  readonly reason: string;
}

/** Who holds a disk file or device, found by identity (device and inode), not by spelling. */
export interface DiskOwner {
  readonly vmId: string;
  readonly vmName: string;
  readonly path: string;
}

export interface Registry {
  list(): readonly VmRecord[];
  faults(): readonly VmFault[];
  byId(vmId: string): VmRecord | undefined;
  /** By id in "D" form, else by name without regard to case. Names are not unique (as in Hyper-V), so several may match. */
  find(nameOrId: string): readonly VmRecord[];
  /** `<path>/Virtual Machines/<id>.vmcx` */
  configurationFileUnder(path: string, vmId: string): string;
  /** The VM that has this file or device attached, whatever the spelling, or null. */
  diskOwner(path: string): Promise<DiskOwner | null>;
  /** Registers a new VM: writes its configuration (exclusively) and the registry. */
  add(configuration: VmConfiguration): Promise<VmRecord>;
  /** Changes a VM in place: the same file, the same registry entry. */
  update(configuration: VmConfiguration): Promise<VmRecord>;
  /** Forgets the VM, then deletes its .vmcx. Disks stay. */
  remove(vmId: string): Promise<void>;

  // The three steps of moving a configuration, each durable (file and folder fsynced) when it resolves, each idempotent, so that
  // recovery may repeat them in order: write, repoint, delete.
  /** Writes a configuration file. An existing file is replaced only if it is this VM's own, else AlreadyExists. */
  writeConfiguration(configuration: VmConfiguration, file: string): Promise<void>;
  /** Makes the registry point at `file`, whose content becomes the VM's configuration from here on. */
  repoint(vmId: string, file: string): Promise<VmRecord>;
  /** Deletes a configuration file that the registry no longer points at; a missing one is fine, another VM's is refused. */
  deleteConfiguration(vmId: string, file: string): Promise<void>;
  /** All three; `file` equal to the present one is an update in place. */
  replaceConfiguration(configuration: VmConfiguration, file: string): Promise<VmRecord>;
}

/** What happens to the process behind a WorkerClient. */
export type WorkerLifeEvent =
  /** It died; pending calls were rejected with WorkerLost's code (HostConnectionLost). It is being started again. */
  | { readonly event: 'lost'; readonly reason: string }
  /** It (or its successor) serves again; a move is in `status.move` and `status.journal`. */
  | { readonly event: 'restored'; readonly status: WorkerStatus };

export interface CallOptions {
  /** Default: 30 s; 0 = no limit (createImage of a fixed disk, stopMove). */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** The worker of one VM. The object stays the same over restarts of the process behind it. */
export interface WorkerClient {
  readonly vmId: string | null;
  /** pid of the process now behind it, or null while it is down. */
  readonly pid: number | null;
  /** Waits up to the time-out for a worker that is being restarted, then calls. Rejects with the worker's own error (code kept). */
  call<M extends WorkerMethod>(method: M, params: WorkerMethods[M]['params'], options?: CallOptions): Promise<WorkerMethods[M]['result']>;
  subscribe(listener: (event: WorkerEvent | WorkerLifeEvent) => void): () => void;
}

export interface WorkerHealth {
  readonly state: 'none' | 'starting' | 'serving' | 'restarting';
  readonly pid: number | null;
  /** Times it was started again since it was first needed. */
  readonly restarts: number;
  /** Why it is not serving, for Get-VM's Status; null when it is. */
  readonly trouble: string | null;
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
  /** Ends the worker if the VM is off and not moving; otherwise does nothing. */
  release(vmId: string): Promise<void>;
  /** Runs `use` with a short-lived worker without VM (createImage, inspectImage, copyAttributes) and ends it. */
  tool<T>(use: (tool: WorkerClient) => Promise<T>): Promise<T>;
  /** What `serve` is told for this VM. */
  servedDisks(vm: VmRecord): readonly ServedDisk[];
}

export interface VmRuntime {
  readonly state: VmState;
  readonly pid: number | null;
  readonly startedAt: string | null;
  readonly accelerator: 'kvm' | 'tcg' | null;
}

export interface Hypervisor {
  state(vmId: string): VmState;
  runtime(vmId: string): VmRuntime;
  /** Needs a worker that serves (if there is any disk to serve). Resolves when the guest runs. */
  start(vm: VmRecord): Promise<void>;
  /** Presses the power button and waits; false when the guest did not obey within `timeoutMs`. */
  shutDown(vmId: string, timeoutMs: number, signal?: AbortSignal): Promise<boolean>;
  /** Pulls the plug; resolves when the process is gone. */
  turnOff(vmId: string): Promise<void>;
  pause(vmId: string): Promise<void>;
  resume(vmId: string): Promise<void>;
  subscribe(listener: (vmId: string, state: VmState) => void): () => void;
}

export interface HostSettings {
  readonly maximumStorageMigrations: number;
  readonly virtualHardDiskPath: string;
  readonly virtualMachinePath: string;
}

export interface Settings {
  readonly current: HostSettings;
  change(part: Partial<HostSettings>): Promise<HostSettings>;
  /** Called after each change: a raised MaximumStorageMigrations lets waiting moves start. */
  subscribe(listener: (settings: HostSettings) => void): () => void;
}

export interface Claim {
  release(): void;
}

/** Who may do what to a VM or a path right now. In memory: what must survive a restart is in the journal. */
export interface Locks {
  /** The long-lived claim of a move. Refused (ObjectInUse) while there is one. Removing, attaching, detaching and Set-VM are refused meanwhile. */
  claimMove(vmId: string): Claim;
  isMoving(vmId: string): boolean;
  /** Short critical section per VM: start, stop, configuration changes, and the steps of a move that change the registry. In order of arrival. */
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
  readonly locks: Locks;
  readonly paths: InstancePaths;
  readonly log: Log;
  readonly clock: Clock;
}

/** One cmdlet invocation as its handler sees it: one per `process` record. */
export interface CmdletContext {
  readonly cmdlet: string;
  readonly parameterSet: string;
  /** What was bound in this record; objects carry their key properties (`Id` of a VirtualMachine ...). */
  readonly bound: { readonly [name: string]: WireValue };
  readonly cwd: string;
  /** Aborted when the connection closes. Ends queries, never a move. */
  readonly signal: AbortSignal;
  /** Aborted when the client sent `stop` (Ctrl+C, Stop-Job): cancels a move. */
  readonly stopRequested: AbortSignal;
  /** Resolves when the client can take more; rejects never (a vanished client is `signal`). */
  output(value: WireObject): Promise<void>;
  /** A non-terminating error about one object of this record; the handler goes on. */
  error(error: VmStorageError): Promise<void>;
  verbose(text: string): Promise<void>;
  warning(text: string): Promise<void>;
  information(text: string): Promise<void>;
  progress(record: Omit<WireProgress, 'k'>): Promise<void>;
  /** Hyper-V's sentence and the caption; false for -WhatIf, No, or a client that is gone. */
  shouldProcess(text: string, caption: string): Promise<boolean>;
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
  /**
   * Called once per VM with a journal when the host starts, after its worker serves and before cmdlets are accepted for it.
   * Takes the move claim before its first await and returns when the move is either finished or tracked again.
   */
  recover(vm: VmRecord, journal: JournalStatus): Promise<void>;
}
