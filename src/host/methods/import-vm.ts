/**
 * Import-VM, in place: a person vouches for a configuration that this host has not written. Nothing is believed until it has passed what
 * New-VM and Add-VMHardDiskDrive ask of the same.
 */
import type { Bound } from '../../../cmdlets/index.js';
import { VmStorageError } from '../../model/errors.js';
import type { VmConfiguration } from '../../model/vm.js';
import { absolutePath, examineDisk } from '../disk-files.js';
import { publishMachine } from '../publish.js';
import type { CmdletHandler, HostServices, Migration, Owner } from '../services.js';
import { refuseMoving } from './machine-guard.js';

export function importVm(services: HostServices, migration: Migration): CmdletHandler {
  return async (context) => {
    const bound = context.bound as Bound<'Import-VM'>;
    const { registry, locks } = services;
    if (bound.Path === undefined)
      throw new VmStorageError('NotImplemented', 'A compatibility report is not implemented. Give the configuration file with -Path.', {
        target: 'CompatibilityReport',
      });
    const file = absolutePath(bound.Path, context.cwd);
    const owner = await context.caller();
    const configuration = await registry.examine(file, owner);
    const { id, name } = configuration;
    refuseElsewhere(services, configuration, file);
    if (!(await context.shouldProcess(`Import-VM will register the virtual machine "${name}" from "${file}".`))) return;
    const record = await locks.exclusive(id, async () => {
      if (registry.byId(id))
        throw new VmStorageError('AlreadyExists', `The virtual machine "${name}" (${id}) is registered already.`, { target: file });
      await refuseMoving(services, { id, name });
      for (const warning of await examineDisks(services, configuration, owner)) await context.warning(warning);
      return registry.adopt(configuration, file, owner);
    });
    await context.output(publishMachine(record, services, migration));
  };
}

/** In place means where the machine says that it is: nothing here would move with it. */
function refuseElsewhere({ registry }: HostServices, { id, name, path }: VmConfiguration, file: string): void {
  const place = registry.configurationFileUnder(path, id);
  if (place === file) return;
  throw new VmStorageError(
    'InvalidParameter',
    `The virtual machine "${name}" cannot be registered from '${file}': its files are to be copied, or its configuration belongs to '${place}'. Put it there; importing a copy is not implemented.`,
    { target: file },
  );
}

/** What its disks are was said when they were attached; where they lie and who has them is asked as then. */
async function examineDisks(services: HostServices, { disks }: VmConfiguration, owner: Owner): Promise<readonly string[]> {
  const warnings: string[] = [];
  for (const { path } of disks) warnings.push(...(await examineDisk(services, path, owner, true)).warnings);
  return warnings;
}
