/** What must hold before a machine is changed, and Hyper-V's sentences when it does not. */
import { access } from 'node:fs/promises';
import { VmStorageError } from '../../model/errors.js';
import type { VmConfiguration } from '../../model/vm.js';
import type { HostServices, VmRecord } from '../services.js';

/** The record as it is now: the one selected before a prompt may be old. Call inside `locks.exclusive`. */
export function present(services: HostServices, vmId: string): VmRecord {
  const vm = services.registry.byId(vmId);
  if (vm) return vm;
  throw new VmStorageError('ObjectNotFound', `Hyper-V was unable to find a virtual machine with id "${vmId}".`, { target: vmId });
}

/** Refused while the storage moves, or an interrupted move still has to be finished. */
export async function refuseMoving(services: HostServices, { id, name }: Pick<VmConfiguration, 'id' | 'name'>): Promise<void> {
  const journal = await access(services.paths.journal(id)).then(
    () => true,
    () => false,
  );
  if (!services.locks.isMoving(id) && !journal) return;
  const inUse = 'The operation cannot be performed while the object is in use.';
  const { trouble } = services.workers.health(id);
  // Neither to be waited for nor to be stopped, as long as that lasts.
  if (trouble !== null)
    throw new VmStorageError(
      'ObjectInUse',
      `${inUse} A move of the storage of virtual machine "${name}" is not over, and nobody is at it: ${trouble.replace(/\.$/, '')}.`,
      {
        target: name,
        recommendedAction:
          'Get-VM shows when that changes. Where the records of the move contradict each other, Resolve-VMStorageMove decides.',
      },
    );
  throw new VmStorageError(
    'ObjectInUse',
    `${inUse} The storage of virtual machine "${name}" is being moved; wait for it, or stop it with Stop-VMStorageMove.`,
    { target: name },
  );
}

export function refuseNotOff(services: HostServices, vm: VmRecord, why: string): void {
  const state = services.hypervisor.state(vm.configuration.id);
  if (state === 'Off') return;
  throw new VmStorageError(
    'InvalidState',
    `The operation cannot be performed while the virtual machine is in its current state. Virtual machine "${vm.configuration.name}" is ${state}; ${why}.`,
    { target: vm.configuration.name },
  );
}
