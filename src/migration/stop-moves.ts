/** Stop-VMStorageMove: the move of a VM, or one move by its id, which is never another one of the same VM. */
import { VmStorageError } from '../model/errors.js';
import type { MoveJob, StorageMoves } from './moves.js';
import { listed, namedVms } from './named-vms.js';
import type { CmdletContext, MigrationPorts, WireObject } from './ports.js';
import { stopIsDue, stopWanted } from './watch.js';

export async function stopMoves(
  context: CmdletContext,
  moves: StorageMoves,
  ports: MigrationPorts,
  show: (job: MoveJob) => WireObject,
): Promise<void> {
  const stop = (job: MoveJob, name: string): Promise<void> => stopOne(context, job, name, show);
  for (const id of listed(context.bound['MoveId']).map(String)) {
    const job = moves.unfinished().find((one) => one.id === id.toLowerCase());
    if (job) await stop(job, nameOf(job));
    else await tellEnded(id.toLowerCase());
    if (context.signal.aborted) return;
  }
  for (const vm of await namedVms(context, ports)) {
    const { name } = vm.configuration;
    const job = moves.of(vm.configuration.id);
    if (job) await stop(job, name);
    else {
      await context.error(
        new VmStorageError('InvalidState', `The storage of the virtual machine "${name}" is not being moved.`, { target: name }),
      );
    }
    if (context.signal.aborted) return;
  }

  function nameOf(job: MoveJob): string {
    return moves.planOf(job.id)?.vmName ?? ports.registry.byId(job.subject)?.configuration.name ?? job.subject;
  }

  /** `Get-VMStorageMove | Stop-VMStorageMove` names moves that are over as well: that one is stopped already is no error. */
  async function tellEnded(id: string): Promise<void> {
    const finished = moves.finished().find((one) => one.id === id);
    const older = moves.history().find((receipt) => receipt.moveId === id);
    if (finished) return context.warning(`The move ${id} of the storage of the virtual machine "${nameOf(finished)}" has ended already.`);
    if (older) return context.warning(`The move ${id} of the storage of the virtual machine "${older.vmName}" has ended already.`);
    return context.error(noSuchMove(id));
  }
}

export function noSuchMove(id: string): VmStorageError {
  return new VmStorageError('ObjectNotFound', `There is no storage move with the id "${id}".`, { target: id });
}

async function stopOne(context: CmdletContext, job: MoveJob, name: string, show: (job: MoveJob) => WireObject): Promise<void> {
  const sentence = `Stop-VMStorageMove will stop the move of the storage of the virtual machine "${name}".`;
  if (!(await context.shouldProcess(sentence, 'Stop-VMStorageMove'))) return;
  if (job.cancel(stopWanted('Stop-VMStorageMove')) !== 'tooLate') await Promise.race([ended(job), gone(context.signal)]);
  if (context.signal.aborted) return;
  if (job.isStalled && !job.committed) await context.warning(stopIsDue(name));
  if (job.committed) await context.warning(`The virtual machine "${name}" uses its new files already; the move is completed.`);
  if (context.bound['PassThru'] === true) await context.output(show(job));
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
