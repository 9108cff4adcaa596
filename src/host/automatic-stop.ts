/**
 * AutomaticStopAction: before the system stops, every guest that runs is shut down or turned off, all at once, within a limit. Whoever does
 * not obey by then is turned off: the system would do the same a moment later, and would not wait for its disks.
 *
 * Which guests ran is written down first. What is written after that does not change it, so that they are started again after the boot.
 */
import { VmStorageError } from '../model/errors.js';
import type { RunningRecord } from '../registry/running.js';
import type { HostServices } from './services.js';

/** For running.json; afterwards it is written, or not, beside the rest. */
const RECORD_LIMIT_MS = 5_000;

export interface GuestEnd {
  readonly vmId: string;
  readonly name: string;
  readonly how: 'shut down' | 'turned off' | 'turned off, for it did not shut down in time' | 'not stopped';
  /** Of what was not stopped. */
  readonly error: VmStorageError | null;
}

export async function stopGuests(
  services: HostServices,
  record: RunningRecord,
  limitMs: number,
  told: (end: GuestEnd) => Promise<void>,
): Promise<void> {
  const { registry, hypervisor, clock, log } = services;
  const vmIds = [...registry.list().map((vm) => vm.configuration.id), ...registry.faults().map((fault) => fault.vmId)].filter(
    (vmId) => hypervisor.state(vmId) !== 'Off',
  );
  const written = record.change((old) => ({
    ...old,
    stopped: [...new Set([...old.stopped, ...old.running, ...old.waiting, ...vmIds])],
    waiting: [],
  }));
  await Promise.race([written, clock.sleep(RECORD_LIMIT_MS)]); // a file system that hangs keeps no guest from being shut down
  log.info({ vmIds, limitMs }, 'the system stops: guests are shut down');
  await Promise.all(
    vmIds.map(async (vmId) => {
      const name = registry.byId(vmId)?.configuration.name ?? vmId;
      const end = await stopOne(services, vmId, limitMs).then(
        (how): GuestEnd => ({ vmId, name, how, error: null }),
        (cause: unknown): GuestEnd => ({ vmId, name, how: 'not stopped', error: asError(name, cause) }),
      );
      log[end.error ? 'error' : 'info'](
        { vmId, name, how: end.how, reason: end.error?.message },
        'a guest was stopped because the system stops',
      );
      await told(end);
    }),
  );
}

async function stopOne(services: HostServices, vmId: string, limitMs: number): Promise<GuestEnd['how']> {
  const { registry, hypervisor, locks, workers, clock, log } = services;
  await Promise.race([locks.exclusive(vmId, async () => {}), clock.sleep(limitMs)]); // behind a start that is under way
  if (hypervisor.state(vmId) === 'Off') return 'turned off';
  // Save is refused by Set-VM; a configuration of an earlier version may say it all the same.
  const obeyed = registry.byId(vmId)?.configuration.automaticStopAction !== 'TurnOff' && (await shutDown(services, vmId, limitMs));
  if (!obeyed) await hypervisor.turnOff(vmId);
  // Its disks are closed before their file systems go.
  await workers
    .release(vmId)
    .catch((error: unknown) => log.warn({ vmId, error: String(error) }, 'a guest is off, but its disk files are still in use'));
  if (obeyed) return 'shut down';
  return registry.byId(vmId)?.configuration.automaticStopAction === 'TurnOff'
    ? 'turned off'
    : 'turned off, for it did not shut down in time';
}

/** A guest whose monitor does not answer obeys nothing. */
async function shutDown({ hypervisor, log }: HostServices, vmId: string, limitMs: number): Promise<boolean> {
  try {
    if (hypervisor.state(vmId) === 'Paused') await hypervisor.resume(vmId); // it hears no button while it stands still
    return await hypervisor.shutDown(vmId, limitMs);
  } catch (error) {
    log.warn({ vmId, error: String(error) }, 'the power button could not be pressed');
    return false;
  }
}

function asError(name: string, cause: unknown): VmStorageError {
  if (cause instanceof VmStorageError) return cause;
  return new VmStorageError('OperationFailed', `The virtual machine "${name}" could not be stopped: ${String(cause)}`, {
    target: name,
    cause,
  });
}
