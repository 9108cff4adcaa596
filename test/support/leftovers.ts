/**
 * What a test, the demo or a move must not leave behind: processes, users, sockets, loop devices, mounts, temporary files.
 *
 * Processes are ours when their environment holds the run's marker (VMSTORAGE_TEST=<id>): children inherit it, daemons too.
 * Everything else is ours when it lies in the run's own temporary folder, which all its processes get as TMPDIR.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { hasCode } from '../../src/os/errno.js';

export const MARKER = 'VMSTORAGE_TEST';

export interface Leftover {
  readonly kind: 'process' | 'user' | 'socket' | 'loop device' | 'mount' | 'file';
  readonly what: string;
  /** Of a process. */
  readonly pid?: number;
}

export interface Run {
  /** Value of the marker, unique to the run. */
  readonly id: string;
  /** Another environment variable than MARKER that tells whose a process is. */
  readonly variable?: string;
  /** The run's temporary folder, or null when only processes are looked for. */
  readonly folder: string | null;
  /** Processes that belong to the run and may be there: the one that looks. */
  readonly except?: readonly number[];
}

/** What others leave in TMPDIR when they are killed, by name, and why it is not ours to answer for. */
const notOurs: readonly { readonly name: RegExp; readonly why: string }[] = [
  { name: /^(clr-debug-pipe|dotnet-diagnostic)-/, why: ".NET's diagnostic sockets stay when pwsh is killed, which some tests do" },
  { name: /^CoreFxPipe_/, why: "a named pipe of .NET's, for the same reason" },
  { name: /^\.dotnet$|^node-compile-cache$|^v8-compile-cache/, why: 'caches of the runtimes' },
];

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return ''; // the process ended meanwhile, or is another user's: not ours
  }
}
function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // gone, or not there on this machine
  }
}

/** Pids of live processes whose environment holds `variable=id`. A zombie has no environment any more and is not counted. */
export function markedProcesses(id: string, except: readonly number[] = [], variable = MARKER): number[] {
  const wanted = `${variable}=${id}`;
  return namesIn('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => !except.includes(pid) && readOrEmpty(`/proc/${pid}/environ`).split('\0').includes(wanted));
}

/**
 * From /proc: not every machine has pgrep. Null when it does not say: not even the parent is in it, or there is a process whose parent it
 * does not tell. Nothing follows from what was not seen.
 */
export function childrenOf(parent: number, proc = '/proc'): number[] | null {
  const children: number[] = [];
  let complete = false;
  for (const name of namesIn(proc).filter((entry) => /^\d+$/.test(entry))) {
    let stat: string;
    try {
      stat = readFileSync(join(proc, name, 'stat'), 'latin1');
    } catch (error) {
      if (hasCode(error, 'ENOENT', 'ESRCH')) continue; // it ended meanwhile
      return null;
    }
    if (Number(name) === parent) complete = true;
    if (/\) \S (\d+) /.exec(stat)?.[1] === String(parent)) children.push(Number(name));
  }
  return complete ? children : null;
}

export function findLeftovers({ id, folder, except = [], variable }: Run): Leftover[] {
  const found: Leftover[] = markedProcesses(id, except, variable).map((pid) => ({
    kind: 'process',
    pid,
    what: `${pid}: ${readOrEmpty(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim().slice(0, 200)}`,
  }));
  for (const line of readOrEmpty('/etc/passwd').split('\n')) {
    const [name, , , , comment] = line.split(':');
    if (name && comment === id) found.push({ kind: 'user', what: name });
  }
  if (folder === null) return found;
  const inside = (path: string): boolean => path === folder || path.startsWith(`${folder}/`);
  for (const line of readOrEmpty('/proc/net/unix').split('\n').slice(1)) {
    const path = line.trim().split(/\s+/)[7];
    if (path !== undefined && inside(path) && !notOurs.some(({ name }) => name.test(path.slice(folder.length + 1))))
      found.push({ kind: 'socket', what: path });
  }
  for (const device of namesIn('/sys/block').filter((name) => name.startsWith('loop'))) {
    const file = readOrEmpty(`/sys/block/${device}/loop/backing_file`).trim();
    if (inside(file.replace(/ \(deleted\)$/, ''))) found.push({ kind: 'loop device', what: `/dev/${device} on ${file}` });
  }
  for (const line of readOrEmpty('/proc/self/mounts').split('\n')) {
    const place = line.split(' ')[1]?.replaceAll('\\040', ' ');
    if (place !== undefined && inside(place) && place !== folder) found.push({ kind: 'mount', what: place });
  }
  for (const name of namesIn(folder))
    if (!notOurs.some((other) => other.name.test(name))) found.push({ kind: 'file', what: join(folder, name) });
  return found;
}

/** Processes end and files go a moment after a test did: asks again for up to `limitMs` before it says what is left. */
export async function leftoversAfter(run: Run, limitMs = 5000): Promise<Leftover[]> {
  const limit = Date.now() + limitMs;
  for (;;) {
    const found = findLeftovers(run);
    if (found.length === 0 || Date.now() > limit) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Kills what `findLeftovers` found to be processes of the run, each by its pid, and takes its users away. */
export function killLeftovers(found: readonly Leftover[]): void {
  for (const { kind, what, pid } of found) {
    if (kind === 'user') spawnSync('userdel', ['--force', what]);
    if (pid === undefined) continue;
    try {
      process.kill(pid, 'SIGKILL');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }
}

/** Open files of this process below `folder`: a handle that a closed object should have closed. */
export function openFilesBelow(folder: string): string[] {
  return namesIn('/proc/self/fd')
    .map((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`);
      } catch {
        return ''; // the descriptor of this very listing
      }
    })
    .filter((path) => path.startsWith(`${folder}/`) && statSync(path, { throwIfNoEntry: false }) !== undefined);
}
