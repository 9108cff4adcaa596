/**
 * The way to the end, after COMMITTED: there is no way back any more, so every step is repeated until it succeeds, and each may be run
 * again from the start by recovery. The order is the durable one: nothing is deleted before all that names it has been changed.
 *
 * | step | what is durable after it |
 * | --- | --- |
 * | committed | the ledger: this move is to be completed, whatever happens to the worker's journal |
 * | receipt | hashes and identities of both files |
 * | targets | (nothing: they are at their paths) |
 * | configuration, registry | the VM's `.vmcx` names the new files and the registry names it |
 * | released | the worker has closed the sources |
 * | seen | (nothing: the proof that the VM uses the new files, see seen.ts) |
 * | sources | old disk files deleted, their folders fsynced |
 * | old configuration | old `.vmcx` deleted |
 * | journal, receipt, ledger | (cleanUp) the move is over |
 */
import { VmStorageError } from '../model/errors.js';
import { errnoOf } from '../os/errno.js';
import { killPoint } from '../os/kill-point.js';
import { readIdentity, sameFile } from '../os/file-identity.js';
import { inPhase } from './phases.js';
import type { MoveOutcome } from '../model/move.js';
import { RETAINED, afterMove } from './plan.js';
import type { MoveReceipt } from './receipts.js';
import { see } from './seen.js';
import { lostTarget, wouldBeSeen } from './vanished.js';
import type { HeldFile } from './ports.js';
import { isAtIt, type Scene } from './scene.js';
import { withBackOff, type BackOff } from './repeat.js';

type Step = (scene: Scene) => Promise<void>;

const releaseSteps: readonly Step[] = [
  markCommitted,
  saveReceipt,
  findTargets,
  switchConfiguration,
  closeSources,
  see,
  deleteSources,
  deleteOldConfiguration,
];

/** Two minutes in all; then the job ends with an error and `later.ts` goes on. Nothing is lost by waiting: the VM runs on the targets. */
const stepBackOff: BackOff = { firstMs: 100, mostMs: 10_000, attempts: 18 };

/** Completes the move. Throws only when a step has failed many times over; the ledger entry then stays, and running it again is right. */
export async function release(scene: Scene, backOff: BackOff = stepBackOff): Promise<MoveReceipt> {
  scene.control.pointOfNoReturn();
  return inPhase(scene, 'release', async () => {
    for (const step of releaseSteps) {
      const beganMs = scene.ports.clock.monotonicMs();
      await persist(scene, step, backOff);
      scene.ports.log.debug({ moveId: scene.plan.moveId, step: step.name, tookMs: scene.ports.clock.monotonicMs() - beganMs }, 'step ends');
    }
    return inPhase(scene, 'cleanUp', () => endMove(scene, backOff));
  });
}

async function persist<T>(scene: Scene, step: (scene: Scene) => Promise<T>, backOff: BackOff): Promise<T> {
  let said = false;
  return withBackOff(
    scene.ports.clock,
    backOff,
    async () => {
      await scene.gate();
      return step(scene);
    },
    (cause) => {
      const reason = cause instanceof Error ? cause.message : String(cause);
      if (!said)
        scene.ports.log.warn({ moveId: scene.plan.moveId, step: step.name, reason }, 'a step after the switch failed; it is repeated');
      said = true;
      return true;
    },
  );
}

async function markCommitted(scene: Scene): Promise<void> {
  if (scene.entry.state !== 'committed') await scene.record({ state: 'committed' });
  killPoint('host:committed');
}

async function saveReceipt(scene: Scene): Promise<void> {
  await lastFigures(scene);
  await scene.receipts.save(scene.plan, scene.tracker.status, scene.kept, null);
  killPoint('host:receipt');
}

/** A destination that is not mounted now gets no configuration: the folders would be made on whatever lies below it. */
async function findTargets(scene: Scene): Promise<void> {
  const lost = await lostTarget(scene);
  if (lost === null) return;
  throw new VmStorageError('StorageFailure', `There is no '${lost}' at present; its file system is not mounted.`, { target: lost });
}

/** Hash and blackout may come a moment after the switch; asked again before the journal is ended, with which the worker forgets them. */
async function lastFigures(scene: Scene): Promise<void> {
  if (scene.plan.disks.length === 0) return;
  const status = await scene.ask('status', {});
  if (status.move) scene.tracker.fromWorker(status.move);
}

async function switchConfiguration(scene: Scene): Promise<void> {
  const { plan, ports } = scene;
  await ports.locks.exclusive(plan.vmId, async () => {
    // The configuration of now, not of when the move began: only its paths are the move's business.
    const current = ports.registry.byId(plan.vmId)?.configuration ?? plan.after;
    const wanted = afterMove(current, plan);
    // Usually it is there since `prepare`: then a destination that is full by now cannot hold up the end.
    if (!(await ports.registry.isWritten(wanted, plan.configurationTarget)))
      await ports.registry.writeConfiguration(wanted, plan.configurationTarget);
    killPoint('host:configuration');
    await ports.registry.repoint(plan.vmId, plan.configurationTarget);
    killPoint('host:registry');
  });
}

async function closeSources(scene: Scene): Promise<void> {
  if (scene.plan.disks.length === 0) return;
  if (await isAtIt(scene)) await scene.ask('releaseMove', {});
  killPoint('host:released');
}

/**
 * A source whose file system refuses (a disk that failed and became read-only is a reason to move away from it) does not make the
 * move fail: it is kept, and the person is told.
 */
async function deleteSources(scene: Scene): Promise<void> {
  scene.kept.length = 0;
  for (const { source, target } of scene.plan.disks) {
    try {
      const reason = await withBackOff(scene.ports.clock, deleteBackOff, () => deleteSource(scene, source, target), isOfTheFileSystem);
      if (reason !== null) scene.kept.push({ path: source, reason });
    } catch (cause) {
      if (!isOfTheFileSystem(cause)) throw cause;
      scene.kept.push({ path: source, reason: `it could not be deleted (${systemErrorOf(cause)})` });
    }
  }
}

const deleteBackOff: BackOff = { firstMs: 100, mostMs: 400, attempts: 4 };

/** Also as an error of ours: a call by a held folder says what was asked as well. */
const systemErrorOf = (cause: unknown): string | null => errnoOf(cause) ?? (cause instanceof VmStorageError ? errnoOf(cause.cause) : null);

const isOfTheFileSystem = (cause: unknown): boolean => systemErrorOf(cause) !== null;

/** Null when the source is gone; else why it stays. What is looked at and what is deleted is one file, held from the one to the other. */
async function deleteSource(scene: Scene, source: string, target: string): Promise<string | null> {
  const kept = scene.plan.keepSources.find((one) => one.path === source);
  if (kept) return kept.reason;
  const { files } = scene.ports;
  const held = await files.hold(source, scene.owner).catch(unlessUnsafe);
  if (held instanceof VmStorageError) return `others can change where it lies: ${held.message}`;
  try {
    const reason = await whyKept(scene, source, held, target);
    if (reason !== null) return reason;
    killPoint('host:sourceChecked');
    if (held !== null && (await held.delete()) === 'other') return 'another file is there by now';
  } finally {
    held?.close();
  }
  killPoint('host:source');
  await deleteLink(scene, source);
  return null;
}

/** Attached through a symbolic link: the link goes as well, else it would lead nowhere. */
async function deleteLink(scene: Scene, source: string): Promise<void> {
  const link = await scene.ports.files.holdItself(source, scene.owner).catch(unlessUnsafe);
  if (link === null || link instanceof VmStorageError) return;
  try {
    if (link.isLink) await link.delete();
  } finally {
    link.close();
  }
}

function unlessUnsafe(cause: unknown): VmStorageError {
  if (cause instanceof VmStorageError && cause.code === 'UnsafeFolder') return cause;
  throw cause;
}

/** Null: it is the file that was moved and nobody else has it, so it goes (or is gone). */
async function whyKept(scene: Scene, source: string, held: HeldFile | null, target: string): Promise<string | null> {
  const { files } = scene.ports;
  const known = scene.entry.sources?.find((one) => one.path === source);
  if (held === null) return !known || (await wouldBeSeen(known.real, known.device, scene)) ? null : 'its file system is not there any more';
  const there = held.facts;
  if (!known) return 'it could not be proved that it is the file that was moved';
  if (!sameFile(there, readIdentity(known.identity))) return 'another file is there by now';
  const now = await files.facts(target);
  if (!now || sameFile(there, now))
    throw new VmStorageError('HostInternalError', `'${source}' is not deleted: '${target}' is not a file of its own.`);
  if (there.hardLinks > 1) return `it has ${there.hardLinks - 1} further hard link(s)`;
  return null;
}

async function deleteOldConfiguration(scene: Scene): Promise<void> {
  const { plan, ports } = scene;
  if (plan.configurationSource === plan.configurationTarget) return;
  try {
    await ports.registry.deleteConfiguration(plan.vmId, plan.configurationSource);
    killPoint('host:oldConfiguration');
  } catch (cause) {
    // As with a source: the old place may be broken, which is no reason to call the move a failure.
    if (!(cause instanceof VmStorageError) || cause.code === 'HostInternalError') throw cause;
    scene.kept.push({ path: plan.configurationSource, reason: `it could not be deleted (${cause.message})` });
  }
}

/** What was left behind is part of how the move ended: who looks later was told no warning. */
export function completed(kept: Scene['kept']): MoveOutcome {
  const unwanted = kept.filter(({ reason }) => reason !== RETAINED);
  return { ok: true, code: 'None', message: unwanted.map(keptText).join(' ') };
}

export const keptText = ({ path, reason }: Scene['kept'][number]): string =>
  `'${path}' was moved, but the old file was not deleted: ${reason}.`;

async function endMove(scene: Scene, backOff: BackOff): Promise<MoveReceipt> {
  const { plan, ports } = scene;
  await persist(scene, lastFigures, backOff);
  const done = scene.tracker.finalStatus(completed(scene.kept));
  const receipt = await persist(scene, () => scene.receipts.save(plan, done, scene.kept, ports.clock.now()), backOff);
  if (plan.disks.length > 0) {
    await persist(scene, async () => void ((await isAtIt(scene)) && (await scene.ask('endMove', {}))), backOff);
  }
  killPoint('host:journal');
  await persist(scene, () => scene.ledger.remove(plan.moveId), backOff);
  killPoint('host:ledger');
  await scene.receipts.prune().catch((cause: unknown) => ports.log.warn({ cause: String(cause) }, 'old receipts could not be deleted'));
  return receipt;
}
