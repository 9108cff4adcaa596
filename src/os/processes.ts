/**
 * Processes that outlive the one that started them. A process is named by pid *and* start time, so that a reused pid is never taken for
 * it; a zombie counts as gone (its descriptors are closed, its locks are free).
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync, readFileSync, readdirSync, readlinkSync, statSync } from 'node:fs';
import { constants as system } from 'node:os';
import { basename } from 'node:path';
import { native } from '../native/binding.js';
import { type Clock, waitUntil } from './clock.js';
import { hasCode, isRefusedWrite } from './errno.js';
import { ownUid } from './own-folder.js';

export interface ProcessIdentity {
  readonly pid: number;
  /** Field 22 of /proc/<pid>/stat, clock ticks since boot. */
  readonly startTicks: string;
  /** Kernel boot id: pids and ticks of an earlier boot mean nothing. */
  readonly bootId: string;
}

/**
 * Of which processes one is looked for. Anybody may start a process with any command line, so that alone says nothing: all three of its user
 * ids (real, effective, saved: a setuid program has its caller's words) must be one that is expected, and so must its executable.
 */
export interface Origin {
  isUser(uid: number): boolean;
  /** File name of its executable, or null where the kernel does not tell: then its user has to do. */
  isProgram(name: string | null): boolean;
}

/** Of our own user, whatever the program. */
export const ownProcesses = (isProgram: Origin['isProgram'] = () => true): Origin => ({
  isUser: (uid) => uid === ownUid(),
  isProgram,
});

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
  /** False if it was gone already; a number that was given to another process is never signalled. Throws when it may not be signalled. */
  signal(identity: ProcessIdentity, signal: NodeJS.Signals): boolean;
  /** Command line of a live process, [] if it is gone or not ours to read. */
  commandLine(pid: number): readonly string[];
  /** The user a live process runs as (its effective user), or null if it is gone. */
  userOf(pid: number): number | null;
  /** Whether a process works in a folder, by identity, not by name; null when the kernel does not tell us. */
  worksIn(pid: number, folder: string): boolean | null;
  /** Whether there is a live process of a user. Reads all of /proc. */
  hasUser(uid: number): boolean;
  /** Live processes of `origin` (default: our own user's) whose command line satisfies `matches`. Reads all of /proc: for start-up and recovery only. */
  find(matches: (commandLine: readonly string[]) => boolean, origin?: Origin): readonly ProcessIdentity[];
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
    return systemProcesses.isAlive(identity) && native().signalProcess(identity.pid, identity.startTicks, system.signals[signal]);
  },

  commandLine(pid) {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
    } catch {
      return [];
    }
  },

  userOf(pid) {
    // Not the owner of /proc/<pid>: that is root's for a process that may not be dumped.
    const uid = userIds(pid)[1];
    return uid === undefined ? null : uid;
  },

  worksIn(pid, folder) {
    try {
      const [of, wanted] = [statSync(`/proc/${pid}/cwd`, { bigint: true }), statSync(folder, { bigint: true })];
      return of.dev === wanted.dev && of.ino === wanted.ino;
    } catch {
      return null;
    }
  },

  hasUser(uid) {
    return readdirSync('/proc').some((name) => /^\d+$/.test(name) && userIds(Number(name)).includes(uid));
  },

  find(matches, origin = ownProcesses()) {
    return readdirSync('/proc').flatMap((name) => {
      const pid = /^\d+$/.test(name) ? Number(name) : 0;
      if (pid === 0 || !matches(systemProcesses.commandLine(pid))) return [];
      const identity = systemProcesses.identify(pid);
      if (!identity || !isOf(origin, pid) || !origin.isProgram(programOf(pid))) return [];
      // All of it was said of one process.
      return matches(systemProcesses.commandLine(pid)) && systemProcesses.isAlive(identity) ? [identity] : [];
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

/** For appending; where there is no room for it, /dev/null. */
export function openLog(file: string): number {
  const append = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND | constants.O_NOFOLLOW;
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

function isOf(origin: Origin, pid: number): boolean {
  const ids = userIds(pid);
  return ids.length > 0 && ids.every((uid) => uid === ids[0] && origin.isUser(uid));
}

/** Real, effective, saved and of the file system; none when it is gone. */
function userIds(pid: number): readonly number[] {
  try {
    const line = /^Uid:\s+(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1];
    return line === undefined ? [] : line.trim().split(/\s+/).map(Number);
  } catch {
    return [];
  }
}

/** An executable that was replaced by an update since is called "<name> (deleted)". */
function programOf(pid: number): string | null {
  try {
    return basename(readlinkSync(`/proc/${pid}/exe`).replace(/ \(deleted\)$/, ''));
  } catch {
    return null;
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
