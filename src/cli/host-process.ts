/** Starting, finding and ending the host process. It is started in its own session, so that a Ctrl+C of the starter does not reach it. */
import { spawn } from 'node:child_process';
import { closeSync, constants, existsSync, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, isAbsolute, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { hostAddress } from '../client/address.js';
import { ClientConnection, type Greeting } from '../client/connection.js';
import { VmStorageError } from '../model/errors.js';
import { systemClock } from '../os/clock.js';
import { isRefusedWrite, reasonOf } from '../os/errno.js';
import { withFileThreads } from '../os/file-threads.js';
import { makeOwnFolder } from '../os/own-folder.js';
import { type ProcessIdentity, systemProcesses, waitForExit } from '../os/processes.js';

export const hostProgram = fileURLToPath(new URL('../host/main.js', import.meta.url));

/** A host that has workers and VMs to find again needs a moment; more than this is a fault. */
const startTimeoutMs = 15_000;
const stopTimeoutMs = 30_000;
const pollMs = 50;
/** Of the log of a host that did not come up; the end says why. */
const logTailChars = 2000;

export async function askHost(address = hostAddress()): Promise<Greeting> {
  return (await findHost(address)).greeting;
}

/** `identity`: of the process that listens, by the kernel's word. It was alive after it was looked at: it answered. */
async function findHost(address: string): Promise<{ readonly greeting: Greeting; readonly identity: ProcessIdentity | null }> {
  const connection = await ClientConnection.open(address);
  try {
    const identity = systemProcesses.identify(connection.server.pid);
    return { greeting: await connection.greet('cli'), identity };
  } finally {
    connection.close();
  }
}

function isAbsent(error: unknown): boolean {
  return error instanceof VmStorageError && error.code === 'HostNotReachable';
}

/** Starts the host unless it answers already; resolves when it does. */
export async function startHost(): Promise<{ readonly started: boolean; readonly greeting: Greeting }> {
  const address = hostAddress();
  try {
    return { started: false, greeting: await askHost(address) };
  } catch (error) {
    if (!isAbsent(error)) throw error;
  }
  const folder = dirname(address);
  const logFile = join(folder, 'host.log');
  const log = await openLog(folder, logFile, address);
  let ended: string | undefined;
  const child = spawn(process.execPath, [hostProgram], { detached: true, env: withFileThreads(process.env), stdio: ['ignore', log, log] });
  closeSync(log);
  child.once('error', (error) => (ended = error.message));
  child.once('exit', (code, signal) => (ended = signal === null ? `exit code ${code}` : signal));
  child.unref();
  const deadline = performance.now() + startTimeoutMs;
  for (;;) {
    try {
      // Another starter may have been faster and this child have ended for it: what counts is that somebody answers.
      return { started: true, greeting: await askHost(address) };
    } catch (error) {
      if (!isAbsent(error) && !(error instanceof VmStorageError && error.code === 'HostConnectionLost')) throw error;
      if (ended !== undefined || performance.now() > deadline) {
        const tail = (await readFile(logFile, 'utf8').catch(() => '')).slice(-logTailChars).trim();
        const why = ended === undefined ? `it does not answer after ${startTimeoutMs / 1000} s` : `it ended (${ended})`;
        throw new VmStorageError(
          'HostNotReachable',
          `The VM storage host could not be started: ${why}. Its log is ${logFile}${tail === '' ? '.' : `:\n${tail}`}`,
          {
            target: address,
          },
        );
      }
    }
    await delay(pollMs);
  }
}

/** Waits for a host that somebody else starts; rejects with why it cannot be reached. */
export async function awaitHost(limitMs: number, address = hostAddress()): Promise<Greeting> {
  const deadline = performance.now() + limitMs;
  for (;;) {
    try {
      return await askHost(address);
    } catch (error) {
      const isComing = isAbsent(error) || (error instanceof VmStorageError && error.code === 'HostConnectionLost');
      if (!isComing || performance.now() > deadline) throw error;
    }
    await delay(pollMs);
  }
}

async function openLog(folder: string, logFile: string, address: string): Promise<number> {
  try {
    // The host would refuse it as well, but a folder would be left behind.
    if (!isAbsolute(folder)) throw new Error('the path is not absolute');
    await makeOwnFolder(folder, null);
    return openSync(logFile, constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND | constants.O_NOFOLLOW, 0o600);
  } catch (cause) {
    if (cause instanceof VmStorageError) throw cause;
    if (isRefusedWrite(cause) && existsSync(folder)) return openSync('/dev/null', 'w'); // without room for a log the host is all the more needed
    throw new VmStorageError(
      'HostNotReachable',
      `The VM storage host could not be started: its folder '${folder}' cannot be used: ${reasonOf(cause)}. Set VMSTORAGE_HOME to another one.`,
      { target: address, cause },
    );
  }
}

/** Before a cmdlet: starts an absent host, unless VMSTORAGE_NOSTART is set or a socket was named (whose home we do not know). */
export async function ensureHost(environment: NodeJS.ProcessEnv = process.env): Promise<void> {
  if (environment['VMSTORAGE_NOSTART'] || environment['VMSTORAGE_HOST']) return;
  try {
    await askHost();
  } catch (error) {
    if (!isAbsent(error)) throw error;
    await startHost();
  }
}

/** Asks the host to end (SIGTERM; workers and guests stay) and waits until it has. False when there was none. */
export async function stopHost(): Promise<boolean> {
  const address = hostAddress();
  let identity: ProcessIdentity | null;
  try {
    ({ identity } = await findHost(address));
  } catch (error) {
    if (isAbsent(error)) return false;
    throw error;
  }
  if (!identity) return true; // it ended by itself, having answered
  try {
    systemProcesses.signal(identity, 'SIGTERM');
  } catch (cause) {
    throw new VmStorageError(
      'AccessDenied',
      `The VM storage host at '${address}' is process ${identity.pid} of another user, which you may not end. Run as that user or as root.`,
      { target: address, cause },
    );
  }
  if (await waitForExit(systemProcesses, systemClock, identity, stopTimeoutMs)) return true;
  throw new VmStorageError(
    'OperationFailed',
    `The VM storage host (process ${identity.pid}) did not end within ${stopTimeoutMs / 1000} s.`,
  );
}
