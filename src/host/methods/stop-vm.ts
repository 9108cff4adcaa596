/** Stop-VM: the power button and patience, with -Force the plug when that is over, with -TurnOff the plug at once. A move goes on. */
import { VmStorageError } from '../../model/errors.js';
import { publishMachine } from '../publish.js';
import { selectMachines } from '../selection.js';
import type { CmdletHandler, HostServices, Migration } from '../services.js';
import { each } from './each.js';
import { present } from './machine-guard.js';
import { ALREADY } from './start-vm.js';

/** A guest that writes out its caches on a slow disk needs most of it; one that ignores the button none. */
export const SHUTDOWN_LIMIT_MS = 60_000;

export function stopVm(services: HostServices, migration: Migration, limitMs: number = SHUTDOWN_LIMIT_MS): CmdletHandler {
  return async (context) => {
    const { hypervisor, locks } = services;
    const turnOff = context.bound['TurnOff'] === true;
    const force = context.bound['Force'] === true;
    await each(context, await selectMachines(context, services.registry), async ({ configuration: { id, name } }) => {
      const what = turnOff ? 'turn off' : 'shut down';
      if (!(await context.shouldProcess(`Stop-VM will ${what} the virtual machine "${name}".`))) return;
      await locks.exclusive(id, async () => {}); // behind a start that is under way; not held while waiting, a move needs it
      if (hypervisor.state(id) === 'Off') await context.warning(ALREADY);
      else if (turnOff) await hypervisor.turnOff(id);
      else await shutDown();
      await letGo();
      if (context.bound['Passthru'] === true) await context.output(publishMachine(present(services, id), services, migration));

      /** Whoever stops a machine may want its files: they are free when this cmdlet returns. A worker that moves them keeps them. */
      async function letGo(): Promise<void> {
        if (hypervisor.state(id) !== 'Off') return;
        await services.workers.release(id).catch((error: unknown) => {
          const reason = error instanceof Error ? error.message : String(error);
          return context.warning(`Virtual machine "${name}" is off, but its disk files are still in use: ${reason}`);
        });
      }

      async function shutDown(): Promise<void> {
        let obeyed: boolean;
        try {
          obeyed = await hypervisor.shutDown(id, limitMs, context.stopRequested);
        } catch (error) {
          if (!force) throw error;
          obeyed = false; // its monitor does not answer: the plug needs none
        }
        if (obeyed) return;
        if (context.stopRequested.aborted) {
          throw new VmStorageError(
            'OperationStopped',
            `The shutdown of virtual machine "${name}" was requested, but it was not waited for.`,
            { target: name },
          );
        }
        if (!force) {
          throw new VmStorageError(
            'OperationFailed',
            `Virtual machine "${name}" did not shut down within ${limitMs / 1000} seconds: the guest does not obey the power button. Use -TurnOff to turn it off, or -Force to do that when it does not obey.`,
            { target: name },
          );
        }
        await context.verbose(
          `The guest of virtual machine "${name}" did not shut down within ${limitMs / 1000} seconds and is turned off.`,
        );
        await hypervisor.turnOff(id);
      }
    });
  };
}
