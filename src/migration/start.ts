/** Hands the move to the VM's worker: targets and journal are made there, and the copy begins. */
import { VmStorageError } from '../model/errors.js';
import { killPoint } from '../os/kill-point.js';
import { notBegun } from './move-error.js';
import { refuseStopped } from './prepare.js';
import type { Scene } from './scene.js';
import { isLost } from './repeat.js';
import { removeTargets } from './undo.js';

/** A worker that dies each time it begins this move will die a fourth time. */
const START_ATTEMPTS = 3;

export async function startEngine(scene: Scene): Promise<void> {
  await startOnce(scene);
  killPoint('host:started');
}

async function startOnce(scene: Scene): Promise<void> {
  const { plan, journalPath, marksPath } = scene;
  for (let attempt = 1; ; attempt++) {
    const worker = await scene.needWorker();
    refuseStopped(scene);
    try {
      // No limit, and a stop has to wait for the answer: a start that was abandoned might still succeed, and then move on unwatched.
      await scene.fromWorker(worker.call('startMove', { plan, journalPath, marksPath }, { timeoutMs: 0 }));
      return;
    } catch (cause) {
      if (!isLost(cause)) throw notBegun(cause, plan);
      // It died in the middle. If the `started` record had become durable, its successor is at it already.
      const status = await scene.ask('status', {});
      if (status.journal?.plan.moveId === plan.moveId) return;
      if (attempt >= START_ATTEMPTS) {
        throw new VmStorageError('OperationFailed', `The worker of the virtual machine died ${attempt} times while the move began.`, {
          cause,
        });
      }
      await removeTargets(scene);
    }
  }
}
