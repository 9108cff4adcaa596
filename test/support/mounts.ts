/**
 * File systems of a test's own, for root: small, read-only, vanishing, or hanging. Each takes itself away again.
 *
 *   tmpfs                                          a size that is reached
 *   ext4, xfs, btrfs ─ loop device ─ FUSE ─ qemu-storage-daemon    SIGSTOP of the daemon: every request hangs until SIGCONT;
 *                                                  its blkdebug driver: a sector that cannot be written
 *                                        ─ NBD ─ nbdkit with its delay filter: every write takes so long
 */
import { execFile, execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
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

/** One that the kernel makes up. */
export async function mountKernelFileSystem(type: 'cgroup2', path: string): Promise<Mount> {
  await mkdir(path, { recursive: true });
  await run('mount', ['-t', type, type, path]);
  return { path, [Symbol.asyncDispose]: () => unmount(path) };
}

export async function loopDevice(file: string): Promise<Mount> {
  const { stdout } = await run('losetup', ['--find', '--show', file]);
  const path = stdout.trim();
  return { path, [Symbol.asyncDispose]: async () => void (await run('losetup', ['--detach', path])) };
}

export type FileSystemKind = 'ext4' | 'xfs' | 'btrfs';

async function makeFileSystem(kind: FileSystemKind, file: string, sizeBytes: number): Promise<void> {
  await writeFile(file, '');
  await truncate(file, sizeBytes);
  if (kind === 'ext4') await run('mkfs.ext4', ['-q', '-F', '-E', 'lazy_itable_init=0,lazy_journal_init=0,nodiscard', file]);
  else await run(`mkfs.${kind}`, ['-q', '-f', file]);
}

/** An ext4 that can be taken out under its users, and put back. */
export class LooseDisk implements Mount {
  private constructor(
    readonly path: string,
    private readonly loop: Mount,
  ) {}

  static async mount(folder: string, sizeBytes: number): Promise<LooseDisk> {
    const path = join(folder, 'disk');
    await mkdir(path, { recursive: true });
    await makeFileSystem('ext4', join(folder, 'loose.img'), sizeBytes);
    const disk = new LooseDisk(path, await loopDevice(join(folder, 'loose.img')));
    await disk.comeBack();
    return disk;
  }

  /** Its files stay usable for who has them open; their names are gone. */
  async vanish(): Promise<void> {
    await run('umount', ['--lazy', this.path]);
  }

  async comeBack(): Promise<void> {
    await run('mount', [this.loop.path, this.path]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await unmount(this.path);
    await this.loop[Symbol.asyncDispose]();
  }
}

/** A file whose file system is a process: while that stands still (SIGSTOP), whoever asks for the file waits. */
export class HangingFile implements AsyncDisposable {
  private constructor(
    private readonly daemon: ChildProcess,
    readonly path: string,
  ) {}

  static async mount(folder: string, sizeBytes: number): Promise<HangingFile> {
    const [back, path] = [join(folder, 'back.img'), join(folder, 'hanging.img')];
    await mkdir(folder, { recursive: true });
    for (const file of [back, path]) await writeFile(file, '');
    await truncate(back, sizeBytes);
    return new HangingFile(await exportByFuse({ driver: 'file', filename: back, 'node-name': 'disk' }, path), path);
  }

  get daemonPid(): number {
    return this.daemon.pid!;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.daemon.kill('SIGCONT');
    await endChild(this.daemon);
    if (isMounted(this.path)) execFileSync('umount', ['-l', this.path]);
  }
}

/** The node "disk" over a file, by a qemu-storage-daemon. */
async function exportByFuse(blockdev: object, exported: string): Promise<ChildProcess> {
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
  return daemon;
}

export interface DaemonDiskOptions {
  /** Default: ext4. */
  readonly kind?: FileSystemKind;
  readonly brokenSectors?: readonly number[];
  /** What each write of the device takes; up to 16 at a time. */
  readonly writeMs?: number;
}

/** nbdkit over `file`: writes take `writeMs`. */
async function serveSlowly(file: string, socket: string, writeMs: number): Promise<ChildProcess> {
  const words = ['-f', '-U', socket, '--filter=delay', 'file', file, `delay-write=${writeMs}ms`];
  const nbdkit = spawn('nbdkit', words, { stdio: ['ignore', 'ignore', 'inherit'] });
  process.once('exit', () => nbdkit.kill('SIGKILL'));
  await until('nbdkit listens', () => {
    if (nbdkit.exitCode !== null) throw new Error(`nbdkit ended with ${nbdkit.exitCode}`);
    return existsSync(socket) || undefined;
  });
  return nbdkit;
}

async function endChild(child: ChildProcess): Promise<void> {
  const exit = once(child, 'exit');
  child.kill('SIGTERM');
  await exit;
}

/** A file system of `sizeBytes` whose bottom is a process. */
export class DaemonDisk implements Mount {
  readonly path: string;
  private constructor(
    private readonly daemon: ChildProcess,
    private readonly slow: ChildProcess | null,
    private readonly exported: string,
    private readonly loop: Mount,
    path: string,
  ) {
    this.path = path;
  }

  static async mount(
    folder: string,
    sizeBytes: number,
    { kind = 'ext4', brokenSectors = [], writeMs = 0 }: DaemonDiskOptions = {},
  ): Promise<DaemonDisk> {
    const [back, exported, path] = [join(folder, 'back.img'), join(folder, 'exported.img'), join(folder, 'disk')];
    await mkdir(path, { recursive: true });
    await makeFileSystem(kind, back, sizeBytes);
    await writeFile(exported, '');
    const socket = join(folder, 'slow.sock');
    const slow = writeMs > 0 ? await serveSlowly(back, socket, writeMs) : null;
    const errors = brokenSectors.map((sector) => ({ event: 'none', iotype: 'write', errno: 5, sector, once: false, immediately: false }));
    const blockdev = {
      driver: 'blkdebug',
      'node-name': 'disk',
      image: slow ? { driver: 'nbd', server: { type: 'unix', path: socket } } : { driver: 'file', filename: back },
      ...(errors.length > 0 && { 'inject-error': errors }),
    };
    const daemon = await exportByFuse(blockdev, exported);
    const loop = await loopDevice(exported);
    await run('mount', [loop.path, path]);
    return new DaemonDisk(daemon, slow, exported, loop, path);
  }

  get daemonPid(): number {
    return this.daemon.pid!;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.daemon.kill('SIGCONT');
    await unmount(this.path);
    await this.loop[Symbol.asyncDispose]();
    await endChild(this.daemon);
    if (this.slow) await endChild(this.slow);
    if (isMounted(this.exported)) execFileSync('umount', ['-l', this.exported]);
  }
}
