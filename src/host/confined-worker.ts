/**
 * How little a worker may do. It opens the disks of its VM by their names, and what a move makes, so as root it needs root's rights over files;
 * it needs no others. What it refuses itself besides: native/engine/src/worker/refused_calls.rs.
 *
 * | worker    | capabilities                                             | network, IPC   | seccomp |
 * | --------- | -------------------------------------------------------- | -------------- | ------- |
 * | of a VM   | over files (owner, mode, access, attributes), memory     | none of others | yes     |
 * | tool      | the same, and to look who has a file open (/proc)        | none of others | yes     |
 * | of a user | none                                                     | the user's     | yes     |
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Owner and mode of what a move makes; access to files of any owner; attributes of `security.*`; memory of rings and the reserve of a full disk. */
const OVER_FILES = ['chown', 'dac_override', 'dac_read_search', 'fowner', 'fsetid', 'setfcap', 'ipc_lock', 'sys_resource'];
/** To read /proc/<pid>/fd of others. */
const LOOK_AT_OTHERS = ['sys_ptrace'];
const NAMESPACES = ['--net', '--ipc'];

/** Programs that are a worker in a moment. */
export const BECOMES_A_WORKER: readonly string[] = ['unshare', 'setpriv'];

export type Command = readonly [string, ...string[]];

/** The command that starts a worker; each step becomes the next, so the pid is the worker's. */
export type ConfineWorker = (command: Command, tool: boolean) => Promise<Command>;

/** Not root: as it is. What this system cannot do is asked once, and told. */
export function confineWorkers(isRoot: boolean, warn: (reason: string) => void): ConfineWorker {
  if (!isRoot) return async (command) => command;
  let possible: Promise<readonly string[]> | null = null;
  return async (command, tool) => {
    possible ??= prefix(warn);
    const first = await possible;
    const rights = [...OVER_FILES, ...(tool ? LOOK_AT_OTHERS : [])].map((name) => `+${name}`).join(',');
    const alone = ['setpriv', `--bounding-set=-all,${rights}`, '--inh-caps=-all', '--no-new-privs', '--'];
    const [program, ...rest] = [...first, ...alone, ...command];
    return [program!, ...rest];
  };
}

async function prefix(warn: (reason: string) => void): Promise<readonly string[]> {
  try {
    await run('unshare', [...NAMESPACES, '--', 'true'], { timeout: 10_000 });
    return ['unshare', ...NAMESPACES, '--'];
  } catch (error) {
    const { stderr, message } = error as { readonly stderr?: string; readonly message: string };
    warn((stderr?.trim() || message).split('\n')[0]!);
    return [];
  }
}
