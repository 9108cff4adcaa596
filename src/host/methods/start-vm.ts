/** Start-VM: the worker serves first, then QEMU is made, then the peers of the sockets are compared, then the guest executes. */
import { VmStorageError } from '../../model/errors.js';
import type { VmConfiguration } from '../../model/vm.js';
import { waitUntil } from '../../os/clock.js';
import { refuseUnsafeDevice } from '../disk-files.js';
import { publishMachine } from '../publish.js';
import { selectMachines } from '../selection.js';
import type { CmdletHandler, HostServices, Migration, VmRecord, WorkerClient } from '../services.js';
import { each } from './each.js';
import { present } from './machine-guard.js';

/** A disk may wait for the lock of a process that is just ending. */
const SERVED_LIMIT_MS = 15_000;
const PEER_LIMIT_MS = 5_000;
/** A worker that died is back at the first or second attempt. */
const RESTARTS_AWAITED = 3;

export const ALREADY = 'The virtual machine is already in the specified state.';

export function startVm(services: HostServices, migration: Migration): CmdletHandler {
  return async (context) => {
    await each(context, await selectMachines(context, services.registry), async ({ configuration: { id, name } }) => {
      if (!(await context.shouldProcess(`Start-VM will start the virtual machine "${name}".`))) return;
      await services.locks.exclusive(id, async () => {
        const { hypervisor } = services;
        const state = hypervisor.state(id);
        if (state === 'Running') await context.warning(ALREADY);
        else if (state === 'Paused') await hypervisor.resume(id);
        else if (state === 'Off') {
          if (hypervisor.remark !== null) await context.warning(hypervisor.remark);
          await startMachine(services, present(services, id), (text) => context.warning(text));
        } else
          throw new VmStorageError(
            'InvalidState',
            `The operation cannot be performed while the virtual machine is in its current state. Virtual machine "${name}" is ${state}.`,
            { target: name },
          );
      });
      if (context.bound['Passthru'] === true) await context.output(publishMachine(present(services, id), services, migration));
    });
  };
}

/** Rejects with the guest off and nothing left behind. */
export async function startMachine(services: HostServices, vm: VmRecord, warn: (text: string) => Promise<void>): Promise<void> {
  const { configuration } = vm;
  const served = services.workers.servedDisks(vm).length;
  let worker: WorkerClient | null = null;
  await services.hypervisor.start(configuration, {
    warn,
    prepare: async () => {
      await refuseUsedDevices(services, configuration);
      if (served === 0) return;
      refuseSilent(services, configuration);
      worker = await services.workers.forVm(vm).catch((error: unknown) => {
        throw error instanceof VmStorageError ? notStarted(configuration.name, error) : error;
      });
      await waitForDisks(services, vm, worker);
      for (const { path } of services.workers.servedDisks(vm)) await refuseUsed(worker, configuration.name, path);
    },
    verify: async (pid) => {
      if (worker) await comparePeers(services, vm, worker, pid);
    },
  });
}

/** A worker that an earlier run or a move has left: one that does not answer, or keeps failing to serve, would be waited for in vain. */
function refuseSilent({ workers }: HostServices, { id, name }: VmConfiguration): void {
  const { trouble, restarts, pid } = workers.health(id);
  if (trouble === null || (pid === null && restarts < RESTARTS_AWAITED)) return;
  throw new VmStorageError('InvalidState', `Virtual machine "${name}" cannot be started: ${trouble.replace(/\.$/, '')}.`, { target: name });
}

/** QEMU opens these itself; that it cannot have one exclusively says nothing of who has it. */
async function refuseUsedDevices(services: HostServices, { name, disks }: VmConfiguration): Promise<void> {
  const devices = disks.filter((disk) => disk.passThrough);
  if (devices.length === 0) return;
  for (const { path } of devices) {
    await refuseUnsafeDevice(services, path).catch((error: unknown) => {
      throw error instanceof VmStorageError ? notStarted(name, error) : error;
    });
  }
  await services.workers.tool(async (tool) => {
    for (const { path } of devices) await refuseUsed(tool, name, path);
  });
}

/** The kernel's own use of a disk, which no lock tells of. */
async function refuseUsed(worker: WorkerClient, name: string, path: string): Promise<void> {
  await worker.call('refuseInUse', { path }).catch((error: unknown) => {
    throw error instanceof VmStorageError ? notStarted(name, error) : error;
  });
}

/** A worker says what is wrong with a file; of several machines it has to be said which one that keeps from starting. */
function notStarted(name: string, { code, message, cause }: VmStorageError): VmStorageError {
  return new VmStorageError(code, `Virtual machine "${name}" could not be started: ${message}`, { target: name, cause });
}

async function waitForDisks(services: HostServices, vm: VmRecord, worker: WorkerClient): Promise<void> {
  let waiting = '';
  const ready = await waitUntil(services.clock, SERVED_LIMIT_MS, 50, async () => {
    const { disks } = await worker.call('status', {});
    const missing = services.workers.servedDisks(vm).filter((wanted) => !disks.some((disk) => disk.index === wanted.index));
    const held = disks.filter((disk) => disk.waitingFor !== null);
    waiting = [...missing.map((disk) => `'${disk.path}' is not served`), ...held.map((disk) => `'${disk.path}': ${disk.waitingFor}`)].join(
      '; ',
    );
    return waiting === '' ? true : undefined;
  });
  if (ready) return;
  throw new VmStorageError('ObjectInUse', `Virtual machine "${vm.configuration.name}" cannot be started: ${waiting}.`, {
    target: vm.configuration.name,
  });
}

/** Each disk's socket must have this QEMU at its other end: success is reported only after it was seen. */
async function comparePeers(services: HostServices, vm: VmRecord, worker: WorkerClient, pid: number): Promise<void> {
  let wrong = '';
  const right = await waitUntil(services.clock, PEER_LIMIT_MS, 20, async () => {
    const { disks } = await worker.call('status', {});
    wrong = disks
      .filter((disk) => disk.peerPid !== pid)
      .map((disk) => `'${disk.path}' is connected to ${disk.peerPid === null ? 'nobody' : `process ${disk.peerPid}`}`)
      .join('; ');
    return wrong === '' ? true : undefined;
  });
  if (right) return;
  throw new VmStorageError(
    'HypervisorFailure',
    `Virtual machine "${vm.configuration.name}" was not started: its QEMU is process ${pid}, but ${wrong}.`,
    { target: vm.configuration.name },
  );
}
