/**
 * Runs one move that has its place, from its first write to its last.
 *
 * **Promise.** On success the VM uses the targets, which was seen, and no source file is left but those that were to be kept. On
 * failure or stop before COMMITTED the VM uses the sources exactly as before, and the destination holds nothing of ours; what a broken
 * destination does not let go of is on the to-do list and goes as soon as it can. A second move then works. After COMMITTED the move is
 * completed: if a step keeps failing, the job ends with an error that says so and the rest is done later.
 *
 * One place keeps the promise: `undoOrComplete` below. Everything durable is in ledger, journal, registry and configuration;
 * `recover.ts` starts in the middle of this file with what they say.
 */
import { VmStorageError } from '../model/errors.js';
import { contextOf, onItsSource, whatIsLeft } from './failure.js';
import { follow } from './follow.js';
import { asMoveError } from './move-error.js';
import { inPhase } from './phases.js';
import { prepare, refuseStopped } from './prepare.js';
import type { MoveReceipt } from './receipts.js';
import { release } from './release.js';
import type { Scene } from './scene.js';
import { startEngine } from './start.js';
import { undo, type Undone } from './undo.js';

/** Where to begin: `follow` when the worker is at it already, `release` when the switch is durable. */
export type EntryPoint = 'prepare' | 'follow' | 'release' | 'undo';

export async function runMove(scene: Scene, from: EntryPoint = 'prepare', reason?: VmStorageError): Promise<MoveReceipt> {
  try {
    if (from === 'undo') throw reason ?? new VmStorageError('OperationFailed', 'The move was interrupted.');
    if (from === 'prepare') await inPhase(scene, 'prepare', () => prepare(scene));
    if (from !== 'release') await reachCommitted(scene, from);
  } catch (cause) {
    await undoOrComplete(scene, cause);
  }
  return completed(scene);
}

/** Resolves when there is no way back: COMMITTED in the journal, or for a move without disks, in the ledger. */
async function reachCommitted(scene: Scene, from: 'prepare' | 'follow'): Promise<void> {
  if (scene.plan.disks.length > 0) {
    if (from === 'prepare') await startEngine(scene);
    await follow(scene);
  } else {
    refuseStopped(scene);
    scene.control.pointOfNoReturn();
    await scene.record({ state: 'committed' });
  }
}

/** Keeps the promise: throws the cause once everything is as before; returns only when the switch turns out to be durable. */
async function undoOrComplete(scene: Scene, cause: unknown): Promise<void> {
  const why = asMoveError(cause);
  const error = onItsSource(why, scene.plan);
  let outcome: Undone;
  try {
    outcome = await undo(scene, why.message);
  } catch (second) {
    const reason = asMoveError(second).message.replace(/\.$/, '');
    scene.ports.log.error({ moveId: scene.plan.moveId, reason }, 'a failed move could not be undone yet');
    const text = `${error.message} Undoing it failed as well (${reason}); the host goes on trying.`;
    throw new UnfinishedMove('undo', error.code, text, contextOf(error), cause);
  }
  if (outcome === 'committed') return;
  if (outcome === 'remains') {
    const left = [...scene.remains];
    scene.ports.log.warn({ moveId: scene.plan.moveId, left }, 'the destination still holds what a move has made');
    throw new UnfinishedMove('cleanUp', error.code, `${error.message} ${whatIsLeft(left)}`, contextOf(error), cause);
  }
  if (error.code !== 'OperationStopped') throw error;
  throw new VmStorageError(error.code, `${error.message} Nothing was left at the destination.`, { ...contextOf(error), cause });
}

async function completed(scene: Scene): Promise<MoveReceipt> {
  try {
    return await release(scene);
  } catch (cause) {
    const why = asMoveError(cause);
    const text = `The virtual machine uses its new files, but the move could not be completed yet: ${why.message} The host goes on trying.`;
    throw new UnfinishedMove('release', 'OperationFailed', text, contextOf(why), cause);
  }
}

/** The job is over, the move is not: `later.ts` has to go on with it. */
export class UnfinishedMove extends VmStorageError {
  constructor(
    readonly left: 'undo' | 'cleanUp' | 'release',
    code: VmStorageError['code'],
    message: string,
    about: { readonly target?: string; readonly recommendedAction?: string },
    cause: unknown,
  ) {
    super(code, message, { ...about, cause });
  }
}
