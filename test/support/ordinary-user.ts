/**
 * A local user without rights, for the tests of what such a one can do beside a host that runs as root. Made for a test, by root, and
 * taken away with it: `await using mallory = await OrdinaryUser.create()`.
 */
import { execFile, execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { randomBytes } from 'node:crypto';
import { chownSync, chmodSync, mkdirSync } from 'node:fs';
import { promisify } from 'node:util';
import { lacks } from './requires.js';
import { MARKER } from './leftovers.js';

const run = promisify(execFile);
/** Every user a test makes starts with this; the comment of its entry is the run's marker, by which the leak check knows whose it is. */
export const USER_PREFIX = 'vmstorage-test-';

/** True where no user can be made: not root, or no useradd. */
export const lacksOrdinaryUser = (): boolean => lacks('root', 'useradd', 'userdel', 'setpriv', 'perl');

export interface Said {
  readonly code: number | null;
  readonly output: string;
}

export class OrdinaryUser implements AsyncDisposable {
  readonly #children = new Set<ChildProcess>();
  readonly #atExit = (): void => {
    for (const child of this.#children) child.kill('SIGKILL');
    execFileSync('userdel', [this.name], { stdio: 'ignore' });
  };

  private constructor(
    readonly name: string,
    readonly uid: number,
    readonly gid: number,
  ) {
    process.once('exit', this.#atExit);
  }

  static async create(): Promise<OrdinaryUser> {
    const name = USER_PREFIX + randomBytes(4).toString('hex');
    const comment = ['--comment', process.env[MARKER] ?? ''];
    await run('useradd', ['--no-create-home', '--no-log-init', '--user-group', '--shell', '/bin/sh', ...comment, name]);
    const id = async (which: string): Promise<number> => Number((await run('id', [which, name])).stdout);
    return new OrdinaryUser(name, await id('-u'), await id('-g'));
  }

  /** Makes a folder that is this user's, for nobody else to write to. */
  own(path: string, mode = 0o755): string {
    mkdirSync(path, { recursive: true });
    chownSync(path, this.uid, this.gid);
    chmodSync(path, mode);
    return path;
  }

  /** Starts a program with this user's rights and no others: no group of root's, no capability (execve as another user drops them). */
  start(command: string, args: readonly string[]): ChildProcess {
    const child = spawn('setpriv', [`--reuid=${this.uid}`, `--regid=${this.gid}`, '--clear-groups', '--', command, ...args], {
      cwd: '/',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#children.add(child);
    child.once('exit', () => this.#children.delete(child));
    return child;
  }

  /** Runs a script of the shell to its end. */
  async sh(script: string, ...args: readonly string[]): Promise<Said> {
    const child = this.start('/bin/sh', ['-c', script, 'sh', ...args]);
    let output = '';
    for (const stream of [child.stdout!, child.stderr!]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
    const [code] = (await once(child, 'close')) as [number | null];
    return { code, output };
  }

  /** Exchanges two names, atomically, over and over, until it is disposed of: renameat2(2) with RENAME_EXCHANGE. */
  exchange(one: string, other: string): AsyncDisposable {
    const child = this.start('perl', ['-e', 'for (;;) { syscall(316, -100, $ARGV[0], -100, $ARGV[1], 2) }', one, other]);
    return { [Symbol.asyncDispose]: () => end(child) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    process.off('exit', this.#atExit);
    await Promise.all([...this.#children].map(end));
    await run('userdel', [this.name]);
  }
}

async function end(child: ChildProcess): Promise<void> {
  const exit = once(child, 'exit');
  child.kill('SIGKILL');
  await exit;
}
