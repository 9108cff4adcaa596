/**
 * The way back, before COMMITTED: the VM goes on with its old files and the destination holds nothing of ours. Every step may be
 * repeated, and a crash between two of them is continued by recovery from the ledger.
 *
 * ```text
 * worker: stop, close and delete the targets ─► ledger: undoing ─► place of the configuration ─► targets (if still there)
 *     ─► folders we made, if empty ─► worker: end the journal ─► ledger removed
 * ```
 *
 * What cannot be deleted now, because its file system is gone, broken or hangs, holds up neither the VM nor the answer to a stop: the
 * ledger entry stays and `later.ts` tries again until it is done.
 */
import * as path from 'node:path';
import { VmStorageError } from '../model/errors.js';
import { killPoint } from '../os/kill-point.js';
import type { TargetFile } from './check.js';
import { bornAfter, readIdentity, sameFile } from '../os/file-identity.js';
import type { LedgerEntry, LedgerTarget } from './ledger.js';
import type { FileFacts } from './ports.js';
import { LINGERS } from './lingering.js';
import { isAtIt, type Scene } from './scene.js';
import { wouldBeSeen } from './vanished.js';

/**
 * How long cleaning the destination may take before the move's end is told without it. The worker has had 5 s before (it deletes the
 * targets itself), and whoever asked for the stop waits for 10 (`stopPatienceMs` of the client).
 */
const CLEAN_PATIENCE_MS = 3_000;

/** `committed`: it was too late, the switch is durable and the move must be completed instead. */
export type Undone = 'undone' | 'remains' | 'committed';

export async function undo(scene: Scene, reason: string): Promise<Undone> {
  await scene.gate();
  if (!scene.isRecorded) {
    // Its first record was refused (no room, say): a second one would be as well. What there may be of it goes.
    await scene.ledger.remove(scene.plan.moveId);
    return 'undone';
  }
  if (scene.entry.state === 'committed') return 'committed';
  if (!(await stopEngine(scene))) return 'committed';
  killPoint('host:stopped');
  if (scene.entry.state !== 'undoing') await scene.record({ state: 'undoing', reason });
  killPoint('host:undoing');
  return cleanDestination(scene);
}

/** The part that needs no worker for its first half and may have to wait for a file system to come back. */
export async function cleanDestination(scene: Scene): Promise<Undone> {
  const { moveId } = scene.plan;
  for (const path of ofOurMaking(scene)) scene.remains.add(path);
  const clean = await scene.lingering.within(moveId, CLEAN_PATIENCE_MS, () => allGone(scene));
  if (clean === LINGERS) scene.ports.log.warn({ moveId }, 'the destination does not let go of its files; it is cleaned when it does');
  killPoint('host:cleaned');
  await endJournal(scene);
  killPoint('host:undone');
  if (clean !== true) return 'remains';
  await scene.ledger.remove(scene.plan.moveId);
  return 'undone';
}

/**
 * False when it is too late. Asked only of a worker that has this move: one that refused to start has nothing to stop, and once it
 * was stopped the VM is free for another move, which must not be stopped in its stead.
 */
async function stopEngine(scene: Scene): Promise<boolean> {
  if (!(await mayBeRunning(scene)) || !(await isAtIt(scene))) return true;
  const { stopped } = await scene.ask('stopMove', {});
  return stopped;
}

/** Without a journal a worker that is down will not take the move up again, and there is no need to wait for it. */
async function mayBeRunning(scene: Scene): Promise<boolean> {
  if (scene.plan.disks.length === 0) return false;
  if (await scene.ports.files.facts(scene.journalPath)) return true;
  return scene.worker !== null && scene.worker.pid !== null;
}

async function endJournal(scene: Scene): Promise<void> {
  // A later move of the same VM may be at work by the time an old destination is cleaned: its journal is not ours to end.
  if (!(await mayBeRunning(scene)) || !(await isAtIt(scene))) return;
  await scene.ask('endMove', {});
}

/** All that may be at the destination, in the order in which it goes. */
function ofOurMaking({ entry, plan }: Scene): readonly string[] {
  const files = [...(entry.configuration === null ? [] : [entry.configuration]), ...entry.targets].map((file) => file.path);
  return [...files, ...[...plan.createdFolders].reverse()];
}

async function allGone(scene: Scene): Promise<boolean> {
  const { ports, plan } = scene;
  let clean = await removeConfiguration(scene);
  if (!(await removeTargets(scene))) clean = false;
  for (const folder of [...plan.createdFolders].reverse()) {
    const outcome = await attempt(scene, folder, () => ports.files.deleteEmptyFolder(folder, scene.owner));
    if (outcome === 'failed') clean = false;
    else scene.remains.delete(folder);
  }
  return clean;
}

async function removeConfiguration(scene: Scene): Promise<boolean> {
  const { ports, plan } = scene;
  const place = scene.entry.configuration;
  if (!place) return true;
  if (ports.registry.byId(plan.vmId)?.configurationFile === place.path) {
    scene.remains.delete(place.path);
    return true;
  }
  const outcome = await attempt(scene, place.path, async () => {
    // Also when nothing is at the path: a half written one has another name, which the registry knows.
    const folder = await ports.files.facts(path.posix.dirname(place.path));
    if (folder && !(await deleteOwnConfiguration(scene, place.path))) return 'gone';
    return (await isGone(place, scene)) ? 'gone' : 'unseen';
  });
  if (outcome === 'gone') scene.remains.delete(place.path);
  return outcome === 'gone';
}

/** Looked at before and after: a file system that comes back between the two looks must not make its files count as deleted. */
async function isGone(target: TargetFile, scene: Scene): Promise<boolean> {
  if (!(await wouldBeSeen(target.path, target.device, scene))) return false;
  const facts = await scene.ports.files.facts(target.path);
  return facts === null;
}

/** False when it holds something else: somebody was quicker than us with this name, and it is theirs. */
async function deleteOwnConfiguration(scene: Scene, file: string): Promise<boolean> {
  try {
    await scene.ports.registry.deleteConfiguration(scene.plan.vmId, file);
    return true;
  } catch (cause) {
    if (cause instanceof VmStorageError && cause.code === 'InvalidState') return false;
    throw cause;
  }
}

/** Deletes what is left of the targets, if it is provably ours. False: something remains or cannot be seen. */
export async function removeTargets(scene: Scene): Promise<boolean> {
  let clean = true;
  for (const target of scene.entry.targets) {
    const outcome = await attempt(scene, target.path, () => removeTarget(target, scene));
    if (outcome === 'gone') scene.remains.delete(target.path);
    else clean = false;
  }
  return clean;
}

async function removeTarget(target: LedgerTarget, scene: Scene): Promise<'gone' | 'unseen'> {
  const held = await scene.ports.files.holdItself(target.path, scene.owner);
  if (held === null) return (await isGone(target, scene)) ? 'gone' : 'unseen';
  try {
    if (isOurs(held.facts, target, scene.entry) && !(await isADisk(target, scene))) await held.delete();
    return 'gone';
  } finally {
    held.close();
  }
}

/** Whatever the entry says: what is a disk of a machine now was not left behind by a move (the entry may be a copy that was restored). */
async function isADisk(target: LedgerTarget, { entry, ports }: Scene): Promise<boolean> {
  const owner = await ports.registry.diskOwner(target.path);
  if (owner === null) return false;
  ports.log.error(
    { moveId: entry.plan.moveId, path: target.path, owner: owner.vmId },
    'a file that was to be deleted is a disk of a virtual machine; it stays',
  );
  return true;
}

function isOurs(facts: FileFacts, target: LedgerTarget, entry: LedgerEntry): boolean {
  if (facts.kind !== 'file') return false;
  if (target.identity) return sameFile(facts, readIdentity(target.identity));
  // The worker died between making the file and telling so. There was nothing here when the entry was opened, and it was opened
  // a moment before: what was born since, of the move's own making or not to be told from it, goes.
  return bornAfter(facts, new Date(entry.openedAt));
}

/** One deletion that may fail for the destination's sake: said once, remembered, and tried again later. */
async function attempt<T>(scene: Scene, about: string, body: () => Promise<T>): Promise<T | 'failed'> {
  try {
    return await body();
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    scene.ports.log.warn({ moveId: scene.plan.moveId, path: about, reason }, 'cannot be cleaned now');
    return 'failed';
  }
}
