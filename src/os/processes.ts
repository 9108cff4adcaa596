/**
 * Processes that outlive the one that started them. A process is named by pid *and* start time, so that a reused pid is never taken for
 * it; a zombie counts as gone (its descriptors are closed, its locks are free).
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync, readFileSync, readdirSync } from 'node:fs';
import { type Clock, waitUntil } from './clock.js';
import { hasCode, isRefusedWrite } from './errno.js';

export interface ProcessIdentity {
  readonly pid: number;
  /** Field 22 of /proc/<pid>/stat, clock ticks since boot. */
  readonly startTicks: string;
  /** Kernel boot id: pids and ticks of an earlier boot mean nothing. */
  readonly bootId: string;
}

/** Behind standard input, output and error. */
export const FIRST_INHERITED = 3;

export interface DetachedCommand {
  readonly command: string;
  readonly args: readonly string[];
  /**
   * Standard output and error are appended here: a pipe to the starter would kill the process (SIGPIPE) or stop it once that is gone. Where
   * there is no room for it they are lost: the process is worth more than what it says.
   */
  readonly logFile: string;
  readonly cwd: string;
  /** Open descriptors it inherits, as FIRST_INHERITED and up. They stay the caller's to close. */
  readonly descriptors?: readonly number[];
  readonly environment?: NodeJS.ProcessEnv;
}

export interface StartedProcess {
  readonly identity: ProcessIdentity;
  /** Code or signal, when it ends while we live. */
  readonly exited: Promise<{ code: number | null; signal: string | null }>;
}

/** What keeps a process from going on, if anything: `waits` is one of its threads in an uninterruptible wait, which is for storage. */
export type ProcessCondition = 'runs' | 'stopped' | 'traced' | 'waits' | 'gone';

/** The process operations the host uses; tests inject their own. */
export interface Processes {
  /** Starts in a new session (setsid). Rejects if the program cannot be run. */
  startDetached(command: DetachedCommand): Promise<StartedProcess>;
  isAlive(identity: ProcessIdentity): boolean;
  identify(pid: number): ProcessIdentity | null;
  condition(identity: ProcessIdentity): ProcessCondition;
  /** False if it was gone already. */
  signal(identity: ProcessIdentity, signal: NodeJS.Signals): boolean;
  /** Command line of a live process, [] if it is gone or not ours to read. */
  commandLine(pid: number): readonly string[];
  /** Live processes whose command line satisfies `matches`. Reads all of /proc: for start-up and recovery only. */
  find(matches: (commandLine: readonly string[]) => boolean): readonly ProcessIdentity[];
  /** Processor time used so far, all threads. */
  processorTimeMs(identity: ProcessIdentity): number | null;
}

/** USER_HZ, fixed at 100 in the kernel's user interface on every architecture we run on. */
const TICKS_PER_SECOND = 100;
const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();

export const currentBootId = (): string => bootId;

/** Which start of the system this is: the kernel's boot, and in a container the start of its first process. */
export const currentSystem = (): string => `${bootId}/${readStat(1)?.startTicks ?? '0'}`;

export const systemProcesses: Processes = {
  async startDetached({ command, args, logFile, cwd, descriptors = [], environment }) {
    const log = openLog(logFile);
    try {
      const stdio = ['ignore' as const, log, log, ...descriptors];
      const child = spawn(command, args, { detached: true, cwd, env: environment ?? process.env, stdio });
      const exited = new Promise<{ code: number | null; signal: string | null }>((resolve) => {
        child.once('exit', (code, signal) => resolve({ code, signal }));
      });
      await once(child, 'spawn'); // rejects with the error of exec
      child.on('error', () => {});
      child.unref();
      const identity = systemProcesses.identify(child.pid!);
      // Gone already: an identity that is never alive; `exited` tells the rest.
      return { identity: identity ?? { pid: child.pid!, startTicks: '0', bootId }, exited };
    } finally {
      closeSync(log);
    }
  },

  isAlive(identity) {
    if (identity.bootId !== bootId) return false;
    const stat = readStat(identity.pid);
    return stat !== null && stat.startTicks === identity.startTicks && !isDead(stat.state);
  },

  identify(pid) {
    const stat = readStat(pid);
    return stat === null || isDead(stat.state) ? null : { pid, startTicks: stat.startTicks, bootId };
  },

  condition(identity) {
    if (!systemProcesses.isAlive(identity)) return 'gone';
    const states = threadStates(identity.pid);
    if (states.includes('T')) return 'stopped';
    if (states.includes('t')) return 'traced';
    return states.includes('D') ? 'waits' : 'runs';
  },

  signal(identity, signal) {
    // Between the check and the kill the pid could in theory be reused; a pidfd would close that gap, Node has none.
    if (!systemProcesses.isAlive(identity)) return false;
    try {
      process.kill(identity.pid, signal);
      return true;
    } catch {
      return false;
    }
  },

  commandLine(pid) {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
    } catch {
      return [];
    }
  },

  find(matches) {
    return readdirSync('/proc').flatMap((name) => {
      const pid = /^\d+$/.test(name) ? Number(name) : 0;
      const identity = pid !== 0 && matches(systemProcesses.commandLine(pid)) ? systemProcesses.identify(pid) : null;
      return identity ? [identity] : [];
    });
  },

  processorTimeMs(identity) {
    const stat = readStat(identity.pid);
    return stat === null || stat.startTicks !== identity.startTicks ? null : (stat.ticks * 1000) / TICKS_PER_SECOND;
  },
};

/** When a process was started, by the clock of now: from its ticks since boot. */
export function startedAt(identity: ProcessIdentity, clock: Clock): Date {
  const bootedMs = clock.now().getTime() - Number(process.hrtime.bigint() / 1_000_000n); // hrtime counts from boot (CLOCK_MONOTONIC)
  return new Date(bootedMs + (Number(identity.startTicks) * 1000) / TICKS_PER_SECOND);
}

/** True when it is gone within `timeoutMs`. */
export async function waitForExit(processes: Processes, clock: Clock, identity: ProcessIdentity, timeoutMs: number): Promise<boolean> {
  return (await waitUntil(clock, timeoutMs, 20, () => (processes.isAlive(identity) ? undefined : true))) ?? false;
}

function openLog(file: string): number {
  const append = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND;
  try {
    return openSync(file, append, 0o600);
  } catch (error) {
    // ENOENT: its folder could not be made for the same reason.
    if (!isRefusedWrite(error) && !hasCode(error, 'ENOENT')) throw error;
    return openSync('/dev/null', constants.O_WRONLY);
  }
}

function threadStates(pid: number): readonly string[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((thread) => readStat(`${pid}/task/${thread}`)?.state ?? []);
  } catch {
    return []; // ended meanwhile
  }
}

const isDead = (state: string): boolean => state === 'Z' || state === 'X';

function readStat(process: number | string): { state: string; startTicks: string; ticks: number } | null {
  let text: string;
  try {
    text = readFileSync(`/proc/${process}/stat`, 'latin1');
  } catch {
    return null;
  }
  // The name in parentheses may hold anything, spaces and parentheses too: fields are counted after the last one (proc(5)).
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { state: fields[0] ?? 'X', startTicks: fields[19] ?? '0', ticks: Number(fields[11]) + Number(fields[12]) };
}
