/**
 * The `.vmcx` files: each in a folder that its machine's owner may have part in, so each by a held folder (src/os/held-folders.ts), and
 * believed only if it is a file that this host has written.
 *
 * ```text
 *  write:   .<leaf>.<random>.new, exclusively, durable ─► its stamp in registry.json, durable ─► renamed to <leaf>, folder synced
 *  read:    is <leaf> one of the files whose stamps the registry has? else it is nobody's word
 * ```
 * A crash before the rename leaves the old file, whose stamp is still there; after it the new one, whose stamp is there already. A file
 * under a temporary name is swept up by the next write and by the removal.
 */
import { randomBytes } from 'node:crypto';
import { basename, dirname } from 'node:path';
import { VmStorageError } from '../model/errors.js';
import { sameFile } from '../os/file-identity.js';
import { TEXT_FILE_MAX_BYTES } from '../os/files.js';
import { makeHeld, whileHeld, type EntryFacts, type HeldFolder, type HeldFolders, type Owner } from '../os/held-folders.js';
import type { Stamp } from './schema.js';

export interface FoundConfiguration {
  readonly text: string;
  readonly facts: EntryFacts;
}

const GROUP_AND_OTHERS_WRITE = 0o022;

/** Whether a file is the one that was stamped: the same file, still with the owner and the rights that it was written with. */
export function isStamped(file: string, facts: EntryFacts, stamps: readonly Stamp[]): boolean {
  return stamps.some(
    (stamp) =>
      stamp.file === file &&
      stamp.uid === facts.uid &&
      stamp.mode === facts.mode &&
      sameFile(facts, { device: BigInt(stamp.device), inode: BigInt(stamp.inode), bornNs: BigInt(stamp.bornNs) }),
  );
}

/** Of a file that a host wrote which kept no stamps: one that nobody else can have written, in a folder that nobody else can write to. */
export function isOfTheHost({ uid, mode }: EntryFacts): boolean {
  return (uid === 0 || uid === process.geteuid!()) && (mode & GROUP_AND_OTHERS_WRITE) === 0;
}

export function stampOf(file: string, { device, inode, bornNs, uid, mode }: EntryFacts): Stamp {
  return { file, device: String(device), inode: String(inode), bornNs: String(bornNs), uid, mode };
}

export class ConfigurationFiles {
  constructor(private readonly folders: HeldFolders) {}

  /** Null when there is none. Rejects (UnsafeFolder) where others could have put it, or lead elsewhere. */
  async read(file: string, owner: Owner): Promise<FoundConfiguration | null> {
    const folder = await this.#folderOf(file, owner);
    return folder && whileHeld(folder, (held) => held.read(basename(file), TEXT_FILE_MAX_BYTES));
  }

  /**
   * `mayReplace`: whether what is there is this machine's; else AlreadyExists. `stamped`: makes the stamp of the new file durable, before
   * it gets its name.
   */
  async write(
    file: string,
    text: string,
    owner: Owner,
    mayReplace: (found: FoundConfiguration) => boolean,
    stamped: (stamp: Stamp) => Promise<void>,
  ): Promise<void> {
    await whileHeld(makeHeld(this.folders, dirname(file), owner), async (folder) => {
      const leaf = basename(file);
      const present = await folder.read(leaf, TEXT_FILE_MAX_BYTES);
      if (present !== null && !mayReplace(present))
        throw new VmStorageError('AlreadyExists', "there is already a file that is not this machine's", { target: file });
      await sweep(folder, leaf);
      const temporary = `${strayOf(leaf)}${randomBytes(8).toString('hex')}.new`;
      const made = await folder.create(temporary, text);
      try {
        await stamped(stampOf(file, made));
        await folder.rename(temporary, leaf, present === null ? 'exclusively' : 'replace');
      } catch (cause) {
        await folder.remove(temporary, made).catch(() => undefined); // the next write sweeps it up
        throw cause;
      }
    });
  }

  /** Removes the file if `mayRemove`, and what a crash has left of it; false when something else is there. None is fine. */
  async remove(file: string, owner: Owner, mayRemove: (found: FoundConfiguration) => boolean): Promise<boolean> {
    const folder = await this.#folderOf(file, owner);
    if (folder === null) return true;
    return whileHeld(folder, async (held) => {
      const leaf = basename(file);
      const present = await held.read(leaf, TEXT_FILE_MAX_BYTES);
      if (present !== null && (!mayRemove(present) || (await held.remove(leaf, present.facts)) === 'other')) return false;
      await sweep(held, leaf);
      return true;
    });
  }

  async #folderOf(file: string, owner: Owner): Promise<HeldFolder | null> {
    try {
      return await this.folders.hold(dirname(file), owner);
    } catch (cause) {
      if (cause instanceof VmStorageError && cause.code === 'ObjectNotFound') return null;
      throw cause;
    }
  }
}

const strayOf = (leaf: string): string => `.${leaf}.`;

/** What writes that were cut short have left: `.<leaf>.<random>.new`, and `.<leaf>.new` of 0.1. */
async function sweep(folder: HeldFolder, leaf: string): Promise<void> {
  for (const name of await folder.names(strayOf(leaf))) {
    if (!/^(?:[0-9a-f]{16}\.)?new$/.test(name.slice(strayOf(leaf).length))) continue;
    const stray = await folder.entry(name);
    if (stray !== null && stray.kind !== 'folder') await folder.remove(name, stray);
  }
}
