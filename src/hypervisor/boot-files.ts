/**
 * Kernel and initial RAM disk of a direct boot. They may be anywhere, and readable by root alone, as some distributions keep their kernels:
 * the host reads them, and QEMU, which runs as a user of its own, gets copies in the VM's run folder. QEMU has them in memory once its
 * machine is made, and the copies go.
 */
import { constants } from 'node:fs';
import { chown, chmod, copyFile, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { VmStorageError } from '../model/errors.js';
import type { DirectBoot, VmConfiguration } from '../model/vm.js';
import { errorCodeOf, reasonOf } from '../os/errno.js';

const COPIES = ['kernel', 'initrd'] as const;

/** Copies into `runFolder` that `group` may read. Names in the result are relative to that folder. */
export async function copyBootFiles(
  vm: VmConfiguration & { readonly directBoot: DirectBoot },
  runFolder: string,
  group: number,
): Promise<DirectBoot> {
  const { kernel, initrd } = vm.directBoot;
  await copyOne(vm, kernel, join(runFolder, 'kernel'), group);
  if (initrd !== null) await copyOne(vm, initrd, join(runFolder, 'initrd'), group);
  return { ...vm.directBoot, kernel: 'kernel', initrd: initrd === null ? null : 'initrd' };
}

export async function removeBootFiles(runFolder: string): Promise<void> {
  await Promise.all(COPIES.map((name) => rm(join(runFolder, name), { force: true })));
}

async function copyOne(vm: VmConfiguration, from: string, to: string, group: number): Promise<void> {
  const refuse = (why: string, cause?: unknown): VmStorageError =>
    new VmStorageError(
      cause === undefined ? 'InvalidParameter' : errorCodeOf(cause),
      `Virtual machine "${vm.name}" could not be started: '${from}', which it boots, ${why}.`,
      { target: vm.name, ...(cause === undefined ? {} : { cause }) },
    );
  // A FIFO must not hang the host.
  const file = await open(from, constants.O_RDONLY | constants.O_NONBLOCK).catch((cause: unknown) => {
    throw refuse(`cannot be opened: ${reasonOf(cause)}`, cause);
  });
  try {
    const found = await file.stat();
    if (!found.isFile()) throw refuse('is not a regular file');
    // It is loaded into that memory; and the run folder may be memory, too.
    if (found.size > vm.memoryStartupBytes) throw refuse(`is larger (${found.size} bytes) than its memory (${vm.memoryStartupBytes})`);
    await rm(to, { force: true });
    await copyFile(`/proc/self/fd/${file.fd}`, to, constants.COPYFILE_EXCL);
    await chown(to, -1, group);
    await chmod(to, 0o440);
  } catch (cause) {
    throw cause instanceof VmStorageError ? cause : refuse(`cannot be copied to '${to}': ${reasonOf(cause)}`, cause);
  } finally {
    await file.close();
  }
}
