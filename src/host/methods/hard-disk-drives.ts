/** Get-, Add- and Remove-VMHardDiskDrive. The last two on a machine that is off: plugging in under a running guest is not there yet. */
import { randomUUID } from 'node:crypto';
import type { Bound } from '../../../cmdlets/index.js';
import { VmStorageError } from '../../model/errors.js';
import type { ControllerType, HardDisk, VmConfiguration } from '../../model/vm.js';
import { absolutePath, examineDisk } from '../disk-files.js';
import { publishDrive } from '../publish.js';
import { list, selectMachines } from '../selection.js';
import type { CmdletContext, CmdletHandler, HostServices, VmRecord } from '../services.js';
import { each } from './each.js';
import { present, refuseMoving, refuseNotOff } from './machine-guard.js';

const NO_HOT_PLUG = 'disks are attached and detached while it is off';

export function getHardDiskDrive(services: HostServices): CmdletHandler {
  return async (context) => {
    const bound = context.bound as Bound<'Get-VMHardDiskDrive'>;
    await each(context, await selectMachines(context, services.registry), async ({ configuration }) => {
      for (const disk of configuration.disks) if (isAt(disk, bound)) await context.output(publishDrive(configuration, disk));
    });
  };
}

export function addHardDiskDrive(services: HostServices): CmdletHandler {
  return async (context) => {
    const bound = context.bound as Bound<'Add-VMHardDiskDrive'>;
    if (bound.Path === undefined) {
      throw new VmStorageError(
        'NotImplemented',
        'A drive without a disk is not implemented. Give the disk with -Path: a file, or the /dev path of a block device.',
        { target: 'Path' },
      );
    }
    const path = absolutePath(bound.Path, context.cwd);
    await each(context, await selectMachines(context, services.registry), async ({ configuration: { id, name } }) => {
      if (!(await context.shouldProcess(`Add-VMHardDiskDrive will add a hard disk drive to virtual machine "${name}".`))) return;
      const [after, disk] = await services.locks.exclusive(id, async () => {
        const vm = await changeable(services, id);
        const place = freePlace(vm.configuration, bound);
        const { file, warnings } = await examineDisk(services, path, vm.owner, bound.AllowForeignContent === true);
        for (const warning of warnings) await context.warning(warning);
        const claim = services.locks.claimPaths([path], `it is being attached to virtual machine "${name}"`);
        try {
          const added: HardDisk = { id: randomUUID(), ...place, ...file };
          const disks = [...vm.configuration.disks, added];
          return [await services.registry.update({ ...vm.configuration, disks }), added] as const;
        } finally {
          claim.release();
        }
      });
      if (bound.Passthru === true) await context.output(publishDrive(after.configuration, disk));
    });
  };
}

export function removeHardDiskDrive(services: HostServices): CmdletHandler {
  return async (context) => {
    const bound = context.bound as Bound<'Remove-VMHardDiskDrive'>;
    await each(context, await drivesOf(context, services, bound), async ({ vmId, vmName, driveId }) => {
      if (!(await context.shouldProcess(`Remove-VMHardDiskDrive will remove a hard disk drive from virtual machine "${vmName}".`))) return;
      const [configuration, disk] = await services.locks.exclusive(vmId, async () => {
        const vm = await changeable(services, vmId);
        const found = vm.configuration.disks.find((one) => one.id === driveId);
        if (!found)
          throw new VmStorageError('ObjectNotFound', `The hard disk drive was not found in virtual machine "${vmName}".`, {
            target: vmName,
          });
        await services.registry.update({ ...vm.configuration, disks: vm.configuration.disks.filter((one) => one !== found) });
        return [vm.configuration, found] as const;
      });
      if (bound.Passthru === true) await context.output({ ...publishDrive(configuration, disk), IsDeleted: true });
    });
  };
}

async function changeable(services: HostServices, vmId: string): Promise<VmRecord> {
  const vm = present(services, vmId);
  await refuseMoving(services, vm.configuration);
  refuseNotOff(services, vm, NO_HOT_PLUG);
  await services.workers.release(vmId); // one still ending from the last run would serve the old list
  return vm;
}

interface Place {
  readonly controllerType: ControllerType;
  readonly controllerNumber: number;
  readonly controllerLocation: number;
}
type Wanted = Pick<Bound<'Add-VMHardDiskDrive'>, 'ControllerType' | 'ControllerNumber' | 'ControllerLocation'>;

function isAt(disk: Place, wanted: Wanted): boolean {
  return (
    (wanted.ControllerType === undefined || wanted.ControllerType === disk.controllerType) &&
    (wanted.ControllerNumber === undefined || wanted.ControllerNumber === disk.controllerNumber) &&
    (wanted.ControllerLocation === undefined || wanted.ControllerLocation === disk.controllerLocation)
  );
}

/** What a machine has: generation 1 two IDE controllers with two places each, both generations one SCSI controller with 64. */
function places(vm: VmConfiguration): Place[] {
  const ide =
    vm.generation === 1
      ? [0, 1].flatMap((controllerNumber) =>
          [0, 1].map((controllerLocation) => ({ controllerType: 'IDE' as const, controllerNumber, controllerLocation })),
        )
      : [];
  return [
    ...ide,
    ...Array.from({ length: 64 }, (_, controllerLocation) => ({
      controllerType: 'SCSI' as const,
      controllerNumber: 0,
      controllerLocation,
    })),
  ];
}

/** The first free place that fits what was asked. */
export function freePlace(vm: VmConfiguration, wanted: Wanted): Place {
  if (wanted.ControllerType !== undefined && wanted.ControllerType !== 'IDE' && wanted.ControllerType !== 'SCSI') {
    throw new VmStorageError('NotImplemented', `A ${String(wanted.ControllerType)} controller is not implemented. Use IDE or SCSI.`, {
      target: 'ControllerType',
    });
  }
  const possible = places(vm).filter((place) => isAt(place, wanted));
  const free = possible.find(
    (place) =>
      !vm.disks.some((disk) =>
        isAt(disk, {
          ControllerType: place.controllerType,
          ControllerNumber: place.controllerNumber,
          ControllerLocation: place.controllerLocation,
        }),
      ),
  );
  if (free) return free;
  const asked = `${wanted.ControllerType ?? 'any'} ${wanted.ControllerNumber ?? '*'}:${wanted.ControllerLocation ?? '*'}`;
  throw possible.length === 0
    ? new VmStorageError(
        'ObjectNotFound',
        `Failed to add device 'Virtual Hard Disk'. Virtual machine "${vm.name}" (generation ${vm.generation}) has no controller location ${asked}.`,
        { target: vm.name },
      )
    : new VmStorageError(
        'InvalidParameter',
        `Failed to add device 'Virtual Hard Disk'. Controller location ${asked} of virtual machine "${vm.name}" is already in use.`,
        { target: vm.name },
      );
}

interface DriveReference {
  readonly vmId: string;
  readonly vmName: string;
  readonly driveId: string;
}

async function drivesOf(context: CmdletContext, services: HostServices, bound: Bound<'Remove-VMHardDiskDrive'>): Promise<DriveReference[]> {
  const found: DriveReference[] = [];
  for (const drive of list(context.bound['VMHardDiskDrive'])) {
    const given = (typeof drive === 'object' && drive !== null && !Array.isArray(drive) ? drive : {}) as Record<string, unknown>;
    const vm = services.registry.byId(String(given['VMId'] ?? ''));
    const driveId = String(given['Id'] ?? '')
      .split('\\')
      .at(-1)!
      .toLowerCase();
    if (vm) found.push({ vmId: vm.configuration.id, vmName: vm.configuration.name, driveId });
    else
      await context.error(
        new VmStorageError('ObjectNotFound', `Hyper-V was unable to find a virtual machine with id "${String(given['VMId'] ?? '')}".`, {
          target: String(given['VMName'] ?? ''),
        }),
      );
  }
  if (bound.VMName === undefined) return found;
  for (const { configuration } of await selectMachines(context, services.registry)) {
    const disk = configuration.disks.find((one) => isAt(one, bound));
    if (disk) found.push({ vmId: configuration.id, vmName: configuration.name, driveId: disk.id });
    else {
      await context.error(
        new VmStorageError(
          'ObjectNotFound',
          `Virtual machine "${configuration.name}" has no hard disk drive at ${bound.ControllerType ?? 'any'} ${bound.ControllerNumber ?? '*'}:${bound.ControllerLocation ?? '*'}.`,
          { target: configuration.name },
        ),
      );
    }
  }
  return found;
}
