/**
 * The file system of ports.ts: questions and the host's own records by Node, what is done to files of machines by held folders. Every write
 * is durable when it resolves: the file is fsynced, then its folder.
 */
import { constants, readFileSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import * as path from 'node:path';
import { hasCode, reasonOf } from '../os/errno.js';
import { kernelFileSystem } from '../os/kernel-file-systems.js';
import { systemFiles } from '../os/files.js';
import { VmStorageError } from '../model/errors.js';
import { whileHeld, type EntryFacts, type HeldFolder } from '../os/held-folders.js';
import type { FileFacts, HeldFile, HeldFolders, MoveFiles } from './ports.js';

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

type Questions = Omit<MoveFiles, 'refuseUnsafe' | 'hold' | 'holdItself' | 'makeFolder' | 'deleteEmptyFolder'>;

/** What needs no folder to be held: it changes nothing of a machine's. */
export const ownFiles: Questions = {
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

  async makeOwnFolder(at) {
    await fs.mkdir(at, { recursive: true });
    await syncFolder(path.dirname(at));
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
};

export function moveFiles(folders: HeldFolders): MoveFiles {
  return {
    ...ownFiles,

    refuseUnsafe: (folder, owner) => whileHeld(folders.hold(folder, owner), async () => undefined),

    async hold(at, owner) {
      const found = await unlessNothing(folders.holdEntry(at, owner));
      return found && entryOf(found.folder, found.name);
    },

    async holdItself(at, owner) {
      const folder = await unlessNothing(folders.hold(path.dirname(at), owner));
      return folder && entryOf(folder, path.basename(at));
    },

    makeFolder: (at, owner) => whileHeld(folders.hold(path.dirname(at), owner), (folder) => folder.makeFolder(path.basename(at))),

    async deleteEmptyFolder(at, owner) {
      const above = await unlessNothing(folders.hold(path.dirname(at), owner));
      if (above === null) return 'gone';
      return whileHeld(above, async (folder) => ((await folder.removeFolder(path.basename(at))) ? 'gone' : 'kept'));
    },
  };
}

async function unlessNothing<T>(wanted: Promise<T>): Promise<T | null> {
  try {
    return await wanted;
  } catch (cause) {
    if (cause instanceof VmStorageError && cause.code === 'ObjectNotFound') return null;
    throw cause;
  }
}

async function entryOf(folder: HeldFolder, name: string): Promise<HeldFile | null> {
  const entry = await folder.entry(name).catch((cause: unknown) => {
    folder.close();
    throw cause;
  });
  if (entry === null) {
    folder.close();
    return null;
  }
  return {
    facts: factsOf(entry),
    isLink: entry.kind === 'link',
    delete: () => folder.remove(name, entry, 'gradually'),
    close: () => folder.close(),
  };
}

function factsOf({ kind, device, inode, bornNs, hardLinks, sizeBytes }: EntryFacts): FileFacts {
  // What it takes on the disk is asked where room is counted.
  return { kind: kind === 'link' ? 'other' : kind, device, inode, bornNs, hardLinks, sizeBytes, allocatedBytes: 0n };
}

/** The kernel's boot id. */
export function readBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}
