/** Move-VMStorage and Get-VMStorageMove, with those of stop-moves.ts and resolve.ts: from a bound record to the moves and back to what the shell shows. */
import { VmStorageError } from '../model/errors.js';
import { hasWildcard, named } from '../model/wildcard.js';
import type { StorageMoves } from './moves.js';
import type { CmdletContext, MigrationPorts, WireObject } from './ports.js';
import { planObject } from './foreseen.js';
import { findOne, listed, notFound, vmsCalled } from './named-vms.js';
import { readRequest, readVm, type Destination } from './request.js';
import { resolveMove } from './resolve.js';
import { moveObject, shownMoves } from './shown-moves.js';
import { noSuchMove, stopMoves } from './stop-moves.js';
import { stopWanted, watch } from './watch.js';
import { watchMoves } from './watch-moves.js';

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
  const foreseen = await unlessStopped(context, moves.foresee(vm, request));
  const { checked, remarks, warnings, refusals } = foreseen;
  if (context.bound['PassPlan'] === true) await context.output(planObject(foreseen, moves.forecast(foreseen), ports.computerName));
  if (refusals[0]) throw refusals[0];
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

/** Whoever does not want to wait for a destination that hangs need not: looking changes nothing, so there is nothing to undo. */
async function unlessStopped<T>({ stopRequested }: CmdletContext, looked: Promise<T>): Promise<T> {
  let stop!: () => void;
  const stopped = new Promise<never>((resolve, reject) => {
    stop = () => reject(stopWanted('its user'));
    if (stopRequested.aborted) stop();
    else stopRequested.addEventListener('abort', stop, { once: true });
  });
  try {
    return await Promise.race([looked, stopped]);
  } finally {
    stopRequested.removeEventListener('abort', stop);
  }
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
  const some = chosen.slice(0, last);
  if (bound['Watch'] === true) await watchMoves(context, some, moves, ports);
  else for (const move of some) await context.output(move);
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
