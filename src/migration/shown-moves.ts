/** What moves look like to a client: those that wait or run, and the last that have ended, as objects of cmdlets/types. */
import type { MoveStatus } from '../model/move.js';
import { timeSpan } from '../model/time-span.js';
import type { JobState } from '../jobs/states.js';
import { failureOf } from './failure.js';
import { FINISHED_KEPT, type MoveJob, type StorageMoves } from './moves.js';
import type { MigrationPorts, WireObject } from './ports.js';
import { endOf, type MoveFailure, type MoveReceipt } from './receipts.js';

/** Running and waiting ones, then the last finished ones, the newest first; bounded. */
export function shownMoves(moves: StorageMoves, ports: MigrationPorts): readonly WireObject[] {
  const finished = [...moves.finished()].reverse().map((job) => moveObject(job, moves, ports));
  const here = new Set([...moves.finished(), ...moves.unfinished()].map((job) => job.id));
  const older = [...moves.history()]
    .reverse()
    .filter((receipt) => !here.has(receipt.moveId))
    .map((receipt) => ofReceipt(receipt, ports));
  return [...moves.unfinished().map((job) => moveObject(job, moves, ports)), ...[...finished, ...older].slice(0, FINISHED_KEPT)];
}

/** One of them; null when it is not shown (any more). */
export function shownMove(moveId: string, moves: StorageMoves, ports: MigrationPorts): WireObject | null {
  const job = [...moves.unfinished(), ...moves.finished()].find((one) => one.id === moveId);
  if (job) return moveObject(job, moves, ports);
  const receipt = moves.history().find((one) => one.moveId === moveId);
  return receipt ? ofReceipt(receipt, ports) : null;
}

function ofReceipt(receipt: MoveReceipt, ports: MigrationPorts): WireObject {
  return wire(ports, {
    moveId: receipt.moveId,
    vmId: receipt.vmId,
    vmName: receipt.vmName,
    status: receipt.status,
    outcome: endOf(receipt),
    message: receipt.failure?.message ?? leftBehind(receipt.status),
    failure: receipt.failure ?? null,
    startedAt: new Date(receipt.startedAt),
    finishedAt: new Date(receipt.finishedAt!),
    moved: receipt.moved,
  });
}

interface Shown {
  readonly moveId: string;
  readonly vmId: string;
  readonly vmName: string;
  readonly status: MoveStatus;
  readonly outcome: string;
  readonly message: string | null;
  readonly failure: MoveFailure | null;
  /** Null while it waits for its place. */
  readonly startedAt: Date | null;
  readonly finishedAt: Date | null;
  readonly moved: readonly { readonly source: string; readonly target: string }[];
}

const outcomeNames: { readonly [S in JobState]: string } = {
  queued: 'Queued',
  running: 'Running',
  cancelling: 'Stopping',
  succeeded: 'Completed',
  failed: 'Failed',
  cancelled: 'Stopped',
};

export function moveObject(job: MoveJob, moves: StorageMoves, ports: MigrationPorts): WireObject {
  const plan = moves.planOf(job.id);
  const error = job.outcome && job.outcome.state !== 'succeeded' ? job.outcome.error : null;
  return wire(ports, {
    moveId: job.id,
    vmId: job.subject,
    vmName: plan?.vmName ?? ports.registry.byId(job.subject)?.configuration.name ?? '',
    status: job.progress,
    outcome: outcomeNames[job.state],
    message: error?.message ?? leftBehind(job.progress) ?? stateOf(job),
    failure: error === null ? null : failureOf(error, plan),
    // Of a move that an earlier host began: its own beginning, not this host's.
    startedAt: job.startedAt === null ? null : plan ? new Date(plan.createdAt) : job.startedAt,
    finishedAt: job.finishedAt,
    moved: plan?.disks ?? [],
  });
}

/** What a move that succeeded could not take away. */
function leftBehind({ outcome }: MoveStatus): string | null {
  return outcome?.ok === true && outcome.message !== '' ? outcome.message : null;
}

function stateOf(job: MoveJob): string | null {
  const stopping = job.state === 'cancelling';
  if (job.isStalled)
    return `Its storage worker does not answer; Get-VM says why. It ${stopping ? 'is told to stop' : 'goes on'} once the worker does, and holds no place until then.`;
  return stopping ? 'It is being stopped.' : null;
}

function wire(ports: MigrationPorts, shown: Shown): WireObject {
  const { status, startedAt, finishedAt } = shown;
  const whole = (value: number | null): string | null => (value === null ? null : String(Math.round(value)));
  return {
    $t: 'VMStorageMove',
    MoveId: shown.moveId,
    VMName: shown.vmName,
    VMId: shown.vmId,
    Phase: status.phase,
    PercentComplete: Math.floor(status.percent),
    BytesTotal: status.bytesTotal,
    BytesCopied: status.bytesCopied,
    BytesRecopied: status.bytesRecopied,
    BytesMirrored: status.bytesMirrored,
    BytesVerified: status.bytesVerified,
    BytesData: status.bytesData ?? null,
    BytesCompared: status.bytesCompared ?? null,
    BytesBound: status.boundBytes ?? null,
    BytesPerSecond: String(Math.round(status.bytesPerSecond)),
    SecondsRemaining: status.secondsRemaining === null ? null : Math.round(status.secondsRemaining),
    StartTime: startedAt?.toISOString() ?? null,
    EndTime: finishedAt?.toISOString() ?? null,
    Duration: startedAt === null ? null : timeSpan(Math.max(0, (finishedAt ?? ports.clock.now()).getTime() - startedAt.getTime())),
    GuestP99Us: whole(status.guestP99Us),
    GuestMaxUs: whole(status.guestMaxUs),
    GuestRestMaxUs: whole(status.guestRestMaxUs ?? null),
    BlackoutUs: whole(status.blackoutUs),
    LongestTurnOperations: status.longestTurn?.operations ?? null,
    LongestTurnUs: whole(status.longestTurn?.processorUs ?? null),
    Outcome: shown.outcome,
    Message: shown.message,
    ErrorCode: shown.failure?.code ?? null,
    FailedDisk: shown.failure?.disk ?? null,
    FailedPath: shown.failure?.path ?? null,
    Receipt: status.receipt === null ? null : JSON.stringify(status.receipt),
    Source: shown.moved.map((one) => one.source),
    Destination: shown.moved.map((one) => one.target),
    ComputerName: ports.computerName,
  };
}
