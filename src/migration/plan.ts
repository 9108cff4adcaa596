/**
 * From what was asked to what will be done: the paths of a move. Pure; `check.ts` then asks the file system.
 *
 * ```text
 * -DestinationStoragePath D    Path = SnapshotFileLocation = SmartPagingFilePath = D, exactly as spelled
 *                              D/Virtual Machines/<GUID>.vmcx      the configuration
 *                              D/Virtual Hard Disks/<same leaf>    every disk
 *                              D/Snapshots                         checkpoints (there are none yet: not created)
 * -VirtualMachinePath P        Path = P, P/Virtual Machines/<GUID>.vmcx; disks, checkpoints and paging stay
 * -SnapshotFilePath S          SnapshotFileLocation = S, nothing else
 * -SmartPagingFilePath S       SmartPagingFilePath = S, nothing else
 * -Vhds                        the named disks, nothing else
 * ```
 */
import * as path from 'node:path';
import { VmStorageError } from '../model/errors.js';
import type { DiskMove, MovePlan } from '../model/move.js';
import type { HardDisk, VmConfiguration } from '../model/vm.js';
import type { VmRecord } from './ports.js';
import type { Destination, MoveRequest, VhdPair } from './request.js';

export interface PlanInput {
  readonly vm: VmRecord;
  readonly request: MoveRequest;
  readonly moveId: string;
  readonly createdAt: Date;
  readonly bootId: string;
  /** Where a VM of that path keeps its configuration file. */
  readonly configurationFileUnder: (path: string, vmId: string) => string;
}

export interface Planned {
  /** Null: everything is where it was asked to be. */
  readonly plan: MovePlan | null;
  /** Verbose lines about what the plan does not do. */
  readonly remarks: readonly string[];
  /** That there is no plan, for whoever asked: success without a word would be taken for a move. */
  readonly nothing?: string;
}

/** The words of the reason in `keepSources`; the receipt shows them. */
export const RETAINED = '-RetainVhdCopiesOnSource was given';

export function planMove(input: PlanInput): Planned {
  const { vm, request } = input;
  const before = vm.configuration;
  const remarks: string[] = [];
  const disks = planDisks(before, request.destination, remarks);
  const paths = planPaths(before, request.destination);
  const configurationTarget =
    normal(paths.path) === normal(before.path) ? vm.configurationFile : input.configurationFileUnder(paths.path, before.id);

  if (request.removeUnmanagedParents) {
    remarks.push('-RemoveSourceUnmanagedVhds: no disk of this virtual machine has a parent, so there is none to remove.');
  }
  if (request.allowUnverifiedPaths) {
    remarks.push('-AllowUnverifiedPaths: this host belongs to no cluster, so no path has to be on cluster storage.');
  }
  const pathsStay =
    paths.path === before.path &&
    paths.snapshotFileLocation === before.snapshotFileLocation &&
    paths.smartPagingFilePath === before.smartPagingFilePath;
  if (disks.length === 0 && pathsStay) {
    return {
      plan: null,
      remarks,
      nothing: `The storage of the virtual machine "${before.name}" is already where it was asked to be; nothing is moved.`,
    };
  }
  const generation = (before.storageGeneration ?? 0) + 1;
  const plan: MovePlan = {
    schema: 1,
    moveId: input.moveId,
    vmId: before.id,
    vmName: before.name,
    createdAt: input.createdAt.toISOString(),
    generation,
    disks,
    after: withTargets({ ...before, ...paths, storageGeneration: generation }, disks),
    configurationSource: vm.configurationFile,
    configurationTarget,
    createdFolders: [],
    keepSources: request.retainSources ? disks.map((disk) => ({ path: disk.source, reason: RETAINED })) : [],
    bootId: input.bootId,
    owner: vm.owner,
  };
  return { plan, remarks };
}

/** What the move makes of the VM's configuration as it is now: nothing but paths changes. */
export function afterMove(current: VmConfiguration, plan: MovePlan): VmConfiguration {
  const targets = new Map(plan.disks.map((move) => [plan.after.disks[move.disk]?.id, move.target]));
  return {
    ...current,
    path: plan.after.path,
    snapshotFileLocation: plan.after.snapshotFileLocation,
    smartPagingFilePath: plan.after.smartPagingFilePath,
    storageGeneration: plan.generation,
    disks: current.disks.map((disk) => ({ ...disk, path: targets.get(disk.id) ?? disk.path })),
  };
}

function withTargets(configuration: VmConfiguration, disks: readonly DiskMove[]): VmConfiguration {
  const targets = new Map(disks.map((move) => [move.disk, move.target]));
  return { ...configuration, disks: configuration.disks.map((disk, index) => ({ ...disk, path: targets.get(index) ?? disk.path })) };
}

type Paths = Pick<VmConfiguration, 'path' | 'snapshotFileLocation' | 'smartPagingFilePath'>;

function planPaths(before: VmConfiguration, destination: Destination): Paths {
  if (destination.kind === 'single') {
    return { path: destination.folder, snapshotFileLocation: destination.folder, smartPagingFilePath: destination.folder };
  }
  return {
    path: destination.virtualMachinePath ?? before.path,
    snapshotFileLocation: destination.snapshotFilePath ?? before.snapshotFileLocation,
    smartPagingFilePath: destination.smartPagingFilePath ?? before.smartPagingFilePath,
  };
}

function planDisks(before: VmConfiguration, destination: Destination, remarks: string[]): readonly DiskMove[] {
  const wanted = destination.kind === 'single' ? everyDisk(before, destination.folder) : namedDisks(before, destination.vhds ?? []);
  const moves: DiskMove[] = [];
  const bySource = new Set<number>();
  const byTarget = new Map<string, string>();
  for (const { index, disk, target } of wanted) {
    if (disk.passThrough) {
      throw new VmStorageError(
        'InvalidState',
        `The storage of the virtual machine "${before.name}" cannot be moved: '${disk.path}' is a physical disk (pass-through). Detach it first.`,
        { target: disk.path },
      );
    }
    refuseFormat(disk);
    if (bySource.has(index)) {
      throw new VmStorageError('InvalidParameter', `The virtual hard disk '${disk.path}' is named more than once in the Vhds parameter.`, {
        target: disk.path,
      });
    }
    bySource.add(index);
    const other = byTarget.get(target);
    if (other !== undefined) {
      throw new VmStorageError(
        'InvalidParameter',
        `'${other}' and '${disk.path}' cannot both be moved to '${target}'. Move them apart with -Vhds.`,
        {
          target,
        },
      );
    }
    byTarget.set(target, disk.path);
    if (target === normal(disk.path)) {
      remarks.push(`The virtual hard disk '${disk.path}' is already there.`);
      continue;
    }
    moves.push({ disk: index, source: disk.path, target, format: disk.format });
  }
  return moves;
}

interface Wanted {
  readonly index: number;
  readonly disk: HardDisk;
  readonly target: string;
}

function everyDisk(before: VmConfiguration, folder: string): readonly Wanted[] {
  return before.disks.map((disk, index) => ({
    index,
    disk,
    target: path.posix.join(folder, 'Virtual Hard Disks', path.posix.basename(disk.path)),
  }));
}

function namedDisks(before: VmConfiguration, pairs: readonly VhdPair[]): readonly Wanted[] {
  return pairs.map(({ source, target }) => {
    const index = findDisk(before, source);
    const disk = before.disks[index];
    if (!disk) {
      throw new VmStorageError('InvalidParameter', `'${source}' is not a virtual hard disk of the virtual machine "${before.name}".`, {
        target: source,
        recommendedAction: 'Get-VMHardDiskDrive shows the disks it has.',
      });
    }
    if (path.posix.basename(disk.path) !== path.posix.basename(target)) {
      throw new VmStorageError(
        'InvalidParameter',
        `'${source}' cannot be moved to '${target}': the source and destination file names must match.`,
        {
          target,
        },
      );
    }
    return { index, disk, target };
  });
}

/** By its exact path, else without regard to case if that is clear: runbooks come from a world where case does not count. */
function findDisk(before: VmConfiguration, source: string): number {
  const exact = before.disks.findIndex((disk) => normal(disk.path) === source);
  if (exact >= 0) return exact;
  const folded = before.disks.flatMap((disk, index) => (normal(disk.path).toLowerCase() === source.toLowerCase() ? [index] : []));
  return folded.length === 1 ? folded[0]! : -1;
}

/** Formats that exist but are not moved yet. What a disk is was recorded when it was attached; its name says what it may hang on. */
function refuseFormat(disk: HardDisk): void {
  const extension = path.posix.extname(disk.path).toLowerCase();
  const kind = unmovable[extension];
  if (kind === undefined) return;
  throw new VmStorageError('NotImplemented', `The virtual hard disk '${disk.path}' cannot be moved: ${kind} are not implemented.`, {
    target: disk.path,
  });
}

const unmovable: { readonly [extension: string]: string } = {
  '.avhdx': 'checkpoints (.avhdx)',
  '.avhd': 'checkpoints (.avhd)',
  '.vhd': 'disks in the VHD format',
  '.vhds': 'VHD sets',
  '.qcow2': 'disks in the qcow2 format',
};

function normal(text: string): string {
  return path.posix.resolve('/', text);
}
