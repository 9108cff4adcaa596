/** What a machine, a drive, a disk file and the host look like to a client: the objects of cmdlets/types. */
import { cpus, hostname, totalmem } from 'node:os';
import type { HardDiskDriveObject } from '../../cmdlets/types/hard-disk-drive.js';
import type { VirtualHardDiskObject } from '../../cmdlets/types/virtual-hard-disk.js';
import type { VirtualMachineObject } from '../../cmdlets/types/virtual-machine.js';
import type { VMHostObject } from '../../cmdlets/types/vm-host.js';
import type { MovePhase, MoveStatus, TurnLength } from '../model/move.js';
import { timeSpan } from '../model/time-span.js';
import { CONFIGURATION_VERSION, type HardDisk, type VmConfiguration } from '../model/vm.js';
import type { ImageFacts } from '../protocol/worker.js';
import { computerName } from './computer.js';
import type { DiskError, HostServices, HostSettings, Migration, VmRecord, VmRuntime, WorkerHealth } from './services.js';

/** `files`: what was found wrong with the machine's files, where somebody has looked. */
export function publishMachine(
  vm: VmRecord,
  services: HostServices,
  migration: Migration,
  files: readonly string[] = [],
): VirtualMachineObject {
  const { configuration } = vm;
  const runtime = services.hypervisor.runtime(configuration.id);
  const on = runtime.state !== 'Off';
  const [first, ...others] = machineStatuses(
    runtime,
    services.workers.health(configuration.id),
    migration.status(configuration.id),
    services.clock.now(),
    { waitsToStart: !on && services.running.current?.waiting.includes(configuration.id) === true, files },
  );
  const memory = String(configuration.memoryStartupBytes);
  const upMs = runtime.startedAt === null ? 0 : Math.max(0, services.clock.now().getTime() - Date.parse(runtime.startedAt));
  return {
    $t: 'VirtualMachine',
    Name: configuration.name,
    Id: configuration.id,
    ComputerName: computerName(),
    State: runtime.state,
    Status: first.text,
    OperationalStatus: [first, ...others].map(({ operational }) => operational),
    PrimaryOperationalStatus: first.operational,
    SecondaryOperationalStatus: others[0]?.operational ?? null,
    StatusDescriptions: [first, ...others].map(({ text }) => text),
    PrimaryStatusDescription: first.text,
    SecondaryStatusDescription: others[0]?.text ?? null,
    CPUUsage: on ? processorUse(configuration, runtime, services.clock.monotonicMs()) : 0,
    MemoryAssigned: on ? memory : '0',
    MemoryDemand: on ? memory : '0',
    MemoryStartup: memory,
    MemoryMinimum: memory,
    MemoryMaximum: memory,
    ProcessorCount: String(configuration.processorCount),
    Uptime: timeSpan(upMs),
    Version: CONFIGURATION_VERSION,
    Generation: configuration.generation,
    Path: configuration.path,
    ConfigurationLocation: configuration.path,
    SnapshotFileLocation: configuration.snapshotFileLocation,
    SmartPagingFilePath: configuration.smartPagingFilePath,
    HardDrives: configuration.disks.map((disk) => publishDrive(configuration, disk)),
    Notes: configuration.notes,
    CreationTime: configuration.createdAt,
    AutomaticStartAction: configuration.automaticStartAction,
    AutomaticStartDelay: configuration.automaticStartDelaySeconds ?? 0,
    AutomaticStopAction: configuration.automaticStopAction,
    KernelPath: configuration.directBoot?.kernel ?? null,
    InitialRamdiskPath: configuration.directBoot?.initrd ?? null,
    KernelArguments: configuration.directBoot?.arguments ?? null,
  };
}

export function publishDrive(vm: VmConfiguration, disk: HardDisk): HardDiskDriveObject {
  return {
    $t: 'HardDiskDrive',
    VMName: vm.name,
    VMId: vm.id,
    Name: `Hard Drive on ${disk.controllerType} controller number ${disk.controllerNumber} at location ${disk.controllerLocation}`,
    Id: `Microsoft:${vm.id.toUpperCase()}\\${disk.id.toUpperCase()}`,
    ControllerType: disk.controllerType,
    ControllerNumber: disk.controllerNumber,
    ControllerLocation: disk.controllerLocation,
    Path: disk.path,
    ComputerName: computerName(),
  };
}

export function publishImage(facts: ImageFacts, path: string, attached: boolean): VirtualHardDiskObject {
  return {
    $t: 'VirtualHardDisk',
    ComputerName: computerName(),
    Path: path,
    VhdFormat: facts.format === 'vhdx' ? 'VHDX' : 'Unknown',
    VhdType: facts.kind === 'fixed' ? 'Fixed' : 'Dynamic',
    FileSize: facts.fileBytes,
    Size: facts.sizeBytes,
    LogicalSectorSize: facts.logicalSectorBytes,
    PhysicalSectorSize: facts.physicalSectorBytes,
    BlockSize: facts.format === 'vhdx' && facts.kind === 'dynamic' ? facts.blockSizeBytes : 0,
    DiskIdentifier: facts.diskIdentifier ?? '',
    Attached: attached,
    ...(facts.kind === 'dynamic' ? { FragmentationPercentage: 0 } : {}),
  };
}

export function publishHost(settings: HostSettings): VMHostObject {
  return {
    $t: 'VMHost',
    Name: computerName(),
    ComputerName: computerName(),
    FullyQualifiedDomainName: hostname().split('.').slice(1).join('.'),
    LogicalProcessorCount: cpus().length,
    MemoryCapacity: String(totalmem()),
    VirtualHardDiskPath: settings.virtualHardDiskPath,
    VirtualMachinePath: settings.virtualMachinePath,
    MaximumStorageMigrations: settings.maximumStorageMigrations,
    SupportedVmVersions: [CONFIGURATION_VERSION],
  };
}

type Operational = VirtualMachineObject['OperationalStatus'][number];

export interface MachineStatus {
  /** One sentence. */
  readonly text: string;
  readonly operational: Operational;
}

/** What there is to say, the most urgent first: what keeps a guest waiting is what somebody has to look at. */
export function machineStatuses(
  runtime: VmRuntime,
  worker: WorkerHealth,
  move: MoveStatus | null,
  now: Date,
  { waitsToStart = false, files = [] }: { readonly waitsToStart?: boolean; readonly files?: readonly string[] } = {},
): readonly [MachineStatus, ...MachineStatus[]] {
  const all: MachineStatus[] = [];
  if (worker.trouble !== null) {
    const waiting = runtime.state === 'Off' ? '' : ' The guest is waiting.';
    all.push({ text: `${sentence(worker.trouble)}${waiting}`, operational: 'SupportingEntityInError' });
  }
  if (runtime.trouble !== null) all.push({ text: sentence(runtime.trouble), operational: 'CommunicationFailed' });
  if (move !== null && move.outcome === null)
    all.push({ text: moveText(move), operational: phaseOne.has(move.phase) ? 'StorageMigrationPhaseOne' : 'StorageMigrationPhaseTwo' });
  all.push(...files.map((text) => ({ text: sentence(text), operational: 'SupportingEntityInError' as const })));
  if (waitsToStart) all.push({ text: 'Waiting to start', operational: 'WaitingToStart' });
  if (runtime.state === 'RunningCritical') all.push({ text: 'The guest stopped at a storage error.', operational: 'CriticalIoError' });
  const refused = runtime.state === 'Off' ? [] : worker.diskErrors.filter(({ at }) => now.getTime() - Date.parse(at) < ERROR_SHOWN_MS);
  all.push(...refused.map((error) => ({ text: refusalText(error), operational: 'Degraded' as const })));
  const turn = all.length === 0 && runtime.state !== 'Off' ? longTurnText(worker.longestTurn) : null;
  if (turn !== null) all.push({ text: sentence(turn), operational: 'Degraded' });
  const [first, ...others] = all;
  return first ? [first, ...others] : [{ text: 'Operating normally', operational: 'Ok' }];
}

/** An error of the guest's storage is shown until there was none for so long. The host's log keeps it. */
const ERROR_SHOWN_MS = 60 * 60_000;

function refusalText({ disk, path, request, offset, errno, reason, count, at }: DiskError): string {
  const often = count === 1 ? '' : ` ${count} requests failed so far.`;
  return `Disk ${disk} ('${path}') refused the guest's ${request} at byte ${offset} at ${at}: ${reason} (errno ${errno}).${often}`;
}

/** Hyper-V's phase one is the copy, phase two the time both sides are written. */
const phaseOne: ReadonlySet<MovePhase> = new Set(['queued', 'plan', 'check', 'prepare', 'copy']);

function moveText(move: MoveStatus): string {
  if (move.phase === 'queued') return 'Waiting to move storage';
  const turn = longTurnText(move.longestTurn);
  return `Moving storage: ${phaseText[move.phase] ?? move.phase}, ${Math.floor(move.percent)}%${turn === null ? '' : `. ${sentence(turn)}`}`;
}

/** From here on a guest feels it: the aim for its longest wait is 100 ms. */
const LONG_TURN_US = 50_000;

/** All disks of the VM waited for the worker itself: no fault of a disk, so it has to be said. */
function longTurnText(turn: TurnLength | null | undefined): string | null {
  if (!turn || turn.processorUs <= LONG_TURN_US) return null;
  return `all disks waited ${Math.round(turn.processorUs / 1000)} ms for the worker, which was busy with ${turn.operations} operations`;
}

const phaseText: Partial<Record<MovePhase, string>> = {
  plan: 'planning',
  check: 'checking',
  prepare: 'preparing',
  copy: 'copying',
  mirror: 'mirroring',
  verify: 'verifying',
  synchronized: 'synchronized',
  switch: 'switching',
  release: 'releasing the source',
  cleanUp: 'cleaning up',
};

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`;

const samples = new Map<number, { atMs: number; usedMs: number; percent: number }>();
/** Shorter than this, two readings of a 10 ms clock say nothing. */
const SAMPLE_MIN_MS = 500;

/** Processor time of the guest's process between two calls, in percent of its virtual processors; over its life at the first. */
function processorUse(vm: VmConfiguration, { pid, processorTimeMs, startedAt }: VmRuntime, nowMs: number): number {
  if (pid === null || processorTimeMs === null || startedAt === null) return 0;
  const last = samples.get(pid) ?? { atMs: nowMs - Math.max(1, Date.now() - Date.parse(startedAt)), usedMs: 0, percent: 0 };
  if (nowMs - last.atMs < SAMPLE_MIN_MS) return last.percent;
  const percent = Math.min(100, Math.max(0, Math.round((100 * (processorTimeMs - last.usedMs)) / (nowMs - last.atMs) / vm.processorCount)));
  if (samples.size > 1024) samples.clear(); // dead processes; they start again with their life's average
  samples.set(pid, { atMs: nowMs, usedMs: processorTimeMs, percent });
  return percent;
}
