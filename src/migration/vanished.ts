/** Nothing at a path: was the file deleted, or is its file system not mounted? The two look the same to `stat`, and mean the opposite. */
import * as path from 'node:path';
import type { Scene } from './scene.js';

/**
 * Whether a file at `at` would be seen now: the nearest folder above it is on the device it was on. Device numbers may change over a
 * reboot; then the file's own folder being there says the same.
 */
export async function wouldBeSeen(at: string, device: string, scene: Scene): Promise<boolean> {
  const { files, bootId } = scene.ports;
  let folder = path.posix.dirname(at);
  let facts = await files.facts(folder);
  if (facts && scene.plan.bootId !== bootId) return true;
  while (!facts && folder !== '/') {
    folder = path.posix.dirname(folder);
    facts = await files.facts(folder);
  }
  return facts !== null && String(facts.device) === device;
}

/**
 * The first target that is not on its file system any more, or null. A worker goes on writing to a file system that was unmounted under
 * it (`umount -l`), through its open descriptors; what it would switch to there, nobody could open again. Asked by device, not by
 * inode: a worker that was started again may have made its targets anew. By the device of the folder: on an overlay over two file systems
 * a file has another one than its folder, and what was recorded is a folder's (the file was not there yet).
 */
export async function lostTarget(scene: Scene): Promise<string | null> {
  for (const { path: at, device } of scene.entry.targets) {
    const there = await scene.ports.files.facts(at).catch(() => null);
    const folder = there && (await scene.ports.files.facts(path.posix.dirname(at)).catch(() => null));
    if (!folder || (String(folder.device) !== device && scene.plan.bootId === scene.ports.bootId)) return at;
  }
  return null;
}
