/** What the test guest prints on its console (test/guest/init.c), as types, and the reading of one line and of its version tables. */
import { hashOfVersions, VERSION_UNSURE } from './guest-blocks.js';

/** One disk in one second. Counts of requests; latencies in microseconds. */
export interface GuestSecond {
  readonly ev: 'second';
  /** Seconds since the load started; 1, 2, 3 ... */
  readonly t: number;
  readonly disk: string;
  /** Reads, writes, flushes completed. */
  readonly r: number;
  readonly w: number;
  readonly f: number;
  readonly rp50: number;
  readonly rp99: number;
  readonly rmax: number;
  readonly wp50: number;
  readonly wp99: number;
  readonly wmax: number;
  readonly fp99: number;
  readonly fmax: number;
  /** I/O errors and wrong blocks since the guest started. */
  readonly err: number;
  readonly bad: number;
  /** Latest arrival of a 1 ms timer, us: how starved of CPU the guest itself was. */
  readonly tick: number;
  /** Longest time, ms, that requests waited and none completed while the guest was running on time. */
  readonly stall: number;
}

export interface GuestDisk {
  readonly ev: 'disk';
  readonly disk: string;
  /** The disk number inside its blocks. */
  readonly index: number;
  readonly bytes: number;
  /** Blocks that are worked on (w.span). */
  readonly blocks: number;
  /** "write back" when the guest's flushes reach the server. */
  readonly cache: string;
  /** Blocks of an earlier boot found, blocks of neither us nor zero, wrong ones, and the hash of the versions found. */
  readonly adopted: number;
  readonly foreign: number;
  /** Hardware queues the guest's kernel uses for it. */
  readonly queues: number;
  readonly err: number;
  readonly bad: number;
  readonly hash: string;
}

export type GuestLine =
  | GuestSecond
  | GuestDisk
  | {
      readonly ev: 'ready';
      readonly ms: number;
      readonly disks: number;
      readonly clock: string;
      readonly cpus: number;
      readonly powerButtons: number;
    }
  | { readonly ev: 'missing'; readonly disk: string; readonly errno: number }
  | { readonly ev: 'module'; readonly file: string; readonly errno: number }
  | { readonly ev: 'option'; readonly key: string; readonly value: string; readonly used: number }
  | { readonly ev: 'resized'; readonly disk: string; readonly bytes: number }
  | { readonly ev: 'error'; readonly disk: string; readonly op: string; readonly block: number; readonly errno: number }
  | {
      readonly ev: 'mismatch';
      readonly disk: string;
      readonly when: string;
      readonly block: number;
      readonly want: number;
      readonly got: number;
    }
  | { readonly ev: 'stopping'; readonly why: string; readonly then: 'power off' | 'reboot' }
  /** At the end: interrupts of each queue of the disk; 0 means that nobody loaded it. */
  | { readonly ev: 'queues'; readonly disk: string; readonly interrupts: readonly number[] }
  | { readonly ev: 'verified'; readonly disk: string; readonly blocks: number; readonly err: number; readonly bad: number }
  | { readonly ev: 'versions'; readonly disk: string; readonly from: number; readonly runs: string }
  | {
      readonly ev: 'table';
      readonly disk: string;
      readonly index: number;
      readonly blocks: number;
      readonly hash: string;
      readonly final: boolean;
    }
  | { readonly ev: 'done'; readonly ms: number }
  | { readonly ev: 'fatal'; readonly text: string };

/** Null for what is not the guest's own (kernel messages, firmware, a line cut short by a killed VM). */
export function parseGuestLine(text: string): GuestLine | null {
  if (!text.startsWith('{')) return null;
  let value: Record<string, unknown>;
  try {
    value = JSON.parse(text) as Record<string, unknown>;
  } catch {
    return null; // cut short: QEMU was killed while the guest was printing
  }
  if (typeof value.t === 'number' && typeof value.disk === 'string') return { ev: 'second', ...value } as GuestSecond;
  return typeof value.ev === 'string' ? (value as unknown as GuestLine) : null;
}

/** The versions of one disk's blocks as the guest told them. */
export interface VersionTable {
  readonly disk: string;
  /** The disk number that its blocks carry. */
  readonly index: number;
  /** True: nothing was written afterwards. False: told while writers ran, a lower bound. */
  readonly final: boolean;
  /** Last acknowledged version per block; 0 = never written, VERSION_UNSURE = a write failed. */
  readonly versions: Uint32Array;
}

/** The last complete table of each disk among `lines`. Throws when a table does not agree with its own hash. */
export function versionTables(lines: readonly GuestLine[]): VersionTable[] {
  const open = new Map<string, Extract<GuestLine, { ev: 'versions' }>[]>();
  const tables = new Map<string, VersionTable>();
  const damaged = new Map<string, string>();
  for (const line of lines) {
    if (line.ev === 'versions') {
      const parts = line.from === 0 ? [] : (open.get(line.disk) ?? []);
      open.set(line.disk, [...parts, line]);
    } else if (line.ev === 'table') {
      const versions = new Uint32Array(line.blocks);
      for (const { from, runs } of open.get(line.disk) ?? []) {
        let block = from;
        for (const run of runs.split(',')) {
          const [version = '0', times = '1'] = run.split('*');
          versions.fill(version === '?' ? VERSION_UNSURE : Number(version), block, (block += Number(times)));
        }
      }
      const hash = hashOfVersions(versions);
      if (hash !== line.hash) {
        // A boot that ended in mid-line; a later table of the disk makes it good.
        damaged.set(
          line.disk,
          `The version table of ${line.disk} has the hash ${hash}, the guest says ${line.hash}: its console is incomplete.`,
        );
        open.delete(line.disk);
        continue;
      }
      damaged.delete(line.disk);
      tables.set(line.disk, { disk: line.disk, index: line.index, final: line.final, versions });
      open.delete(line.disk);
    }
  }
  for (const text of damaged.values()) throw new Error(text);
  return [...tables.values()];
}
