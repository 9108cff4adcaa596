/** New-VM: a machine that is off, without a disk, with an existing one, or with a new dynamic one. */
import { randomUUID } from 'node:crypto';
import { access, constants, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Bound } from '../../../cmdlets/index.js';
import { VmStorageError } from '../../model/errors.js';
import { hasHidden, visibleLine } from '../../model/visible.js';
import type { DirectBoot, HardDisk, VmConfiguration } from '../../model/vm.js';
import { makeHeld, whileHeld } from '../../os/held-folders.js';
import { runName } from '../../os/paths.js';
import { absolutePath, createImage, examineDisk, refuseOccupied, type DiskFile } from '../disk-files.js';
import { publishMachine } from '../publish.js';
import type { CmdletHandler, HostServices, Migration, Owner } from '../services.js';

/** As New-VM of Windows Server. */
const MEMORY_DEFAULT_BYTES = 512 * 2 ** 20;
const NAME_DEFAULT = 'New Virtual Machine';

export function newVm(services: HostServices, migration: Migration): CmdletHandler {
  return async (context) => {
    const bound = context.bound as Bound<'New-VM'>;
    const { registry, settings, locks, paths } = services;
    const name = machineName(bound.Name ?? NAME_DEFAULT);
    const path = absolutePath(bound.Path ?? settings.current.virtualMachinePath, context.cwd);
    const id = freshId(services);
    const directBoot = await readDirectBoot(bound, null, context.cwd);
    const base: VmConfiguration = {
      schema: 1,
      id,
      name,
      generation: generationOf(bound.Generation),
      memoryStartupBytes: memoryBytes(bound.MemoryStartupBytes ?? String(MEMORY_DEFAULT_BYTES)),
      processorCount: 1,
      notes: `Logs: ${paths.vmLogFolder(id)}`,
      path,
      snapshotFileLocation: path,
      smartPagingFilePath: path,
      disks: [],
      directBoot,
      createdAt: services.clock.now().toISOString(),
      automaticStartAction: 'StartIfRunning', // as Hyper-V's, which would save the guest's state before a boot
      automaticStopAction: 'ShutDown',
    };
    const newDisk =
      bound.NewVHDPath === undefined
        ? null
        : newDiskPath(
            bound.NewVHDPath,
            bound.Path === undefined ? settings.current.virtualHardDiskPath : join(path, 'Virtual Hard Disks'),
            context.cwd,
          );
    if (newDisk !== null) await refuseOccupied(newDisk.path, newDisk.ownFolder);
    const oldDisk = bound.VHDPath === undefined ? null : absolutePath(bound.VHDPath, context.cwd);
    const owner = await context.caller();
    const examined = oldDisk === null ? null : await examineDisk(services, oldDisk, owner, bound.AllowForeignContent === true);
    for (const warning of examined?.warnings ?? []) await context.warning(warning);
    if (!(await context.shouldProcess(`New-VM will create a new virtual machine "${name}".`))) return;
    const claim = locks.claimPaths(oldDisk === null ? [] : [oldDisk], 'a virtual machine is being created with it');
    try {
      const disk = newDisk === null ? (examined?.file ?? null) : await makeDisk(services, newDisk, bound, owner);
      try {
        const record = await registry.add({ ...base, disks: disk ? [firstDisk(base.generation, disk)] : [] }, owner);
        if (services.hypervisor.remark !== null) await context.verbose(services.hypervisor.remark);
        await context.output(publishMachine(record, services, migration));
      } catch (error) {
        if (newDisk !== null) await removeDisk(services, newDisk.path, owner);
        throw error;
      }
    } finally {
      claim.release();
    }
  };
}

export function machineName(name: string): string {
  if (name.trim() === '' || name.length > 100 || hasHidden(name)) {
    throw new VmStorageError(
      'InvalidParameter',
      `"${visibleLine(name.slice(0, 120))}" cannot be the name of a virtual machine: it must have 1 to 100 characters, none of them a control character or one that is not seen.`,
      { target: name },
    );
  }
  return name;
}

/** QEMU needs whole MiB; Hyper-V as well (whole 2 MB). */
export function memoryBytes(given: string | number): number {
  const bytes = Number(given);
  if (Number.isSafeInteger(bytes) && bytes >= 32 * 2 ** 20 && bytes <= 2 ** 44 && bytes % 2 ** 20 === 0) return bytes;
  throw new VmStorageError(
    'InvalidParameter',
    `A memory of ${given} bytes is not possible: it must be a whole number of MB, from 32MB to 16TB.`,
    { target: String(given) },
  );
}

/** The kernel to boot; `present` is what is changed. */
export async function readDirectBoot(
  bound: Pick<Bound<'New-VM'>, 'KernelPath' | 'InitialRamdiskPath' | 'KernelArguments'>,
  before: DirectBoot | null,
  cwd: string,
): Promise<DirectBoot | null> {
  const { KernelPath, InitialRamdiskPath, KernelArguments } = bound;
  if (KernelPath === undefined && InitialRamdiskPath === undefined && KernelArguments === undefined) return before;
  const kernel = KernelPath === undefined ? before?.kernel : absolutePath(KernelPath, cwd);
  if (kernel === undefined)
    throw new VmStorageError('InvalidParameter', '-InitialRamdiskPath and -KernelArguments need -KernelPath.', { target: 'KernelPath' });
  const initrd = InitialRamdiskPath === undefined ? (before?.initrd ?? null) : absolutePath(InitialRamdiskPath, cwd);
  for (const file of [kernel, ...(initrd === null ? [] : [initrd])]) {
    await access(file, constants.R_OK).catch((cause: unknown) => {
      throw new VmStorageError('ObjectNotFound', `'${file}' cannot be booted: it is not there or cannot be read.`, { target: file, cause });
    });
    if (!(await stat(file)).isFile())
      throw new VmStorageError('InvalidParameter', `'${file}' cannot be booted: it is not a file.`, { target: file });
  }
  const text = KernelArguments ?? before?.arguments ?? '';
  if (text.length > 2047 || text.includes('\0'))
    throw new VmStorageError('InvalidParameter', 'The command line of a kernel has at most 2047 characters.', {
      target: 'KernelArguments',
    });
  return { kernel, initrd, arguments: text };
}

function generationOf(given: number | undefined): 1 | 2 {
  if (given === undefined || Number(given) === 1) return 1;
  if (Number(given) === 2) return 2;
  throw new VmStorageError('InvalidParameter', `There is no generation ${given}; use 1 or 2.`, { target: String(given) });
}

interface NewDisk {
  readonly path: string;
  /** It goes into the folder for disks, which is made. */
  readonly ownFolder: boolean;
}

function newDiskPath(given: string, disksFolder: string, cwd: string): NewDisk {
  return given.includes('/') ? { path: absolutePath(given, cwd), ownFolder: false } : { path: join(disksFolder, given), ownFolder: true };
}

async function makeDisk(services: HostServices, disk: NewDisk, bound: Bound<'New-VM'>, owner: Owner): Promise<DiskFile> {
  if (disk.ownFolder) (await makeHeld(services.heldFolders, join(disk.path, '..'), owner)).close();
  const facts = await createImage(services, {
    path: disk.path,
    kind: 'dynamic',
    sizeBytes: BigInt(bound.NewVHDSizeBytes ?? '0'),
    blockSizeBytes: null,
    logicalSectorBytes: null,
    physicalSectorBytes: null,
    owner,
  });
  return { path: disk.path, format: facts.format, passThrough: false };
}

/** One that was just made, for a machine that is not registered after all. */
async function removeDisk({ heldFolders }: HostServices, path: string, owner: Owner): Promise<void> {
  await whileHeld(heldFolders.hold(dirname(path), owner), async (folder) => {
    const disk = await folder.entry(basename(path));
    if (disk?.kind === 'file') await folder.remove(basename(path), disk);
  });
}

function firstDisk(generation: 1 | 2, disk: DiskFile): HardDisk {
  return { id: randomUUID(), controllerType: generation === 1 ? 'IDE' : 'SCSI', controllerNumber: 0, controllerLocation: 0, ...disk };
}

/** Drawn until its first 8 digits, which name the run folder, are not another machine's. */
function freshId(services: HostServices): string {
  const taken = new Set([
    ...services.registry.list().map((vm) => runName(vm.configuration.id)),
    ...services.registry.faults().map((fault) => runName(fault.vmId)),
  ]);
  for (;;) {
    const id = randomUUID();
    if (!taken.has(runName(id))) return id;
  }
}
