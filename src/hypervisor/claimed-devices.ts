/**
 * Block devices that a machine has for itself. The host opens them exclusively (O_EXCL: the kernel gives one that is mounted, swap or part
 * of another device to nobody) and QEMU inherits the descriptors: the claim lives as long as QEMU, also when the host dies.
 */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { VmStorageError } from '../model/errors.js';
import type { VmConfiguration } from '../model/vm.js';
import { errorCodeOf, hasCode, reasonOf } from '../os/errno.js';
import type { Inherited } from './inherited.js';

/** O_DIRECT, because QEMU takes a descriptor only if it has the flags it would open the device with itself. */
const FLAGS = constants.O_RDWR | constants.O_EXCL | constants.O_DIRECT;

/** One for each pass-through disk, in the order of the disks, as numbers in the process that inherits them. */
export async function claimDevices(vm: VmConfiguration, inherited: Inherited): Promise<readonly number[]> {
  const numbers: number[] = [];
  for (const { path } of vm.disks.filter((disk) => disk.passThrough)) {
    const handle = await open(path, FLAGS).catch((cause: unknown) => {
      throw notClaimed(vm, path, cause);
    });
    numbers.push(inherited.addFile(handle));
  }
  return numbers;
}

function notClaimed(vm: VmConfiguration, path: string, cause: unknown): VmStorageError {
  const taken = hasCode(cause, 'EBUSY');
  return new VmStorageError(
    taken ? 'ObjectInUse' : hasCode(cause, 'ENOENT', 'ENOTDIR') ? 'ObjectNotFound' : errorCodeOf(cause),
    `Virtual machine "${vm.name}" could not be started: the block device '${path}' ` +
      (taken ? 'is in use; the kernel or another program has it.' : `cannot be opened: ${reasonOf(cause)}.`),
    { target: vm.name, cause },
  );
}
