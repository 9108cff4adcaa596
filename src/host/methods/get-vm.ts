/** Get-VM. */
import { VmStorageError } from '../../model/errors.js';
import { publishMachine } from '../publish.js';
import { selectMachines } from '../selection.js';
import type { CmdletHandler, HostServices, Migration } from '../services.js';

export function getVm(services: HostServices, migration: Migration): CmdletHandler {
  return async (context) => {
    const { registry } = services;
    const all = context.bound['Name'] === undefined && context.bound['Id'] === undefined;
    if (all) await registry.recheck();
    const machines = all ? registry.list() : await selectMachines(context, registry, 'InvalidParameter');
    if (all) {
      for (const fault of registry.faults()) {
        await context.error(
          new VmStorageError(
            fault.code,
            `The virtual machine with id "${fault.vmId}" is registered, but its configuration '${fault.configurationFile}' cannot be used: ${fault.reason}. Nothing there was changed; restore the file, vouch for what is there with Import-VM -Path '${fault.configurationFile}', or forget the machine with Remove-VM -Name ${fault.vmId}.`,
            { target: fault.vmId },
          ),
        );
      }
    }
    const trouble = await services.fileTrouble(machines);
    for (const machine of [...machines].sort((a, b) => a.configuration.name.localeCompare(b.configuration.name))) {
      if (context.signal.aborted || context.stopRequested.aborted) return;
      await context.output(publishMachine(machine, services, migration, trouble.get(machine.configuration.id)));
    }
  };
}
