/**
 * The first writes of a move, in the order that lets each be undone after a crash: the ledger entry, then the folders, then the
 * place of the new configuration file.
 *
 * The configuration is written to its new place already here, long before it counts (the registry does not point at it): so nobody
 * can take its name meanwhile, and a folder that refuses it fails the move while failing is still free.
 */
import { VmStorageError } from '../model/errors.js';
import { killPoint } from '../os/kill-point.js';
import { folderNotMade } from './move-error.js';
import type { Scene } from './scene.js';

export async function prepare(scene: Scene): Promise<void> {
  await scene.record({});
  killPoint('host:opened');
  refuseStopped(scene);
  await makeFolders(scene);
  killPoint('host:folders');
  refuseStopped(scene);
  const { plan } = scene;
  if (plan.configurationTarget !== plan.configurationSource) {
    await scene.ports.registry.writeConfiguration(plan.after, plan.configurationTarget);
  }
  killPoint('host:prepared');
  refuseStopped(scene);
}

async function makeFolders(scene: Scene): Promise<void> {
  const made: string[] = [];
  for (const folder of scene.plan.createdFolders) {
    // One that is there by now is somebody else's: not ours to remove.
    const ours = await scene.ports.files.makeFolder(folder, scene.owner).catch((cause: unknown) => {
      throw folderNotMade(folder, cause);
    });
    if (ours) made.push(folder);
  }
  if (made.length !== scene.plan.createdFolders.length) await scene.record({ plan: { ...scene.plan, createdFolders: made } });
}

/** Between two steps: whoever asked to stop need not wait for the next one. */
export function refuseStopped(scene: Scene): void {
  if (scene.control.stop.aborted) throw stopped(scene.plan.vmName);
}

export function stopped(vmName: string): VmStorageError {
  return new VmStorageError('OperationStopped', 'The move was stopped.', { target: vmName });
}
