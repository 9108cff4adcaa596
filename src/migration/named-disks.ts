/**
 * -Vhds names the disks of a VM by path. A path that leads to a disk's file another way (through a linked folder, by a link to the file
 * or a further hard link) means that disk, and from here on it goes by the path the VM has for it.
 */
import * as path from 'node:path';
import { VmStorageError } from '../model/errors.js';
import type { VmConfiguration } from '../model/vm.js';
import { notLookedAt } from './move-error.js';
import type { FileFacts, MoveFiles } from './ports.js';
import type { MoveRequest, VhdPair } from './request.js';

type Facts = Pick<MoveFiles, 'facts'>;

export async function byTheirOwnPaths(request: MoveRequest, vm: VmConfiguration, files: Facts): Promise<MoveRequest> {
  const { destination } = request;
  if (destination.kind !== 'multiple' || destination.vhds === null) return request;
  const own = vm.disks.map((disk) => path.posix.resolve('/', disk.path));
  const vhds: VhdPair[] = [];
  for (const pair of destination.vhds) {
    vhds.push(own.includes(pair.source) ? pair : { ...pair, source: (await ownPathOf(pair.source, own, files)) ?? pair.source });
  }
  return { ...request, destination: { ...destination, vhds } };
}

/** Null when the path leads to none of them, or does not say to which. What cannot be looked at may be a disk of the VM: that is refused as such. */
async function ownPathOf(named: string, own: readonly string[], files: Facts): Promise<string | null> {
  const facts = await look(named, files);
  if (facts instanceof VmStorageError) throw facts;
  if (!facts) return null;
  const same: string[] = [];
  let unseen: VmStorageError | null = null;
  for (const disk of own) {
    const there = await look(disk, files);
    if (there instanceof VmStorageError) unseen ??= there;
    // Both are looked at now, so device and inode are the whole identity: a mounted copy of a file system has the same births.
    else if (there && there.device === facts.device && there.inode === facts.inode) same.push(disk);
  }
  if (same.length === 0 && unseen) throw unseen;
  return same.length === 1 ? same[0]! : null;
}

function look(at: string, files: Facts): Promise<FileFacts | null | VmStorageError> {
  return files.facts(at).catch((cause: unknown) => notLookedAt(at, cause));
}
