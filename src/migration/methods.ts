/** Move-VMStorage, Get-VMStorageMove and Stop-VMStorageMove: from a bound record to the moves and back to what the shell shows. */
import { VmStorageError } from '../model/errors.js';
import type { MoveStatus } from '../model/move.js';
import { hasWildcard, named } from '../model/wildcard.js';
import type { JobState } from '../jobs/states.js';
import { FINISHED_KEPT, type MoveJob, type StorageMoves } from './moves.js';
import type { CmdletContext, MigrationPorts, VmRecord, WireObject, WireValue } from './ports.js';
import { readRequest, readVm, type Destination, type VmReference } from './request.js';
import { stopIsDue, stopWanted, watch } from './watch.js';

type Handler = (context: CmdletContext) => Promise<void>;

export function moveMethods(moves: StorageMoves, ports: MigrationPorts): { readonly [cmdlet: string]: Handler } {
  return {
    'Move-VMStorage': (context) => moveStorage(context, moves, ports),
    'Get-VMStorageMove': (context) => getMoves(context, moves, ports),
    'Stop-VMStorageMove': (context) => stopMoves(context, moves, ports),
  };
}

async function moveStorage(context: CmdletContext, moves: StorageMoves, ports: MigrationPorts): Promise<void> {
  const request = readRequest({ parameterSet: context.parameterSet, bound: context.bound, cwd: context.cwd, hostNames: ports.hostNames });
  const vm = findOne(request.vm, ports);
  const { name, id } = vm.configuration;
  const { checked, remarks } = await moves.look(vm, request);
  for (const remark of remarks) await context.verbose(remark);
  if (!checked) return;
  const sentence = `Move-VMStorage will move the storage of the virtual machine "${name}" to ${destinationText(request.destination)}.`;
  if (!(await context.shouldProcess(sentence, 'Move-VMStorage'))) return;
  if (context.stopRequested.aborted) throw failure(name, id, stopWanted('its user'));
  const job = await moves.submit(vm, request, checked);
  if (!job) return;
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

// --- finding VMs ---------------------------------------------------------------------------------------------------------------

function findOne(reference: VmReference, ports: MigrationPorts): VmRecord {
  const byId = reference.by === 'id' ? ports.registry.byId(reference.text) : undefined;
  const found = reference.by === 'id' ? (byId ? [byId] : []) : ports.registry.find(reference.text);
  if (found.length > 1) {
    throw new VmStorageError(
      'InvalidParameter',
      `${found.length} virtual machines have the name "${reference.text}". Give one of them with -VM.`,
      {
        target: reference.text,
      },
    );
  }
  const vm = found[0];
  if (!vm) throw notFound(reference);
  return vm;
}

function notFound(reference: VmReference): VmStorageError {
  return new VmStorageError('ObjectNotFound', `Hyper-V was unable to find a virtual machine with ${reference.by} "${reference.text}".`, {
    target: reference.text,
  });
}

/** By id or literal name, else by PowerShell's pattern. */
function vmsCalled(text: string, ports: MigrationPorts): readonly VmRecord[] {
  const exact = ports.registry.find(text);
  return exact.length > 0 ? exact : named(text, ports.registry.list(), (vm) => vm.configuration.name);
}

/** The VMs a record names; a literal name that is unknown is an error of its own and the others go on. */
async function namedVms(context: CmdletContext, ports: MigrationPorts): Promise<readonly VmRecord[]> {
  const found: VmRecord[] = [];
  for (const given of listed(context.bound['VM'] ?? context.bound['Name'])) {
    const reference = readVm({ VM: given });
    const some =
      reference.by === 'id' ? [ports.registry.byId(reference.text)].filter((vm) => vm !== undefined) : vmsCalled(reference.text, ports);
    if (some.length === 0 && !(reference.by === 'name' && hasWildcard(reference.text))) await context.error(notFound(reference));
    found.push(...some);
  }
  return found;
}

function listed(value: WireValue | undefined): readonly WireValue[] {
  if (value === undefined || value === null) return [];
  return Array.isArray(value) ? value : [value];
}

// --- Get-VMStorageMove ---------------------------------------------------------------------------------------------------------

async function getMoves(context: CmdletContext, moves: StorageMoves, ports: MigrationPorts): Promise<void> {
  const all = shownMoves(moves, ports);
  const names = listed(context.bound['Name']).map(String);
  if (names.length === 0) {
    for (const move of all) await context.output(move);
    return;
  }
  for (const name of names) {
    const byId = all.filter((move) => String(move['VMId']).toLowerCase() === name.toLowerCase());
    const some = byId.length > 0 ? byId : named(name, all, (move) => String(move['VMName']));
    // A machine that exists and was never moved has nothing to show; one that does not exist is an error.
    if (some.length === 0 && !hasWildcard(name) && vmsCalled(name, ports).length === 0) {
      await context.error(notFound({ by: 'name', text: name }));
    }
    for (const move of some) await context.output(move);
  }
}

/** Running and waiting ones, then the last finished ones, the newest first; bounded. */
function shownMoves(moves: StorageMoves, ports: MigrationPorts): readonly WireObject[] {
  const finished = [...moves.finished()].reverse().map((job) => moveObject(job, moves, ports));
  const here = new Set(moves.finished().map((job) => job.id));
  const older = [...moves.history()]
    .reverse()
    .filter((receipt) => !here.has(receipt.moveId))
    .map((receipt) =>
      wire(ports, {
        moveId: receipt.moveId,
        vmId: receipt.vmId,
        vmName: receipt.vmName,
        status: receipt.status,
        outcome: 'Completed',
        message: null,
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
  readonly outcome: string | null;
  readonly message: string | null;
  readonly moved: readonly { readonly source: string; readonly target: string }[];
}

const outcomeNames: { readonly [S in JobState]: string | null } = {
  queued: null,
  running: null,
  cancelling: null,
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
    moved: plan?.disks ?? [],
  });
}

function stateOf(job: MoveJob): string | null {
  const stopping = job.state === 'cancelling';
  if (job.isStalled)
    return `Its storage worker is not there; Get-VM says why. It ${stopping ? 'is told to stop' : 'goes on'} once the worker is back, and holds no place until then.`;
  return stopping ? 'It is being stopped.' : null;
}

function wire(ports: MigrationPorts, shown: Shown): WireObject {
  const { status } = shown;
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
    GuestP99Us: whole(status.guestP99Us),
    BlackoutUs: whole(status.blackoutUs),
    Outcome: shown.outcome,
    Message: shown.message,
    Receipt: status.receipt === null ? null : JSON.stringify(status.receipt),
    Source: shown.moved.map((one) => one.source),
    Destination: shown.moved.map((one) => one.target),
    ComputerName: ports.computerName,
  };
}

// --- Stop-VMStorageMove --------------------------------------------------------------------------------------------------------

async function stopMoves(context: CmdletContext, moves: StorageMoves, ports: MigrationPorts): Promise<void> {
  for (const vm of await namedVms(context, ports)) {
    const { name } = vm.configuration;
    const job = moves.of(vm.configuration.id);
    if (!job) {
      await context.error(
        new VmStorageError('InvalidState', `The storage of the virtual machine "${name}" is not being moved.`, { target: name }),
      );
      continue;
    }
    const sentence = `Stop-VMStorageMove will stop the move of the storage of the virtual machine "${name}".`;
    if (!(await context.shouldProcess(sentence, 'Stop-VMStorageMove'))) continue;
    if (job.cancel(stopWanted('Stop-VMStorageMove')) !== 'tooLate') await Promise.race([ended(job), gone(context.signal)]);
    if (context.signal.aborted) return;
    if (job.isStalled && !job.committed) await context.warning(stopIsDue(name));
    if (job.committed) await context.warning(`The virtual machine "${name}" uses its new files already; the move is completed.`);
    if (context.bound['PassThru'] === true) await context.output(moveObject(job, moves, ports));
  }
}

/**
 * Over, or not to be waited for: too late to be stopped, then it has nothing to wait for but itself; or without its worker, which alone
 * can stop it.
 */
function ended(job: MoveJob): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (job.committed || job.isStalled) resolve();
    };
    void job.finished().then(() => resolve());
    job.subscribe(look);
    look();
  });
}

function gone(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
