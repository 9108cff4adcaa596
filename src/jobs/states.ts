/**
 * The life of a job, as two tables under one drawing.
 *
 * ```text
 *                      cancel
 *        ┌────────────────────────────────► cancelled
 *        │                                     ▲
 *     queued ── admitted ──► running ── cancel ─► cancelling
 *                             │  ▲                │   │
 *                             │  └── too late ────┘   │
 *                             ├──► succeeded ◄────────┤   the work was quicker than the cancel
 *                             └──► failed ◄───────────┘   the work failed, or could not be undone
 * ```
 *
 * `cancelling` goes back to `running` when the work is past the point where it can be undone: it then finishes.
 */
export const jobStates = ['queued', 'running', 'cancelling', 'succeeded', 'failed', 'cancelled'] as const;
export type JobState = (typeof jobStates)[number];
export type JobVerb = 'cancel';

/** Which state may follow which. */
export const follows = {
  queued: ['running', 'cancelled'],
  running: ['cancelling', 'succeeded', 'failed'],
  cancelling: ['running', 'succeeded', 'failed', 'cancelled'],
  succeeded: [],
  failed: [],
  cancelled: [],
} as const satisfies Record<JobState, readonly JobState[]>;

/** What a person may ask for, and when. */
export const allows = {
  cancel: ['queued', 'running'],
} as const satisfies Record<JobVerb, readonly JobState[]>;

export function mayFollow(from: JobState, to: JobState): boolean {
  return (follows[from] as readonly JobState[]).includes(to);
}

export function isFinished(state: JobState): boolean {
  return follows[state].length === 0;
}
