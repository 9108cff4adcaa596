/** The file system of ports.ts, by Node. Every write is durable when it resolves: the file is fsynced, then its folder. */
import { constants, readFileSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import * as path from 'node:path';
import { hasCode, reasonOf } from '../os/errno.js';
import { kernelFileSystem } from '../os/kernel-file-systems.js';
import { deleteGradually } from '../os/delete-gradually.js';
import { systemFiles } from '../os/files.js';
import type { FileFacts, MoveFiles } from './ports.js';

const nothingThere = new Set(['ENOENT', 'ENOTDIR']);

function codeOf(cause: unknown): string {
  return cause instanceof Error && 'code' in cause ? String(cause.code) : '';
}

async function orNull<T>(wanted: Promise<T>): Promise<T | null> {
  try {
    return await wanted;
  } catch (cause) {
    if (nothingThere.has(codeOf(cause))) return null;
    throw cause;
  }
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await fs.open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

export const diskFiles: MoveFiles = {
  async facts(at) {
    const stat = await orNull(fs.stat(at, { bigint: true }));
    if (!stat) return null;
    const facts: FileFacts = {
      kind: stat.isFile() ? 'file' : stat.isDirectory() ? 'folder' : 'other',
      device: stat.dev,
      inode: stat.ino,
      bornNs: stat.birthtimeNs,
      hardLinks: Number(stat.nlink),
      sizeBytes: stat.size,
      allocatedBytes: stat.blocks * 512n,
    };
    return facts;
  },

  async isLink(at) {
    const stat = await orNull(fs.lstat(at));
    return stat !== null && stat.isSymbolicLink();
  },

  realPath(at) {
    return orNull(fs.realpath(at));
  },

  async whyNoFiles(folder) {
    const kernel = await kernelFileSystem(folder);
    if (kernel !== null) return `it is a folder of the kernel's own (${kernel}), which holds no files of ours`;
    try {
      await fs.access(folder, constants.W_OK | constants.X_OK);
      return null;
    } catch (cause) {
      return hasCode(cause, 'EROFS') ? 'its file system is mounted read-only' : reasonOf(cause);
    }
  },

  async freeBytes(at) {
    const stat = await fs.statfs(at, { bigint: true });
    return stat.bavail * stat.bsize;
  },

  async list(folder) {
    return (await orNull(fs.readdir(folder))) ?? [];
  },

  readText(at) {
    return orNull(systemFiles.readText(at)); // bounded, and no pipe is waited for
  },

  async writeText(at, text) {
    const part = `${at}.part`;
    try {
      const handle = await fs.open(part, 'w', 0o600);
      try {
        await handle.writeFile(text, 'utf8');
        await handle.sync();
      } finally {
        await handle.close();
      }
      await fs.rename(part, at);
      await syncFolder(path.dirname(at));
    } catch (cause) {
      // What an open file refuses comes without its name, and whoever reads "no space left" wants to know where.
      throw cause instanceof Error ? Object.assign(cause, { path: at }) : cause;
    }
  },

  async makeFolder(at) {
    try {
      await fs.mkdir(at);
    } catch (cause) {
      if (codeOf(cause) === 'EEXIST') return false;
      throw cause;
    }
    await syncFolder(path.dirname(at));
    return true;
  },

  async setAside(at) {
    const aside = `${at}.set-aside-${new Date().toISOString().replaceAll(':', '')}`;
    if ((await orNull(fs.rename(at, aside).then(() => true))) === null) return [];
    await syncFolder(path.dirname(at));
    return [aside];
  },

  async deleteFile(at) {
    const deleted = await orNull(fs.unlink(at).then(() => true));
    if (deleted === null) return false;
    await syncFolder(path.dirname(at));
    return true;
  },

  deleteImage: deleteGradually,

  async deleteEmptyFolder(at) {
    try {
      await fs.rmdir(at);
    } catch (cause) {
      const code = codeOf(cause);
      if (code === 'ENOTEMPTY' || code === 'EEXIST') return 'kept';
      if (nothingThere.has(code)) return 'gone';
      throw cause;
    }
    await syncFolder(path.dirname(at));
    return 'gone';
  },
};

/** The kernel's boot id. */
export function readBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}
