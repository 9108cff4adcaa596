/**
 * What the command line alone asks of the host, by the words of its commands: `vmstorage host stop-guests` before the system stops, and
 * `start-guests`, which is what the unit's start says and does nothing unless guests were stopped so.
 */
import { VmStorageError } from '../../model/errors.js';
import { STOP_GUESTS, STOP_LIMIT_SECONDS, START_GUESTS } from '../../protocol/host-commands.js';
import type { RunningRecord } from '../../registry/running.js';
import type { AutomaticStart } from '../automatic-start.js';
import { stopGuests } from '../automatic-stop.js';
import type { CmdletMethods, HostServices } from '../services.js';

export function hostCommands(services: HostServices, record: RunningRecord, automaticStart: AutomaticStart): CmdletMethods {
  return {
    [STOP_GUESTS]: async (context) => {
      const limit = Number(context.bound['limitSeconds'] ?? STOP_LIMIT_SECONDS.default);
      if (!Number.isInteger(limit) || limit < 1 || limit > STOP_LIMIT_SECONDS.most) {
        throw new VmStorageError(
          'InvalidParameter',
          `A limit of ${String(context.bound['limitSeconds'])} seconds is not possible; use 1 to ${STOP_LIMIT_SECONDS.most}.`,
        );
      }
      await stopGuests(services, record, limit * 1000, async ({ name, how, error }) => {
        if (error) await context.error(error);
        else await context.information(`The virtual machine "${name}" was ${how}.`);
      });
    },
    [START_GUESTS]: async (context) => {
      for (const vmId of await automaticStart.startStopped()) {
        await context.information(`The virtual machine "${services.registry.byId(vmId)?.configuration.name ?? vmId}" is being started.`);
      }
    },
  };
}
