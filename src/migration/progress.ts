/** The figures of one move while it runs, host and engine phases in one, and the line a person reads. */
import type { MoveOutcome, MovePhase, MovePlan, MoveStatus, TurnLength } from '../model/move.js';
import { movePhases } from '../model/move.js';

const noFigures = {
  bytesTotal: '0',
  bytesCopied: '0',
  bytesRecopied: '0',
  bytesMirrored: '0',
  bytesVerified: '0',
  bytesData: null,
  bytesCompared: '0',
  bytesPerSecond: 0,
  secondsRemaining: null,
  guestP99Us: null,
  guestMaxUs: null,
  guestRestMaxUs: null,
  blackoutUs: null,
  boundBytes: null,
  longestTurn: null,
  outcome: null,
  receipt: null,
} as const;

/** What the engine may still have to say in percent is below this; the rest belongs to releasing and cleaning up. */
const PERCENT_AT_RELEASE = 99;

/** What a worker counts; one that was started again after the switch has nothing left to count and says 0. */
type Figures = Pick<
  MoveStatus,
  | 'bytesTotal'
  | 'bytesCopied'
  | 'bytesRecopied'
  | 'bytesMirrored'
  | 'bytesVerified'
  | 'bytesData'
  | 'bytesCompared'
  | 'guestP99Us'
  | 'guestMaxUs'
  | 'guestRestMaxUs'
  | 'blackoutUs'
  | 'boundBytes'
  | 'longestTurn'
>;

/** `now`, with the figures and the receipt of `before` where it has none of its own. */
export function withFiguresOf(before: MoveStatus, now: MoveStatus): MoveStatus {
  const counted = now.bytesTotal === '0' ? before : now;
  const figures: Figures = {
    bytesTotal: counted.bytesTotal,
    bytesCopied: counted.bytesCopied,
    bytesRecopied: counted.bytesRecopied,
    bytesMirrored: counted.bytesMirrored,
    bytesVerified: counted.bytesVerified,
    bytesData: counted.bytesData,
    bytesCompared: counted.bytesCompared,
    guestP99Us: counted.guestP99Us,
    // A worker that was started again counts from its own start: the longest of all is what the guest lived through.
    guestMaxUs: longest(before.guestMaxUs, counted.guestMaxUs),
    guestRestMaxUs: before.guestRestMaxUs ?? counted.guestRestMaxUs,
    blackoutUs: now.blackoutUs ?? before.blackoutUs,
    boundBytes: counted.boundBytes,
    longestTurn: longerOf(before.longestTurn, now.longestTurn),
  };
  return { ...now, ...figures, receipt: now.receipt ?? before.receipt };
}

/** A worker that was started again counts from nothing; the guest felt both. */
function longerOf(one: TurnLength | null, other: TurnLength | null): TurnLength | null {
  if (one === null || other === null) return one ?? other;
  return {
    operations: Math.max(one.operations, other.operations),
    processorUs: Math.max(one.processorUs, other.processorUs),
    wallUs: Math.max(one.wallUs, other.wallUs),
  };
}

function longest(one: number | null, other: number | null): number | null {
  return one === null ? other : other === null ? one : Math.max(one, other);
}

export function freshStatus(moveId: string, phase: MovePhase): MoveStatus {
  return { moveId, phase, percent: 0, ...noFigures };
}

/** Keeps the last status; percent and phase never go back, a restart of the worker included. */
export class Tracker {
  #status: MoveStatus;
  /** Only what the host entered itself counts: a worker's word must not end what is told of its work. */
  #isHostsTurn: boolean;

  constructor(
    plan: Pick<MovePlan, 'moveId'>,
    private readonly report: (status: MoveStatus) => void,
    phase: MovePhase = 'queued',
  ) {
    this.#status = freshStatus(plan.moveId, phase);
    this.#isHostsTurn = order(phase) >= order('release');
  }

  get status(): MoveStatus {
    return this.#status;
  }

  /** A phase the host runs itself. */
  enter(phase: MovePhase): void {
    this.#isHostsTurn = order(phase) >= order('release');
    const floor = phase === 'done' ? 100 : order(phase) >= order('release') ? PERCENT_AT_RELEASE : 0;
    this.#set({ ...this.#status, phase, percent: Math.max(this.#status.percent, floor), secondsRemaining: null, outcome: null });
  }

  /** What the worker says; a status of another move is none of ours. */
  fromWorker(status: MoveStatus): void {
    if (status.moveId !== this.#status.moveId) return;
    const behind = order(status.phase) < order(this.#status.phase);
    this.#set({
      ...withFiguresOf(this.#status, status),
      // A mirror may fall back to copying, so a phase may be seen again; once the host releases, the worker's phase does not count.
      phase: this.#isHostsTurn && behind ? this.#status.phase : status.phase,
      percent: Math.max(this.#status.percent, Math.min(status.percent, PERCENT_AT_RELEASE)),
      outcome: null,
    });
  }

  /** What the status will be once the move has ended like this: for the receipt, which is written before the end. */
  finalStatus(outcome: MoveOutcome): MoveStatus {
    return {
      ...this.#status,
      // One that came to nothing stays in the phase that it did not get out of: which one it was is half of why.
      phase: outcome.ok ? 'done' : this.#status.phase,
      percent: outcome.ok ? 100 : this.#status.percent,
      bytesPerSecond: 0,
      secondsRemaining: null,
      outcome,
    };
  }

  end(outcome: MoveOutcome): void {
    this.#set(this.finalStatus(outcome));
  }

  #set(status: MoveStatus): void {
    this.#status = status;
    this.report(status);
  }
}

function order(phase: MovePhase): number {
  return movePhases.indexOf(phase);
}

const GB = 1024 ** 3;
const MB = 1024 ** 2;

/** Of a move that is over how it ended ("71 % done" was read as success), else `copy: 12.3 of 40.0 GB, 512 MB/s, guest p99 0.8 ms`; 1 GB is 2^30 bytes, as in PowerShell. */
export function statusLine(status: MoveStatus, placeInLine = 0): string {
  if (status.phase === 'queued') return placeInLine > 0 ? `queued: ${placeInLine} in line` : 'queued';
  if (status.outcome) return status.outcome.ok ? 'done' : status.outcome.code === 'OperationStopped' ? 'stopped' : 'failed';
  const total = Number(status.bytesData ?? status.bytesTotal);
  if (total === 0 || order(status.phase) >= order('release')) return status.phase;
  const done = status.phase === 'verify' ? Number(status.bytesCompared) : Number(status.bytesCopied);
  const unit = total >= GB ? GB : MB;
  const parts = [`${(Math.min(done, total) / unit).toFixed(1)} of ${(total / unit).toFixed(1)} ${unit === GB ? 'GB' : 'MB'}`];
  if (status.bytesPerSecond > 0) parts.push(`${Math.round(status.bytesPerSecond / MB)} MB/s`);
  if (status.guestP99Us !== null) parts.push(`guest p99 ${(status.guestP99Us / 1000).toFixed(1)} ms`);
  return `${status.phase}: ${parts.join(', ')}`;
}

/** `40.0 GB`, `512.0 MB`, `17 bytes`. */
export function bytesText(bytes: bigint): string {
  if (bytes >= BigInt(GB)) return `${(Number(bytes) / GB).toFixed(1)} GB`;
  if (bytes >= BigInt(MB)) return `${(Number(bytes) / MB).toFixed(1)} MB`;
  return `${bytes} bytes`;
}
