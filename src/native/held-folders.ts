/** Held folders (src/os/held-folders.ts) by the addon. Its calls wait on threads of its own: a file system that hangs holds up nobody else. */
import type { EntryFacts, HeldFolder, HeldFolders, Removed } from '../os/held-folders.js';
import { native, type NativeEntry, type NativeFolder } from './binding.js';
import { callNative } from './errors.js';

export const heldFolders: HeldFolders = {
  async hold(path, owner) {
    return held(await callNative(native().holdFolder(path, owner)));
  },
  async holdEntry(path, owner) {
    const folder = await callNative(native().holdEntry(path, owner));
    return { folder: held(folder), name: folder.entryName };
  },
};

function held(folder: NativeFolder): HeldFolder {
  return {
    path: folder.path,
    entry: async (name) => factsOrNull(await callNative(folder.entry(name))),
    enter: async (name) => held(await callNative(folder.enter(name))),
    makeFolder: (name) => callNative(folder.makeFolder(name)),
    create: async (name, text) => factsOf(await callNative(folder.create(name, text))),
    async read(name, mostBytes) {
      const found = await callNative(folder.read(name, mostBytes));
      return found && { text: found.text, facts: factsOf(found.facts) };
    },
    rename: (from, to, how) => callNative(folder.rename(from, to, how === 'replace')),
    remove: (name, file, how) =>
      callNative(folder.remove(name, String(file.device), String(file.inode), how === 'gradually')) as Promise<Removed>,
    removeFolder: (name) => callNative(folder.removeFolder(name)),
    names: (prefix) => callNative(folder.names(prefix)),
    close: () => folder.close(),
  };
}

const factsOrNull = (entry: NativeEntry | null): EntryFacts | null => entry && factsOf(entry);

function factsOf({ kind, device, inode, bornNs, uid, mode, links, size }: NativeEntry): EntryFacts {
  return { kind: kind as EntryFacts['kind'], device, inode, bornNs, uid, mode, hardLinks: Number(links), sizeBytes: size };
}
