/** Remove-VM: forgets a machine that is off and deletes its configuration, firmware variables and logs. Its disks stay. */
import { rm } from 'node:fs/promises';
import { systemFiles } from '../../os/files.js';
import { publishMachine } from '../publish.js';
import { selectMachines } from '../selection.js';
import type { CmdletHandler, HostServices, Migration } from '../services.js';
import { each } from './each.js';
import { present, refuseMoving, refuseNotOff } from './machine-guard.js';

export function removeVm(services: HostServices, migration: Migration): CmdletHandler {
  return async (context) => {
    const { registry, paths } = services;
    await each(context, await selectMachines(context, registry), async ({ configuration: { id, name } }) => {
      if (!(await context.shouldProcess(`Remove-VM will remove virtual machine "${name}".`))) return;
      const removed = await services.locks.exclusive(id, async () => {
        const vm = present(services, id);
        await refuseMoving(services, vm);
        refuseNotOff(services, vm, 'stop it first');
        await services.workers.release(id);
        const last = publishMachine(vm, services, migration);
        await registry.remove(id);
        await Promise.all([
          rm(paths.vmRunFolder(id), { recursive: true, force: true }),
          rm(paths.vmLogFolder(id), { recursive: true, force: true }),
          systemFiles.removeDurably(paths.firmwareVariables(id)),
        ]);
        return last;
      });
      if (context.bound['Passthru'] === true) await context.output({ ...removed, IsDeleted: true });
    });
  };
}
