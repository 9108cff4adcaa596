/**
 * Reaching a worker process: the one that is there already, else a new one. A worker outlives its host, so "already" is the usual case
 * after a host restart; a new one is only started when no other process of this worker is left, because two would wait for each other's locks.
 */
import { realpathSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { basename } from 'node:path';
import { VmStorageError } from '../model/errors.js';
import { type Clock, waitUntil } from '../os/clock.js';
import { hasCode } from '../os/errno.js';
import type { Log } from '../os/log.js';
import { ownUid } from '../os/own-folder.js';
import { type Origin, ownProcesses, type ProcessIdentity, type Processes, waitForExit } from '../os/processes.js';
import type { WorkerStatus } from '../protocol/worker.js';
import { BECOMES_A_WORKER, type Command, type ConfineWorker } from './confined-worker.js';
import { WorkerLink } from './worker-link.js';

/** From exec to a listening socket: 0.1 s at rest. */
const START_LIMIT_MS = 20_000;
/** `status` is answered from memory. */
const STATUS_LIMIT_MS = 10_000;
/** How long a process that is alive may refuse to be connected to before it is killed: its data path is at work all the same. */
const DEAF_LIMIT_MS = 30_000;
const EXIT_LIMIT_MS = 10_000;

export interface WorkerProgram {
  /** Interpreter and script: what stands before `--socket`. */
  readonly command: readonly [string, ...string[]];
}

export interface WorkerPlace {
  readonly socket: string;
  /** Null for a tool worker. */
  readonly vmId: string | null;
  readonly logFile: string;
}

export interface ReachedWorker {
  readonly link: WorkerLink;
  readonly identity: ProcessIdentity;
  readonly status: WorkerStatus;
  /** It was running before we came. */
  readonly found: boolean;
}

export interface WorkerStarterOptions {
  readonly program: WorkerProgram;
  /** Default: a worker has the rights of the host. */
  readonly confine?: ConfineWorker;
  readonly processes: Processes;
  readonly clock: Clock;
  readonly log: Log;
}

/** Connects to the worker of `place`, starting it if none is there. `startNew` false: null instead of a start. */
export async function reachWorker(
  place: WorkerPlace,
  options: WorkerStarterOptions,
  startNew: boolean,
  signal?: AbortSignal,
): Promise<ReachedWorker | null> {
  const { processes, clock, log } = options;
  const present = await connectTo(place, options);
  if (present) return present;
  const left = processes.find((line) => isWorkerOf(line, place.socket), originOf(options.program))[0];
  if (left) {
    // Alive but not listening: being started by a host that died, or ending, or hung.
    const late = await waitUntil(
      clock,
      DEAF_LIMIT_MS,
      50,
      async () => (processes.isAlive(left) ? ((await connectTo(place, options)) ?? undefined) : null),
      signal,
    );
    if (late) return late;
    if (processes.signal(left, 'SIGKILL')) log.warn({ vmId: place.vmId, worker: left.pid }, 'a worker that did not answer was killed');
    if (!(await waitForExit(processes, clock, left, EXIT_LIMIT_MS))) {
      throw new VmStorageError(
        'OperationFailed',
        `The worker process ${left.pid} neither answers nor ends; it waits in the kernel for storage.`,
      );
    }
  }
  if (!startNew) return null;
  await rm(place.socket, { force: true });
  return startWorker(place, options, signal);
}

async function startWorker(place: WorkerPlace, options: WorkerStarterOptions, signal?: AbortSignal): Promise<ReachedWorker> {
  const { program, processes, clock, log, confine = async (command) => command } = options;
  const whole: Command = [...program.command, '--socket', place.socket, ...(place.vmId === null ? ['--tool'] : ['--vm', place.vmId])];
  const [command, ...args] = await confine(whole, place.vmId === null);
  let child;
  try {
    child = await processes.startDetached({ command, args, logFile: place.logFile, cwd: '/' });
  } catch (cause) {
    throw new VmStorageError(
      'OperationFailed',
      `The worker could not be started: ${cause instanceof Error ? cause.message : String(cause)}.`,
      { cause },
    );
  }
  log.info({ vmId: place.vmId, worker: child.identity.pid }, 'worker started');
  let ended: string | null = null;
  void child.exited.then(({ code, signal: by }) => (ended = by ? `it was killed by ${by}` : `it ended with code ${code}`));
  const reached = await waitUntil(
    clock,
    START_LIMIT_MS,
    15,
    async () => {
      if (!processes.isAlive(child.identity))
        throw new VmStorageError('OperationFailed', `The worker could not be started: ${ended ?? 'it ended'}. See ${place.logFile}.`);
      return (await connectTo(place, options)) ?? undefined;
    },
    signal,
  );
  if (reached) return { ...reached, found: false };
  processes.signal(child.identity, 'SIGKILL');
  throw new VmStorageError(
    'OperationFailed',
    `The worker did not listen on '${place.socket}' within ${START_LIMIT_MS} ms. See ${place.logFile}.`,
  );
}

/**
 * Null when nobody listens. A process that answers but is not this worker is refused: nothing of ours may be told to it. Who it is the
 * kernel says, not the answer: the process that listens, in a folder where nobody else can, of our user, with this socket on its command line.
 */
async function connectTo(place: WorkerPlace, { processes }: WorkerStarterOptions): Promise<ReachedWorker | null> {
  let link: WorkerLink;
  try {
    link = await WorkerLink.open(place.socket);
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ECONNREFUSED', 'ECONNRESET')) return null;
    throw error;
  }
  try {
    const { peer } = link;
    const identity = peer && processes.identify(peer.pid);
    const status = await link.call('status', {}, { timeoutMs: STATUS_LIMIT_MS });
    if (
      !identity ||
      peer.uid !== ownUid() ||
      status.pid !== peer.pid ||
      !isWorkerOf(processes.commandLine(peer.pid), place.socket) ||
      (place.vmId !== null && status.vmId !== '' && status.vmId !== place.vmId)
    ) {
      throw new VmStorageError(
        'ProtocolError',
        `A foreign process answers on '${place.socket}': process ${peer?.pid ?? '?'} of user ${peer?.uid ?? '?'}, which says it is ${status.pid} for '${status.vmId}'. End it, then try again.`,
      );
    }
    return { link, identity, status, found: true };
  } catch (error) {
    link.close();
    if (error instanceof VmStorageError && (error.code === 'HostConnectionLost' || error.code === 'OperationFailed')) return null; // dying, or deaf
    throw error;
  }
}

function isWorkerOf(line: readonly string[], socket: string): boolean {
  const at = line.indexOf('--socket');
  return at >= 0 && line[at + 1] === socket;
}

/** A worker found by its command line alone runs the same program; its place on disk may have changed by an update. */
function originOf({ command }: WorkerProgram): Origin {
  const expected = basename(whereItIs(command[0]));
  return ownProcesses((name) => name === null || name === expected || BECOMES_A_WORKER.includes(name));
}

function whereItIs(program: string): string {
  try {
    return realpathSync(program);
  } catch {
    return program; // found by PATH, or gone since
  }
}
