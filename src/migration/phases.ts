/**
 * The phases of a move and who runs each. Host phases are bracketed here (a line in the log at begin and end, the figures tell the
 * phase); those of the engine come from the worker.
 *
 * ```text
 * plan  check │ prepare │ copy  mirror  verify  synchronized  switch │ release  cleanUp
 *  host       │  host   │            engine (worker)                 │   host
 *             │         └─ journal: started ......... committed      │
 *             └─ ledger: open ........................ committed ───────────── removed
 * ```
 */
import type { MovePhase } from '../model/move.js';
import type { Scene } from './scene.js';

export type HostPhase = Extract<MovePhase, 'plan' | 'check' | 'prepare' | 'release' | 'cleanUp'>;

export async function inPhase<T>(scene: Scene, phase: HostPhase, body: () => Promise<T>): Promise<T> {
  const { log, clock } = scene.ports;
  const fields = { moveId: scene.plan.moveId, vmId: scene.plan.vmId, phase };
  const began = clock.monotonicMs();
  scene.tracker.enter(phase);
  log.info(fields, 'phase begins');
  try {
    const value = await body();
    log.info({ ...fields, tookMs: clock.monotonicMs() - began }, 'phase ends');
    return value;
  } catch (cause) {
    log.warn(
      { ...fields, tookMs: clock.monotonicMs() - began, reason: cause instanceof Error ? cause.message : String(cause) },
      'phase failed',
    );
    throw cause;
  }
}
