/**
 * File systems of a test's own, for root: small, read-only, vanishing, or hanging. Each takes itself away again.
 *
 *   tmpfs                                          a size that is reached
 *   ext4 ─ loop device ─ FUSE ─ qemu-storage-daemon    SIGSTOP of the daemon: every request hangs until SIGCONT;
 *                                                  its blkdebug driver: a sector that cannot be written
 */
import { execFile, execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, readFileSync } from 'node:fs';
import { mkdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { requires } from './requires.js';
import { until } from './until.js';

const run = promisify(execFile);

/** Whether this machine lets us have FUSE and loop devices; says so when not. */
export function lacksHangingDisks(): boolean {
  const usable = (path: string): boolean => {
    try {
      accessSync(path, constants.R_OK | constants.W_OK);
      return true;
    } catch {
      return false;
    }
  };
  return !requires(
    'FUSE and loop devices',
    usable('/dev/fuse') && usable('/dev/loop-control'),
    '/dev/fuse or /dev/loop-control cannot be used',
  );
}

export interface Mount extends AsyncDisposable {
  readonly path: string;
}

async function unmount(path: string): Promise<void> {
  // Whoever has just closed its files may still be in the kernel.
  await until(`${path} can be unmounted`, async () => {
    if (!isMounted(path)) return true;
    return run('umount', [path]).then(
      () => undefined,
      () => undefined,
    );
  });
}

export function isMounted(path: string): boolean {
  return readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .some((line) => line.split(' ')[1] === path);
}

export async function mountTmpfs(path: string, options: string): Promise<Mount> {
  await mkdir(path, { recursive: true });
  await run('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', path]);
  return { path, [Symbol.asyncDispose]: () => unmount(path) };
}

export async function loopDevice(file: string): Promise<Mount> {
  const { stdout } = await run('losetup', ['--find', '--show', file]);
  const path = stdout.trim();
  return { path, [Symbol.asyncDispose]: async () => void (await run('losetup', ['--detach', path])) };
}

/** An ext4 of `sizeBytes` whose bottom is a process. */
export class DaemonDisk implements Mount {
  readonly path: string;
  private constructor(
    private readonly daemon: ChildProcess,
    private readonly exported: string,
    private readonly loop: Mount,
    path: string,
  ) {
    this.path = path;
  }

  static async mount(folder: string, sizeBytes: number, brokenSectors: readonly number[] = []): Promise<DaemonDisk> {
    const [back, exported, path] = [join(folder, 'back.img'), join(folder, 'exported.img'), join(folder, 'disk')];
    await mkdir(path, { recursive: true });
    await writeFile(back, '');
    await truncate(back, sizeBytes);
    await run('mkfs.ext4', ['-q', '-F', '-E', 'lazy_itable_init=0,lazy_journal_init=0,nodiscard', back]);
    await writeFile(exported, '');
    const errors = brokenSectors.map((sector) => ({ event: 'none', iotype: 'write', errno: 5, sector, once: false, immediately: false }));
    const blockdev = {
      driver: 'blkdebug',
      'node-name': 'disk',
      image: { driver: 'file', filename: back },
      ...(errors.length > 0 && { 'inject-error': errors }),
    };
    const daemon = spawn(
      'qemu-storage-daemon',
      [...['--blockdev', JSON.stringify(blockdev)], ...['--export', `type=fuse,id=disk,node-name=disk,mountpoint=${exported},writable=on`]],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    );
    // A test process that ends early must not leave a mount that hangs.
    process.once('exit', () => daemon.kill('SIGKILL'));
    await until('the FUSE export', () => {
      if (daemon.exitCode !== null) throw new Error(`qemu-storage-daemon ended with ${daemon.exitCode}`);
      return isMounted(exported) || undefined;
    });
    const loop = await loopDevice(exported);
    await run('mount', [loop.path, path]);
    return new DaemonDisk(daemon, exported, loop, path);
  }

  get daemonPid(): number {
    return this.daemon.pid!;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.daemon.kill('SIGCONT');
    await unmount(this.path);
    await this.loop[Symbol.asyncDispose]();
    const exit = once(this.daemon, 'exit');
    this.daemon.kill('SIGTERM');
    await exit;
    if (isMounted(this.exported)) execFileSync('umount', ['-l', this.exported]);
  }
}
