/** The folder in shared memory of an instance that a test made: a host that was killed leaves it, and no other comes to remove it. */
import { readFileSync, rmSync } from 'node:fs';
import { instancePaths } from '../../src/os/paths.js';

type Environment = { readonly [name: string]: string | undefined };

/** Null for an instance whose host was never started. */
export function memoryFolder(environment: Environment): string | null {
  try {
    return instancePaths(environment, readFileSync(instancePaths(environment).tokenFile, 'utf8').trim()).marksFolder;
  } catch {
    return null;
  }
}

export function removeMemoryFolder(environment: Environment): void {
  const folder = memoryFolder(environment);
  if (folder !== null) rmSync(folder, { recursive: true, force: true });
}
