/**
 * Remove-VM: forgets a machine that is off and deletes its configuration, firmware variables and logs. Its disks stay. One whose
 * configuration is lost has no name any more: it is removed by its id.
 */
import { rm } from 'node:fs/promises';
import { VmStorageError } from '../../model/errors.js';
import { systemFiles } from '../../os/files.js';
import { publishMachine } from '../publish.js';
import { list, selectMachines } from '../selection.js';
import type { CmdletContext, CmdletHandler, HostServices, Migration, VmFault } from '../services.js';
import { each } from './each.js';
import { present, refuseMoving, refuseNotOff } from './machine-guard.js';

export function removeVm(services: HostServices, migration: Migration): CmdletHandler {
  return async (context) => {
    const { registry } = services;
    await registry.recheck();
    const given = list(context.bound['Name']).map(String);
    const faults = registry.faults().filter((fault) => given.some((name) => name.toLowerCase() === fault.vmId));
    const faultNames = new Set(given.filter((name) => faults.some((fault) => name.toLowerCase() === fault.vmId)));
    await each(context, faults, async (fault) => {
      const sentence = `Remove-VM will remove the virtual machine with id "${fault.vmId}", whose configuration '${fault.configurationFile}' cannot be used.`;
      if (!(await context.shouldProcess(sentence)) || !(await isSure(context, `with id "${fault.vmId}"`))) return;
      await services.locks.exclusive(fault.vmId, () => forget(services, fault));
    });
    await each(context, await selectMachines(context, registry, 'ObjectNotFound', faultNames), async ({ configuration: { id, name } }) => {
      const sentence = `Remove-VM will remove virtual machine "${name}".`;
      if (!(await context.shouldProcess(sentence)) || !(await isSure(context, `"${name}"`))) return;
      const removed = await services.locks.exclusive(id, async () => {
        const vm = present(services, id);
        await refuseMoving(services, vm.configuration);
        refuseNotOff(services, vm, 'stop it first');
        await services.workers.release(id);
        const last = publishMachine(vm, services, migration);
        await registry.remove(id);
        await removeFiles(services, id);
        return last;
      });
      if (context.bound['Passthru'] === true) await context.output({ ...removed, IsDeleted: true });
    });
  };
}

/** Hyper-V asks this whatever -Confirm says; in scripts -Force is the answer. */
async function isSure(context: CmdletContext, which: string): Promise<boolean> {
  return context.bound['Force'] === true || context.shouldContinue(`Are you sure you want to remove virtual machine ${which}?`);
}

async function removeFiles({ paths }: HostServices, id: string): Promise<void> {
  await Promise.all([
    rm(paths.vmRunFolder(id), { recursive: true, force: true }),
    rm(paths.vmLogFolder(id), { recursive: true, force: true }),
    systemFiles.removeDurably(paths.firmwareVariables(id)),
  ]);
}

async function forget(services: HostServices, { vmId, configurationFile }: VmFault): Promise<void> {
  const { registry, hypervisor } = services;
  await refuseMoving(services, { id: vmId, name: vmId });
  const { state, pid } = hypervisor.runtime(vmId);
  if (state !== 'Off') {
    throw new VmStorageError(
      'InvalidState',
      `The virtual machine with id "${vmId}" is ${state} (process ${pid}). Restore its configuration '${configurationFile}' and stop it, or end that process first.`,
      { target: vmId },
    );
  }
  await services.workers.release(vmId);
  await registry.remove(vmId).catch((error: unknown) => {
    // Forgotten all the same: what lies there cannot be told to be the machine's, and stays.
    if (registry.faults().some((fault) => fault.vmId === vmId)) throw error;
  });
  await removeFiles(services, vmId);
}
