/**
 * Folders that are walked to once and used by descriptor from then on (native/engine/src/file/held_folder.rs, docs/security.md): what
 * everything that the host does to files of virtual machines goes through. Node has no call for it; src/native/held-folders.ts has them of
 * the addon.
 *
 * A way that leads through what others can change is refused (UnsafeFolder): through folders that others than root, the host's own user and
 * the machine's owner can write to, or through symbolic links that others than root and the host's own user have made or can exchange.
 */
import { basename, dirname } from 'node:path';
import { VmStorageError } from '../model/errors.js';
import type { KnownFile } from './file-identity.js';

/** Whose machine it is: the number of the user who made it. Null: nobody's but root's and the host's own user. */
export type Owner = number | null;

/** An entry of a folder: the link itself where it is one. */
export interface EntryFacts extends KnownFile {
  readonly kind: 'file' | 'folder' | 'link' | 'other';
  readonly uid: number;
  /** Permission bits. */
  readonly mode: number;
  readonly hardLinks: number;
  readonly sizeBytes: bigint;
}

/** `other`: something else has the name by now; it was left alone. */
export type Removed = 'removed' | 'nothing' | 'other';

export interface HeldFolder {
  /** With links resolved; for messages, never to be opened. */
  readonly path: string;
  /** Null when nothing has the name. */
  entry(name: string): Promise<EntryFacts | null>;
  /** A folder in this one; no link is followed. */
  enter(name: string): Promise<HeldFolder>;
  /** 0700 and durable; false when the name is taken. */
  makeFolder(name: string): Promise<boolean>;
  /** A new file, 0600, with its content durable; its name is once it was renamed. Nothing is left of one that fails. */
  create(name: string, text: string): Promise<EntryFacts>;
  /** A regular file, whole; null when nothing has the name. A link is not followed, a pipe not waited for: both are refused. */
  read(name: string, mostBytes: number): Promise<{ readonly text: string; readonly facts: EntryFacts } | null>;
  /** Durable; AlreadyExists when the name is taken and nothing may be replaced. */
  rename(from: string, to: string, how: 'replace' | 'exclusively'): Promise<void>;
  /** Removes the name of that very file, durably. `gradually`: as for a large one; resolves when its space is back. */
  remove(name: string, file: KnownFile, how?: 'gradually'): Promise<Removed>;
  /** False when something is in it, or it is no folder. */
  removeFolder(name: string): Promise<boolean>;
  names(prefix: string): Promise<readonly string[]>;
  close(): void;
}

export interface HeldFolders {
  hold(path: string, owner: Owner): Promise<HeldFolder>;
  /** The folder that holds what `path` names, and the name in it: where its last component is a link of root's, of what that leads to. */
  holdEntry(path: string, owner: Owner): Promise<{ readonly folder: HeldFolder; readonly name: string }>;
}

/** Runs `use` with what is held, and lets go of it. */
export async function whileHeld<T>(held: HeldFolder | Promise<HeldFolder>, use: (folder: HeldFolder) => Promise<T>): Promise<T> {
  const folder = await held;
  try {
    return await use(folder);
  } finally {
    folder.close();
  }
}

/** The folder, made where it is missing, each level through the one above. */
export async function makeHeld(folders: HeldFolders, path: string, owner: Owner): Promise<HeldFolder> {
  try {
    return await folders.hold(path, owner);
  } catch (cause) {
    if (!(cause instanceof VmStorageError) || cause.code !== 'ObjectNotFound' || dirname(path) === path) throw cause;
  }
  return whileHeld(makeHeld(folders, dirname(path), owner), async (above) => {
    await above.makeFolder(basename(path));
    return above.enter(basename(path));
  });
}
