/** One client watching one job: its progress, its warnings, its wish to stop. The job does not depend on it. */
import { VmStorageError } from '../model/errors.js';
import type { MoveStatus } from '../model/move.js';
import { Bell } from '../jobs/bell.js';
import type { JobOutcome } from '../jobs/job.js';
import type { CmdletContext, WireValue } from './ports.js';
import { statusLine } from './progress.js';
import type { MoveReceipt } from './receipts.js';
import type { MoveJob } from './moves.js';

/** The progress bar's number; a cmdlet shows one bar at a time. */
const PROGRESS_ID = 1;

/** Ctrl+C, Stop-Job, Stop-VMStorageMove: said in the error of whoever waits for the move. */
export function stopWanted(by: string): VmStorageError {
  return new VmStorageError('OperationStopped', `The move was stopped by ${by}.`);
}

/** Said instead of waiting for a worker that may be away for long. */
export function stopIsDue(vmName: string): string {
  return `The storage worker of the virtual machine "${vmName}" does not answer. It is told to stop the move as soon as it does.`;
}

/** Resolves with the outcome, or with null when the client has gone away: the move goes on without it. */
export async function watch(
  context: CmdletContext,
  job: MoveJob,
  vmName: string,
  placeInLine: () => number,
): Promise<JobOutcome<MoveReceipt> | null> {
  const activity = `Moving storage of virtual machine "${vmName}"`;
  const lines = [...job.lines];
  const bell = new Bell();
  let wasCancelling = false;
  let tooLate = false;
  const unsubscribe = job.subscribe((event, text) => {
    if (event === 'warning' || event === 'verbose') lines.push({ event, text });
    if (event === 'state' && wasCancelling && text === 'running') tooLate = true;
    wasCancelling = job.state === 'cancelling';
    bell.ring();
  });
  const stop = (): void => {
    if (job.cancel(stopWanted('its user')) === 'tooLate') tooLate = true;
    bell.ring();
  };
  const leave = (): void => bell.ring();
  context.stopRequested.addEventListener('abort', stop, { once: true });
  context.signal.addEventListener('abort', leave, { once: true });
  let saidTooLate = false;
  try {
    if (context.stopRequested.aborted) stop();
    for (;;) {
      const outcome = job.outcome;
      for (let line = lines.shift(); line; line = lines.shift()) {
        await (line.event === 'warning' ? context.warning(line.text) : context.verbose(line.text));
      }
      if (tooLate && !saidTooLate) {
        saidTooLate = true;
        await context.warning(`The virtual machine "${vmName}" uses its new files already; the move is completed.`);
      }
      await context.progress(record(activity, job.progress, placeInLine(), outcome));
      if (outcome) return outcome;
      if (context.signal.aborted) return null;
      if (job.isStalled && job.state === 'cancelling' && context.stopRequested.aborted)
        return { state: 'cancelled', error: new VmStorageError('OperationStopped', stopIsDue(vmName)) };
      await bell.rung();
    }
  } finally {
    unsubscribe();
    context.stopRequested.removeEventListener('abort', stop);
    context.signal.removeEventListener('abort', leave);
  }
}

/** Of a move that came to nothing there is no percentage: it would be the last that is seen of it. */
function record(
  activity: string,
  status: MoveStatus,
  placeInLine: number,
  outcome: JobOutcome<MoveReceipt> | null,
): Parameters<CmdletContext['progress']>[0] {
  const done = outcome !== null;
  const undone = done && outcome.state !== 'succeeded';
  return {
    id: PROGRESS_ID,
    activity,
    status: undone ? (outcome.state === 'cancelled' ? 'stopped' : 'failed') : statusLine(status, placeInLine),
    percent: undone ? -1 : Math.floor(status.percent),
    ...(status.secondsRemaining === null ? {} : { secondsRemaining: Math.round(status.secondsRemaining) }),
    ...(done ? { done } : {}),
    data: { ...status } as unknown as { [key: string]: WireValue },
  };
}
