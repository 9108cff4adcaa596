/**
 * Whether files are there, asked from a process of its own. A file system that hangs keeps whoever asks it, in the kernel, where nothing
 * ends the wait: a thread of the host would be one of four, and would keep a host that is to end (and its lock) from ending.
 *
 * ```text
 *   paths ─► by mount (/proc/self/mountinfo, which asks no file system) ─► stat(1), one process per mount at a time ─► there, or why not
 *                                                                             └── silent beyond the patience ─► 'silent', until it ends
 * ```
 */
import { execFile, type ChildProcess } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { within } from './within.js';

/** A process on a machine that is busy is started and answered within a second. */
const PATIENCE_MS = 3_000;
/** Mounts that hang at a time; of further ones nothing is known. */
const PROCESSES_MAX = 16;
/** Paths for one process: what it is started with has a limit (128 KiB each, 2 MiB together). */
const PATHS_MAX = 256;

/** `missing`: with the system's words. `silent`: its file system does not answer. `unknown`: it could not be asked. */
export type Seen = { readonly is: 'there' | 'silent' | 'unknown' } | { readonly is: 'missing'; readonly why: string };

export type Look = (paths: readonly string[]) => Promise<ReadonlyMap<string, Seen>>;

/** One for the whole host: it knows which mounts are silent, and asks none of them twice. */
export function outsideLook(patienceMs = PATIENCE_MS): Look {
  const visits = new Map<string, { readonly over: Promise<unknown>; readonly sinceMs: number }>();

  async function visit(mount: string, paths: readonly string[]): Promise<ReadonlyMap<string, Seen>> {
    const all = (is: 'silent' | 'unknown'): ReadonlyMap<string, Seen> => new Map(paths.map((path) => [path, { is }]));
    const endMs = performance.now() + patienceMs;
    for (let under = visits.get(mount); under; under = visits.get(mount)) {
      const leftMs = Math.min(endMs, under.sinceMs + patienceMs) - performance.now();
      if ((await within(leftMs, under.over)) === 'late') return all('silent');
    }
    if (visits.size >= PROCESSES_MAX) return all('unknown');
    const asked = statAll(paths);
    const over = asked.then(
      () => undefined,
      () => undefined,
    );
    visits.set(mount, { over, sinceMs: performance.now() });
    void over.then(() => visits.delete(mount));
    if ((await within(endMs - performance.now(), over)) === 'late') return all('silent');
    return asked.catch(() => all('unknown'));
  }

  return async (paths) => {
    const byMount = new Map<string, string[]>();
    const mounts = parseMountPoints(await readFile('/proc/self/mountinfo', 'utf8'));
    for (const path of new Set(paths)) {
      const mount = mountOf(path, mounts);
      byMount.set(mount, [...(byMount.get(mount) ?? []), path]);
    }
    const seen = await Promise.all([...byMount].map(([mount, some]) => visit(mount, some)));
    return new Map(seen.flatMap((one) => [...one]));
  };
}

/** Field 5 of each line, with its octal escapes resolved (proc_pid_mountinfo(5)). */
export function parseMountPoints(text: string): readonly string[] {
  return text.split('\n').flatMap((line) => {
    const point = line.split(' ')[4];
    return point === undefined ? [] : [point.replace(/\\(\d{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8)))];
  });
}

/** By its spelling: a path that leads elsewhere through a link is asked with the mount that the link is on, which costs patience, not truth. */
export function mountOf(path: string, mounts: readonly string[]): string {
  const above = mounts.filter((mount) => mount === '/' || path === mount || path.startsWith(`${mount}/`));
  return above.reduce((longest, mount) => (mount.length > longest.length ? mount : longest), '/');
}

async function statAll(paths: readonly string[]): Promise<ReadonlyMap<string, Seen>> {
  const seen = new Map<string, Seen>();
  for (let at = 0; at < paths.length; at += PATHS_MAX) {
    const some = paths.slice(at, at + PATHS_MAX);
    // With the size: for a name alone stat(1) asks for nothing, and the kernel answers from memory for a file system that hangs.
    const lines = (await output('stat', ['-L', '--printf=%s %n\\0', '--', ...some])).split('\0');
    const there = new Set(lines.map((line) => line.slice(line.indexOf(' ') + 1)));
    const missing = some.filter((path) => !there.has(path));
    for (const path of some) if (there.has(path)) seen.set(path, { is: 'there' });
    if (missing.length === 0) continue;
    // Once more, each alone: which of the lines is about which path cannot be told from names alone.
    const said = (await output('sh', ['-c', 'for path; do stat -L --printf= -- "$path" 2>&1; printf "\\0"; done', 'sh', ...missing])).split(
      '\0',
    );
    for (const [index, path] of missing.entries()) seen.set(path, whatWasSaid(said[index]));
  }
  return seen;
}

/** `stat: cannot statx '/x': No such file or directory`. */
function whatWasSaid(said: string | undefined): Seen {
  const why = said?.trim().split(': ').at(-1);
  if (said === undefined) return { is: 'unknown' };
  return why === undefined || why === '' ? { is: 'there' } : { is: 'missing', why };
}

/** What it wrote, whatever it ended with; rejects when it could not be run. */
function output(program: string, words: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { env: { ...process.env, LC_ALL: 'C' }, maxBuffer: 16 * 1024 * 1024 };
    const child: ChildProcess = execFile(program, [...words], options, (error, stdout) => {
      // A number: it ran, and missed some.
      if (error && typeof error.code !== 'number') reject(new Error(`${program} cannot be run`, { cause: error }));
      else resolve(stdout);
    });
    // One that hangs in the kernel must not keep a host that is to end.
    child.unref();
    for (const stream of [child.stdout, child.stderr]) (stream as { unref?: () => void } | null)?.unref?.();
  });
}
