/** Move-VMStorage and Get-VMStorageMove, with those of stop-moves.ts and resolve.ts: from a bound record to the moves and back to what the shell shows. */
import { VmStorageError } from '../model/errors.js';
import type { MoveStatus } from '../model/move.js';
import { timeSpan } from '../model/time-span.js';
import { hasWildcard, named } from '../model/wildcard.js';
import type { JobState } from '../jobs/states.js';
import { FINISHED_KEPT, type MoveJob, type StorageMoves } from './moves.js';
import type { CmdletContext, MigrationPorts, WireObject } from './ports.js';
import { failureOf } from './failure.js';
import { findOne, listed, notFound, vmsCalled } from './named-vms.js';
import { endOf, type MoveFailure } from './receipts.js';
import { readRequest, readVm, type Destination } from './request.js';
import { resolveMove } from './resolve.js';
import { noSuchMove, stopMoves } from './stop-moves.js';
import { stopWanted, watch } from './watch.js';

type Handler = (context: CmdletContext) => Promise<void>;

export function moveMethods(moves: StorageMoves, ports: MigrationPorts): { readonly [cmdlet: string]: Handler } {
  return {
    'Move-VMStorage': (context) => moveStorage(context, moves, ports),
    'Get-VMStorageMove': (context) => getMoves(context, moves, ports),
    'Resolve-VMStorageMove': (context) => resolveMove(context, moves, ports),
    'Stop-VMStorageMove': (context) => stopMoves(context, moves, ports, (job) => moveObject(job, moves, ports)),
  };
}

async function moveStorage(context: CmdletContext, moves: StorageMoves, ports: MigrationPorts): Promise<void> {
  const request = readRequest({ parameterSet: context.parameterSet, bound: context.bound, cwd: context.cwd, hostNames: ports.hostNames });
  const vm = findOne(request.vm, ports);
  const { name, id } = vm.configuration;
  const { checked, remarks, warnings } = await moves.look(vm, request);
  for (const remark of remarks) await context.verbose(remark);
  // Before it is begun: whoever is asked to confirm, or asks -WhatIf, should know.
  for (const warning of warnings) await context.warning(warning);
  if (!checked) return;
  const sentence = `Move-VMStorage will move the storage of the virtual machine "${name}" to ${destinationText(request.destination)}.`;
  if (!(await context.shouldProcess(sentence, 'Move-VMStorage'))) return;
  if (context.stopRequested.aborted) throw failure(name, id, stopWanted('its user'));
  const job = await moves.submit(vm, request, checked);
  // Somebody else has moved it between the question and the answer.
  if (!job) return context.warning(`The storage of the virtual machine "${name}" was moved there in the meantime; nothing is moved.`);
  const outcome = await watch(context, job, name, () => moves.placeInLine(job.id));
  if (outcome && outcome.state !== 'succeeded') throw failure(name, id, outcome.error);
}

function failure(vmName: string, vmId: string, error: VmStorageError): VmStorageError {
  return new VmStorageError(
    error.code,
    `Storage migration for virtual machine '${vmName}' (${vmId.toUpperCase()}) failed with error '${error.message}'.`,
    {
      target: vmName,
      ...(error.recommendedAction === undefined ? {} : { recommendedAction: error.recommendedAction }),
      cause: error,
    },
  );
}

function destinationText(destination: Destination): string {
  const all =
    destination.kind === 'single'
      ? [destination.folder]
      : [
          destination.virtualMachinePath,
          destination.snapshotFilePath,
          destination.smartPagingFilePath,
          ...(destination.vhds ?? []).map((pair) => pair.target),
        ].filter((each) => each !== null);
  return all.map((each) => `"${each}"`).join(', ');
}

// --- Get-VMStorageMove ---------------------------------------------------------------------------------------------------------

async function getMoves(context: CmdletContext, moves: StorageMoves, ports: MigrationPorts): Promise<void> {
  const { bound } = context;
  const active = new Set(moves.unfinished().map((job) => job.id));
  const chosen = (await namedMoves(context, moves, ports)).filter((move) => bound['Active'] !== true || active.has(String(move['MoveId'])));
  const last = bound['Last'] === undefined ? chosen.length : Number(bound['Last']);
  for (const move of chosen.slice(0, last)) await context.output(move);
}

async function namedMoves(context: CmdletContext, moves: StorageMoves, ports: MigrationPorts): Promise<readonly WireObject[]> {
  const all = shownMoves(moves, ports);
  const { bound } = context;
  if (['Name', 'VM', 'MoveId'].every((name) => listed(bound[name]).length === 0)) return all;
  const found: WireObject[] = [];
  for (const id of listed(bound['MoveId']).map(String)) {
    const move = all.find((one) => one['MoveId'] === id.toLowerCase());
    if (move) found.push(move);
    else await context.error(noSuchMove(id));
  }
  for (const vm of listed(bound['VM']).map((given) => readVm({ VM: given }).text)) {
    found.push(...all.filter((one) => String(one['VMId']).toLowerCase() === vm.toLowerCase()));
  }
  for (const name of listed(bound['Name']).map(String)) {
    const byId = all.filter((move) => String(move['VMId']).toLowerCase() === name.toLowerCase());
    const some = byId.length > 0 ? byId : named(name, all, (move) => String(move['VMName']));
    // A machine that exists and was never moved has nothing to show; one that does not exist is an error.
    if (some.length === 0 && !hasWildcard(name) && vmsCalled(name, ports).length === 0) {
      await context.error(notFound({ by: 'name', text: name }));
    }
    found.push(...some);
  }
  return found;
}

/** Running and waiting ones, then the last finished ones, the newest first; bounded. */
function shownMoves(moves: StorageMoves, ports: MigrationPorts): readonly WireObject[] {
  const finished = [...moves.finished()].reverse().map((job) => moveObject(job, moves, ports));
  const here = new Set([...moves.finished(), ...moves.unfinished()].map((job) => job.id));
  const older = [...moves.history()]
    .reverse()
    .filter((receipt) => !here.has(receipt.moveId))
    .map((receipt) =>
      wire(ports, {
        moveId: receipt.moveId,
        vmId: receipt.vmId,
        vmName: receipt.vmName,
        status: receipt.status,
        outcome: endOf(receipt),
        message: receipt.failure?.message ?? null,
        failure: receipt.failure ?? null,
        startedAt: new Date(receipt.startedAt),
        finishedAt: new Date(receipt.finishedAt!),
        moved: receipt.moved,
      }),
    );
  return [...moves.unfinished().map((job) => moveObject(job, moves, ports)), ...[...finished, ...older].slice(0, FINISHED_KEPT)];
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

function moveObject(job: MoveJob, moves: StorageMoves, ports: MigrationPorts): WireObject {
  const plan = moves.planOf(job.id);
  const error = job.outcome && job.outcome.state !== 'succeeded' ? job.outcome.error : null;
  return wire(ports, {
    moveId: job.id,
    vmId: job.subject,
    vmName: plan?.vmName ?? ports.registry.byId(job.subject)?.configuration.name ?? '',
    status: job.progress,
    outcome: outcomeNames[job.state],
    message: error?.message ?? stateOf(job),
    failure: error === null ? null : failureOf(error, plan),
    // Of a move that an earlier host began: its own beginning, not this host's.
    startedAt: job.startedAt === null ? null : plan ? new Date(plan.createdAt) : job.startedAt,
    finishedAt: job.finishedAt,
    moved: plan?.disks ?? [],
  });
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
