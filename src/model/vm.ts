/** What a VM is: its configuration as kept in `Virtual Machines/<GUID>.vmcx` (JSON), and its state at run time. Pure. */

/** The newest configuration version of Windows Server 2022: what scripts compare with to learn that .vmcx files are used. */
export const CONFIGURATION_VERSION = '10.0';

export type ControllerType = 'IDE' | 'SCSI';
/** From the file's extension when the disk is attached (.vhdx; .img and .raw; a /dev path is raw); never probed from content. */
export type DiskFormat = 'raw' | 'vhdx';

export interface HardDisk {
  /** "D" GUID of the drive (not of the image). */
  readonly id: string;
  readonly controllerType: ControllerType;
  readonly controllerNumber: number;
  readonly controllerLocation: number;
  /** Absolute native path, as the user spelled it (symlinks not resolved). */
  readonly path: string;
  readonly format: DiskFormat;
  /** A block device attached by its /dev path: it can be used, never moved. */
  readonly passThrough: boolean;
}

/** Our documented extension: boot a kernel directly instead of firmware and boot loader. */
export interface DirectBoot {
  readonly kernel: string;
  readonly initrd: string | null;
  readonly arguments: string;
}

export interface VmConfiguration {
  readonly schema: 1;
  readonly id: string;
  readonly name: string;
  readonly generation: 1 | 2;
  readonly memoryStartupBytes: number;
  readonly processorCount: number;
  readonly notes: string;
  /** Folder that holds `Virtual Machines/<id>.vmcx`: what Get-VM shows as Path and ConfigurationLocation. */
  readonly path: string;
  readonly snapshotFileLocation: string;
  readonly smartPagingFilePath: string;
  readonly disks: readonly HardDisk[];
  readonly directBoot: DirectBoot | null;
  /** How many moves of its storage the VM has behind it; stands in the receipts. Absent: none. */
  readonly storageGeneration?: number;
  readonly createdAt: string;
  /** After a boot, and before one (src/host/automatic-start.ts, automatic-stop.ts). */
  readonly automaticStartAction: 'Nothing' | 'StartIfRunning' | 'Start';
  /** Absent: 0. */
  readonly automaticStartDelaySeconds?: number;
  readonly automaticStopAction: 'TurnOff' | 'Save' | 'ShutDown';
}

/** Hyper-V's VMState names that can occur here. */
export type VmState = 'Off' | 'Starting' | 'Running' | 'Paused' | 'Stopping' | 'RunningCritical';

/** As the engine (exports/vhost_user_blk/mod.rs, which says why): more processors than this share queues. */
const DISK_QUEUES_MAX = 64;

/**
 * Queues of each disk of a machine: one per processor, so that no processor waits for another's. Worker and VMM are both told this number;
 * a VMM that asks for more than its back end has does not start.
 */
export const diskQueues = (vm: Pick<VmConfiguration, 'processorCount'>): number => Math.min(vm.processorCount, DISK_QUEUES_MAX);
