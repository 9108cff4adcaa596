/**
 * Makes the process of a machine's QEMU. The host opens whatever QEMU needs, with the host's rights, and hands it on as descriptors; QEMU itself
 * is started with as little as confinement.ts says. In order:
 *
 * 1. the user: known before the worker serves, since its sockets are for the group of the run folder
 * 2. the run folder: the group may pass through it to the sockets, and do nothing else there
 * 3. what is inherited: monitor, console log, /dev/kvm, firmware, pass-through devices
 * 4. the copies of kernel and initial RAM disk
 * 5. the process; then this host's own descriptors are closed
 */
import { constants } from 'node:fs';
import { chmod, chown, open, realpath, stat, writeFile } from 'node:fs/promises';
import type { DirectBoot, VmConfiguration } from '../model/vm.js';
import { hasCode } from '../os/errno.js';
import { systemFiles } from '../os/files.js';
import type { InstancePaths } from '../os/paths.js';
import { openLog, type Processes, type StartedProcess } from '../os/processes.js';
import type { Accelerator } from './accelerator.js';
import { copyBootFiles } from './boot-files.js';
import { claimDevices } from './claimed-devices.js';
import { confined } from './confinement.js';
import { openFirmware } from './firmware.js';
import { Inherited } from './inherited.js';
import { listenPrivately } from './monitor-socket.js';
import { placesFor } from './private-root.js';
import { qemuArguments } from './qemu-arguments.js';
import type { QemuProgram } from './qemu-program.js';

const KVM = '/dev/kvm';

export interface LaunchPlan {
  readonly program: QemuProgram;
  readonly accelerator: Accelerator;
  /** User and group, or null: the host's own. */
  readonly user: number | null;
  /** Whether it gets a root of its own; only with a user. */
  readonly privateRoot: boolean;
  readonly environment: { readonly [name: string]: string | undefined };
}

export interface Launched extends StartedProcess {
  readonly args: readonly string[];
}

export async function launchQemu(vm: VmConfiguration, plan: LaunchPlan, paths: InstancePaths, processes: Processes): Promise<Launched> {
  const { program, accelerator, user } = plan;
  const runFolder = paths.vmRunFolder(vm.id);
  await openRunFolder(vm, user, paths);
  const inherited = new Inherited();
  try {
    const monitor = await listenPrivately(paths.qmpSocket(vm.id));
    const files = {
      monitor: inherited.add(monitor.descriptor, () => monitor.close()),
      console: inherited.addLog(openLog(paths.vmLog(vm.id, 'console'))),
      kvm: accelerator.kind === 'kvm' && program.takesKvmDescriptor ? inherited.addFile(await open(KVM, constants.O_RDWR)) : null,
      firmware: vm.generation === 2 && vm.directBoot === null ? await openFirmware(paths.firmwareVariables(vm.id), inherited) : null,
      devices: await claimDevices(vm, inherited),
      directBoot: await bootFiles(vm, user, runFolder),
      diskSocket: (index: number) => `d${index}.sock`,
    };
    const args = qemuArguments(vm, files, program, accelerator);
    const byName = accelerator.kind === 'kvm' && files.kvm === null;
    const started = await processes.startDetached({
      ...confined(program.path, args, {
        user,
        groups: byName && user !== null ? await groupOfKvm() : [],
        places: plan.privateRoot && user !== null ? [...placesFor(await realpath(program.path)), ...(byName ? [KVM] : [])] : null,
      }),
      logFile: paths.vmLog(vm.id, 'qemu'),
      cwd: runFolder,
      descriptors: inherited.descriptors,
      environment: environmentOf(plan.environment),
    });
    // For people, and for those who look after processes by such files: QEMU cannot write there, and the host finds it without.
    await writeFile(paths.qemuPidFile(vm.id), `${started.identity.pid}\n`, { mode: 0o600 }).catch(() => {});
    return { ...started, args };
  } finally {
    await inherited.close();
  }
}

/** Sockets that a worker makes in a folder whose group may pass through are for that group (native: listener.rs). */
async function openRunFolder(vm: VmConfiguration, user: number | null, paths: InstancePaths): Promise<void> {
  const folder = paths.vmRunFolder(vm.id);
  await systemFiles.makeFolders(folder);
  if (user === null) return;
  await chown(folder, -1, user);
  await chmod(folder, 0o710);
  // Of a worker that was there before the machine had a user: a move of a machine that was off.
  for (const index of vm.disks.keys()) {
    const socket = paths.diskSocket(vm.id, index);
    try {
      await chown(socket, -1, user);
      await chmod(socket, 0o660);
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error; // a pass-through disk; or QEMU will say that it is not served
    }
  }
}

async function bootFiles(vm: VmConfiguration, user: number | null, runFolder: string): Promise<DirectBoot | null> {
  const { directBoot } = vm;
  return directBoot === null || user === null ? directBoot : copyBootFiles({ ...vm, directBoot }, runFolder, user);
}

/** For a QEMU that opens the device by its name. */
async function groupOfKvm(): Promise<readonly number[]> {
  const { gid, mode } = await stat(KVM);
  return gid !== 0 && (mode & 0o060) === 0o060 ? [gid] : [];
}

/** What says whose process it is, for those who look after this instance; nothing else of the host's. */
function environmentOf(host: { readonly [name: string]: string | undefined }): NodeJS.ProcessEnv {
  const own = Object.entries(host).filter(([name]) => name.startsWith('VMSTORAGE_'));
  return { PATH: '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin', ...Object.fromEntries(own) };
}
