/**
 * Who may start now: a pure policy over the jobs in their order of arrival. Not a scheduler; the queue applies what it says.
 *
 * The order is first come, first served, without overtaking: a later job never starts while an earlier one waits, so a waiting
 * job cannot be starved. A limit that was lowered stops nobody who is running. A job that is stalled holds no place: what it waits for
 * may never come, and two of them would otherwise keep everybody else from moving for ever.
 */

/** Jobs that may wait at the same time. Each holds its plan (a few KB) and one connection at most; more is a script run wild. */
export const QUEUED_JOBS_MAX = 1000;

export interface AdmissionView {
  /** Jobs that hold a place now: running or cancelling, and not stalled. */
  readonly active: number;
  /** Ids of those waiting, the oldest first. */
  readonly waiting: readonly string[];
  /** MaximumStorageMigrations. 0 lets nothing start; what runs goes on. */
  readonly limit: number;
}

/** Ids to start now, in order. */
export function admit(view: AdmissionView): readonly string[] {
  const free = Math.max(0, Math.trunc(view.limit) - view.active);
  return view.waiting.slice(0, free);
}

/** Place in the line, 1 for the next one; 0 when the job is not waiting. */
export function placeInLine(view: Pick<AdmissionView, 'waiting'>, id: string): number {
  return view.waiting.indexOf(id) + 1;
}
