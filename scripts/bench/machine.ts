/** The machine a measurement is of, and how it was made: without it a figure means nothing. */
import { execFile } from 'node:child_process';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface Machine {
  readonly processor: string;
  readonly processors: number;
  readonly memoryGiB: number;
  readonly kernel: string;
  /** Of the folder measured in. */
  readonly fileSystem: string;
  readonly node: string;
  readonly qemu: string;
  /** Our reactor: io_uring or threads. */
  readonly io: string;
  /** Load average of the last minute when the run began: above the number of processors, single figures say little. */
  readonly load: number;
  readonly rounds: number;
  readonly sizeMiB: number;
  /** Length of one measurement of a guest. */
  readonly windowSeconds: number;
}

export type Settings = Pick<Machine, 'rounds' | 'sizeMiB' | 'windowSeconds'>;

export async function describeMachine(folder: string, io: string, load: number, settings: Settings): Promise<Machine> {
  const { stdout } = await run('qemu-img', ['--version']);
  return {
    processor: cpus()[0]?.model.trim() ?? 'unknown processor',
    processors: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: `Linux ${release()}`,
    fileSystem: await fileSystemOf(folder),
    node: process.versions.node,
    qemu: /version (\S+)/.exec(stdout)?.[1] ?? 'unknown',
    io,
    load,
    ...settings,
  };
}

export const loadNow = (): number => Math.round((loadavg()[0] ?? 0) * 10) / 10;

/** Type of the mount the folder lies in: the longest mount point that is a prefix of it (proc(5), mounts). */
async function fileSystemOf(folder: string): Promise<string> {
  const mounts = (await readFile('/proc/self/mounts', 'utf8')).split('\n').map((line) => line.split(' '));
  let [type, length] = ['unknown', -1];
  for (const [, place = '', kind = ''] of mounts) {
    const inside = folder === place || folder.startsWith(place.endsWith('/') ? place : `${place}/`);
    if (inside && place.length >= length) [type, length] = [kind, place.length];
  }
  return type;
}
