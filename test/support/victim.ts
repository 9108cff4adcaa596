/** A file of root's that an attack is after: nothing of it may change. */
import { lstatSync, readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';

export interface Victim {
  readonly path: string;
  /** Everything that an attack could change: where it is, whose, and what it holds. Null when it is gone. */
  look(): unknown;
}

export async function makeVictim(path: string, text = 'for root alone\n'.repeat(4096)): Promise<Victim> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await writeFile(path, text, { mode: 0o600 });
  return {
    path,
    look: () => {
      const found = lstatSync(path, { throwIfNoEntry: false });
      if (!found) return null;
      const { ino, uid, gid, mode, nlink, size } = found;
      return { ino, uid, gid, mode, nlink, size, text: readFileSync(path, 'latin1') };
    },
  };
}
