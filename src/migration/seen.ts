/**
 * The proof behind "succeeded": not that every step was called, but what is there to be seen now.
 *
 * For each moved disk: the worker serves the file that the registry names (same device and inode as the path), and if the VM runs, the
 * process at the other end of the disk's socket is the VM's own hypervisor (SO_PEERCRED). Nothing is deleted before this holds.
 */
import { VmStorageError } from '../model/errors.js';
import type { Scene } from './scene.js';

/** Looks before giving up; a hypervisor that has lost its worker asks again every 100 ms. */
const LOOKS = 50;
const LOOK_EVERY_MS = 100;

export async function see(scene: Scene): Promise<void> {
  let missing: string | null = null;
  for (let look = 1; look <= LOOKS; look++) {
    missing = await whatIsMissing(scene);
    if (missing === null) return;
    if (look < LOOKS) await scene.ports.clock.sleep(LOOK_EVERY_MS);
  }
  throw new VmStorageError('OperationFailed', `It could not be seen that the virtual machine uses its new files: ${missing}.`, {
    target: scene.plan.vmName,
  });
}

async function whatIsMissing(scene: Scene): Promise<string | null> {
  const { ports, plan } = scene;
  const vm = ports.registry.byId(plan.vmId);
  if (!vm) return 'it is not registered';
  if (vm.configurationFile !== plan.configurationTarget) return `its configuration is '${vm.configurationFile}'`;
  if (plan.disks.length === 0) return null;
  const status = await scene.ask('status', {});
  for (const move of plan.disks) {
    const registered = vm.configuration.disks.find((disk) => disk.id === plan.after.disks[move.disk]?.id)?.path;
    if (registered !== move.target) return `its configuration names '${registered ?? 'nothing'}' instead of '${move.target}'`;
    const served = status.disks.find((disk) => disk.index === move.disk);
    if (!served) return `disk ${move.disk} is not served`;
    if (served.waitingFor !== null) return `disk ${move.disk} is waiting: ${served.waitingFor}`;
    const facts = await ports.files.facts(move.target);
    if (!facts) return `there is no file at '${move.target}'`;
    if (served.device !== String(facts.device) || served.inode !== String(facts.inode))
      return `its worker serves another file than '${move.target}'`;
    // Asked last and anew each time: a VM may be started or stopped at any moment of its move.
    const hypervisor = ports.hypervisor.runtime(plan.vmId).pid;
    if (hypervisor !== null && served.peerPid !== hypervisor)
      return `its hypervisor (pid ${hypervisor}) is not connected to disk ${move.disk}`;
  }
  return null;
}
