/**
 * How little a QEMU may do. It opens no disk and no file by itself: what it needs it inherits (qemu-launch.ts), so a guest that has taken its
 * QEMU over has what is behind those descriptors and nothing else of this machine.
 *
 * | host                            | user          | root (private-root.ts) | capabilities, no_new_privs | seccomp (-sandbox) |
 * | ------------------------------- | ------------- | ---------------------- | -------------------------- | ------------------ |
 * | root                            | one of the VM | its own                | none, set                  | yes                |
 * | root without CAP_SYS_ADMIN      | one of the VM | the host's             | none, set                  | yes                |
 * | an ordinary user                | the host's    | the host's             | the host's, set by seccomp | yes                |
 *
 * Seccomp is QEMU's own, and only there if it was built with it.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { asUser, ignoringFileLimit } from './file-limit.js';
import { PRIVATE_ROOT_SCRIPT } from './private-root.js';

const run = promisify(execFile);

/** Which of QEMU's system calls are refused: `-sandbox` of every QEMU that has it. */
export const SANDBOX = 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny';

/** Numbers of users that run one guest each; a group of the same number is theirs alone, too. */
export interface GuestUsers {
  /** The one that a VM's QEMU has, or null: never started, or QEMU runs as the host's own user. */
  of(vmId: string): number | null;
  /** The same, given now if it has none. Null: the host cannot give processes another user. */
  assign(vmId: string): Promise<number | null>;
  /** Whether a number is one that such a user may have. */
  includes(uid: number): boolean;
}

export interface Confinement {
  /** User and group, or null: the host's. */
  readonly user: number | null;
  /** Further groups of it. */
  readonly groups: readonly number[];
  /** What is in a root of its own, or null: the host's root. */
  readonly places: readonly string[] | null;
}

const NAMESPACES = ['--mount', '--net', '--ipc', '--uts'];

/** The program so confined; each step becomes the next, so the pid is the program's. It must be started in the VM's run folder. */
export function confined(
  program: string,
  args: readonly string[],
  { user, groups, places }: Confinement,
): { readonly command: string; readonly args: readonly string[] } {
  const alone = user === null ? [] : ['setpriv', ...asUser(user, groups), '--bounding-set=-all', '--inh-caps=-all', '--no-new-privs', '--'];
  const root =
    places === null ? [] : ['unshare', ...NAMESPACES, '--', '/bin/sh', '-c', PRIVATE_ROOT_SCRIPT, 'private-root', ...places, '--'];
  const [command, ...rest] = [...root, ...alone, program, ...args];
  return ignoringFileLimit(command!, rest);
}

/** Why a process can have no root of its own here, or null. Asked by doing it: container, seccomp and LSM each may refuse. */
export async function whyNoPrivateRoot(folder: string): Promise<string | null> {
  try {
    await run(
      'unshare',
      [...NAMESPACES, '--', '/bin/sh', '-c', PRIVATE_ROOT_SCRIPT, 'private-root', '/usr', '/bin', '/lib', '/lib64', '--', 'true'],
      {
        cwd: folder,
        timeout: 10_000,
      },
    );
    return null;
  } catch (error) {
    const { stderr, message } = error as { readonly stderr?: string; readonly message: string };
    return (stderr?.trim() || message).split('\n')[0]!;
  }
}
