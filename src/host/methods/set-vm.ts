/** Set-VM. What it does not do yet is refused before it comes here (cmdlets/refuse.ts). */
import type { Bound } from '../../../cmdlets/index.js';
import { VmStorageError } from '../../model/errors.js';
import type { VmConfiguration } from '../../model/vm.js';
import { absolutePath } from '../disk-files.js';
import { START_DELAY_MOST_SECONDS } from '../../registry/schema.js';
import { publishMachine } from '../publish.js';
import { selectMachines } from '../selection.js';
import type { CmdletHandler, HostServices, Migration } from '../services.js';
import { each } from './each.js';
import { present, refuseMoving, refuseNotOff } from './machine-guard.js';
import { machineName, memoryBytes, readDirectBoot } from './new-vm.js';

export function setVm(services: HostServices, migration: Migration): CmdletHandler {
  return async (context) => {
    const bound = context.bound as Bound<'Set-VM'>;
    await each(context, await selectMachines(context, services.registry), async ({ configuration: { id, name } }) => {
      if (!(await context.shouldProcess(`Set-VM will configure the virtual machine "${name}".`))) return;
      const record = await services.locks.exclusive(id, async () => {
        const vm = present(services, id);
        await refuseMoving(services, vm.configuration);
        const after = await changed(vm.configuration, bound, context.cwd);
        const { memoryStartupBytes, processorCount, directBoot } = vm.configuration;
        const atStart =
          after.memoryStartupBytes !== memoryStartupBytes ||
          after.processorCount !== processorCount ||
          JSON.stringify(after.directBoot) !== JSON.stringify(directBoot);
        if (atStart) refuseNotOff(services, vm, 'memory, processors and kernel can be changed while it is off');
        return services.registry.update(after);
      });
      if (bound.Passthru === true) await context.output(publishMachine(record, services, migration));
    });
  };
}

async function changed(before: VmConfiguration, bound: Bound<'Set-VM'>, cwd: string): Promise<VmConfiguration> {
  return {
    ...before,
    name: bound.NewVMName === undefined ? before.name : machineName(bound.NewVMName),
    notes: bound.Notes ?? before.notes,
    memoryStartupBytes: bound.MemoryStartupBytes === undefined ? before.memoryStartupBytes : memoryBytes(bound.MemoryStartupBytes),
    processorCount: bound.ProcessorCount === undefined ? before.processorCount : processorCount(bound.ProcessorCount),
    snapshotFileLocation:
      bound.SnapshotFileLocation === undefined ? before.snapshotFileLocation : absolutePath(bound.SnapshotFileLocation, cwd),
    smartPagingFilePath:
      bound.SmartPagingFilePath === undefined ? before.smartPagingFilePath : absolutePath(bound.SmartPagingFilePath, cwd),
    automaticStartAction: bound.AutomaticStartAction ?? before.automaticStartAction,
    ...(bound.AutomaticStartDelay === undefined ? {} : { automaticStartDelaySeconds: startDelay(bound.AutomaticStartDelay) }),
    automaticStopAction: bound.AutomaticStopAction ?? before.automaticStopAction,
    directBoot: await readDirectBoot(bound, before.directBoot, cwd),
  };
}

function processorCount(given: string | number): number {
  const count = Number(given);
  if (Number.isInteger(count) && count >= 1 && count <= 240) return count;
  throw new VmStorageError('InvalidParameter', `${given} virtual processors are not possible; use 1 to 240.`, { target: String(given) });
}

function startDelay(seconds: number): number {
  if (Number.isInteger(seconds) && seconds >= 0 && seconds <= START_DELAY_MOST_SECONDS) return seconds;
  throw new VmStorageError(
    'InvalidParameter',
    `An automatic start after ${seconds} seconds is not possible; use 0 to ${START_DELAY_MOST_SECONDS}.`,
    {
      target: String(seconds),
    },
  );
}
