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
