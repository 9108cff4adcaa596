/**
 * A guest writes to its console as fast as it likes, and QEMU appends all of it to a file. The host cuts that file (os/bounded-logs.ts), but
 * it looks once a second, and not at all while it is down. So the kernel has the last word: QEMU gets a limit for the length of its files
 * (RLIMIT_FSIZE), at which it loses what the guest prints and goes on; cut, the file takes more.
 *
 * Only files are meant by that limit: not block devices, and disks are the worker's. Memory is a file of its own (memfd), made before the
 * limit is set. Whoever passes it gets SIGXFSZ, which ends a process that does not ignore it; what a shell ignores, its successor ignores.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

/** Some seconds of a flood beyond what is kept. */
export const FILE_MAX_BYTES = 32 * 1024 * 1024;

const run = promisify(execFile);

/** The same program, which a limit does not kill. Its pid and command line are its own: the shell becomes it. */
export function ignoringFileLimit(
  command: string,
  args: readonly string[],
): { readonly command: string; readonly args: readonly string[] } {
  return { command: '/bin/sh', args: ['-c', 'trap "" XFSZ; exec "$0" "$@"', command, ...args] };
}

/**
 * Rejects where there is no prlimit (util-linux) or the process is gone. Asked as the process's own user, where it has one: another user's
 * limits are changed only with CAP_SYS_RESOURCE, which a container does not have.
 */
export async function limitFiles(pid: number, user: number | null = null, maxBytes: number = FILE_MAX_BYTES): Promise<void> {
  const prlimit = ['prlimit', '--pid', String(pid), `--fsize=${maxBytes}:${maxBytes}`];
  const [command, ...args] = user === null ? prlimit : ['setpriv', ...asUser(user), '--', ...prlimit];
  await run(command!, args, { timeout: 5_000 });
}

/** Options of setpriv: the user, the group of the same number, and these further groups alone. */
export const asUser = (user: number, groups: readonly number[] = []): readonly string[] => [
  `--reuid=${user}`,
  `--regid=${user}`,
  groups.length > 0 ? `--groups=${groups.join(',')}` : '--clear-groups',
];
