/**
 * Small durable files: what is replaced is replaced whole, and is on disk (file and folder) when the promise resolves.
 *
 * The temporary name is fixed per file (`.<leaf>.new`): a crash leaves at most one, the next write takes it over, `removeDurably` deletes it
 * too. So a destination folder never collects strays. One writer per file is the caller's duty (registry and settings queue theirs).
 */
import { constants } from 'node:fs';
import * as fs from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { hasCode } from './errno.js';

/** The file operations the host's state depends on; tests inject one that fails or "crashes" at a chosen step. */
export interface Files {
  readText(path: string): Promise<string>;
  /** Replaces or creates `path` with `text`, atomically and durably. */
  replace(path: string, text: string): Promise<void>;
  /** As `replace`, but rejects with EEXIST if there is anything at `path`. */
  createExclusively(path: string, text: string): Promise<void>;
  /** Deletes `path` (and its temporary name) and makes that durable; a missing one is fine. */
  removeDurably(path: string): Promise<void>;
  /** Makes a folder and its parents; returns those it made, outermost first, all durable. */
  makeFolders(path: string, mode?: number): Promise<string[]>;
}

/** A configuration larger than this is not one of ours. */
export const TEXT_FILE_MAX_BYTES = 16 * 1024 * 1024;

export const systemFiles: Files = {
  async readText(path) {
    const file = await fs.open(path, constants.O_RDONLY | constants.O_NONBLOCK); // a FIFO in the way must not hang the host
    try {
      const stat = await file.stat();
      if (!stat.isFile()) throw Object.assign(new Error(`'${path}' is not a regular file`), { code: 'EINVAL' });
      if (stat.size > TEXT_FILE_MAX_BYTES)
        throw Object.assign(new Error(`'${path}' is larger than ${TEXT_FILE_MAX_BYTES} bytes`), { code: 'EFBIG' });
      return await file.readFile('utf8');
    } finally {
      await file.close();
    }
  },

  async replace(path, text) {
    const temporary = temporaryName(path);
    await writeDurably(temporary, text);
    await fs.rename(temporary, path);
    await syncFolder(dirname(path));
  },

  async createExclusively(path, text) {
    const temporary = temporaryName(path);
    await writeDurably(temporary, text);
    try {
      await fs.link(temporary, path); // unlike rename, fails when the name is taken, and unlike open(wx) never shows half a file
    } catch (error) {
      if (!hasCode(error, 'EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS')) throw error;
      await writeDurably(path, text, constants.O_EXCL); // file systems without hard links
    } finally {
      await fs.unlink(temporary);
    }
    await syncFolder(dirname(path));
  },

  async removeDurably(path) {
    let removed = false;
    for (const name of [path, temporaryName(path)]) {
      try {
        await fs.unlink(name);
        removed = true;
      } catch (error) {
        if (!hasCode(error, 'ENOENT', 'ENOTDIR')) throw error;
      }
    }
    if (removed) await syncFolder(dirname(path));
  },

  async makeFolders(path, mode = 0o700) {
    const made: string[] = [];
    const missing: string[] = [];
    for (let folder = path; ; folder = dirname(folder)) {
      if ((await isFolder(folder)) || dirname(folder) === folder) break;
      missing.unshift(folder);
    }
    for (const folder of missing) {
      try {
        await fs.mkdir(folder, { mode });
        made.push(folder);
      } catch (error) {
        if (!(hasCode(error, 'EEXIST') && (await isFolder(folder)))) throw error;
      }
      await syncFolder(dirname(folder));
    }
    return made;
  },
};

export function temporaryName(path: string): string {
  return join(dirname(path), `.${basename(path)}.new`);
}

async function writeDurably(path: string, text: string, extraFlags = constants.O_TRUNC): Promise<void> {
  const file = await fs.open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW | extraFlags, 0o600);
  try {
    await file.writeFile(text, 'utf8');
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Makes names in a folder durable. Some file systems refuse fsync of a folder because their names are durable at once. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await fs.open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await folder.sync();
  } catch (error) {
    if (!hasCode(error, 'EINVAL', 'ENOTSUP', 'EOPNOTSUPP')) throw error;
  } finally {
    await folder.close();
  }
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await fs.stat(path)).isDirectory();
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false;
    throw error;
  }
}
