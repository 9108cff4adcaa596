/**
 * The file systems of this machine that may hold disks, with free space and load. Neither can be pushed by the kernel: they are asked every two
 * seconds, but only while somebody subscribes, and who subscribes is told only of what changed.
 *
 * A file system that hangs keeps a thread of the host's pool for each question. So it is asked once, named as not answering until it answers,
 * and while two hang no other is asked.
 */
import { readFile, stat, statfs } from 'node:fs/promises';
import { reasonOf } from '../os/errno.js';
import { deviceActivity, mountsForDisks, type DeviceActivity, type Mount } from '../os/mounts.js';
import { within } from '../os/within.js';
import type { Place } from '../protocol/subscription.js';

const EVERY_MS = 2_000;
const ANSWER_LIMIT_MS = 1_000;
const HANGING_MAX = 2;
/** Less than this holds no disk: a mount that only carries a file or two is no place. */
const LEAST_BYTES = 64n * 2n ** 20n;
/** Free space is told in steps of so much: a log that grows is no news. */
const STEP_BYTES = 2n ** 20n;

interface Room {
  readonly total: bigint;
  readonly free: bigint;
}

/** The system calls, for tests. */
export interface PlaceSystem {
  mountinfo(): Promise<string>;
  diskstats(): Promise<string>;
  /** Null: it is no folder. */
  room(path: string): Promise<Room | null>;
}

const system: PlaceSystem = {
  mountinfo: () => readFile('/proc/self/mountinfo', 'utf8'),
  diskstats: () => readFile('/proc/diskstats', 'utf8').catch(() => ''),
  async room(path) {
    if (!(await stat(path)).isDirectory()) return null;
    const { bsize, blocks, bavail } = await statfs(path, { bigint: true });
    return { total: bsize * blocks, free: bsize * bavail };
  },
};

export class Places {
  readonly #places = new Map<string, Place>();
  readonly #hanging = new Set<string>();
  readonly #listeners = new Set<(path: string) => void>();
  #activity: ReadonlyMap<string, DeviceActivity> = new Map();
  #activityAtMs = 0;
  #timer: NodeJS.Timeout | undefined;
  #look: Promise<void> | null = null;

  constructor(
    private readonly nowMs: () => number,
    private readonly from: PlaceSystem = system,
  ) {}

  /** As they were at the last look; the first look is waited for. */
  async all(): Promise<readonly Place[]> {
    await this.look();
    return [...this.#places.values()];
  }

  get(path: string): Place | null {
    return this.#places.get(path) ?? null;
  }

  subscribe(listener: (path: string) => void): () => void {
    this.#listeners.add(listener);
    this.#timer ??= setInterval(() => void this.look(), EVERY_MS).unref();
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size > 0) return;
      clearInterval(this.#timer);
      this.#timer = undefined;
    };
  }

  /** One at a time; who asks meanwhile waits for the one that is under way. */
  look(): Promise<void> {
    this.#look ??= this.#lookAtAll().finally(() => (this.#look = null));
    return this.#look;
  }

  async #lookAtAll(): Promise<void> {
    const mounts = mountsForDisks(await this.from.mountinfo().catch(() => ''));
    const before = { activity: this.#activity, atMs: this.#activityAtMs };
    this.#activity = deviceActivity(await this.from.diskstats());
    this.#activityAtMs = this.nowMs();
    for (const path of [...this.#places.keys()]) if (!mounts.some((mount) => mount.path === path)) this.#put(path, null);
    for (const mount of mounts) {
      const place = await this.#placeAt(mount, before);
      this.#put(mount.path, place);
    }
  }

  async #placeAt(mount: Mount, before: { activity: ReadonlyMap<string, DeviceActivity>; atMs: number }): Promise<Place | null> {
    const { path, from, fileSystem, isReadOnly, device } = mount;
    const known = this.#places.get(path);
    const told = (room: Room | null, trouble: string | null): Place => ({
      $t: 'Place',
      path,
      device: from,
      fileSystem,
      isReadOnly,
      bytesTotal: room ? String(room.total) : (known?.bytesTotal ?? '0'),
      bytesFree: room ? String((room.free / STEP_BYTES) * STEP_BYTES) : (known?.bytesFree ?? '0'),
      ...loadOf(before.activity.get(device), this.#activity.get(device), this.#activityAtMs - before.atMs),
      trouble,
    });
    if (this.#hanging.has(path)) return told(null, 'it does not answer');
    if (this.#hanging.size >= HANGING_MAX) return told(null, 'it is not asked while other file systems do not answer');
    this.#hanging.add(path);
    const asked = this.from.room(path).finally(() => this.#hanging.delete(path));
    try {
      const room = await within(ANSWER_LIMIT_MS, asked);
      if (room === 'late') return told(null, 'it does not answer');
      return room === null || room.total < LEAST_BYTES ? null : told(room, null);
    } catch (error) {
      return told(null, reasonOf(error));
    }
  }

  #put(path: string, place: Place | null): void {
    const before = this.#places.get(path) ?? null;
    if (place) this.#places.set(path, place);
    else this.#places.delete(path);
    if (JSON.stringify(before) === JSON.stringify(place)) return;
    for (const listener of this.#listeners) listener(path);
  }
}

type Load = Pick<Place, 'busyPercent' | 'bytesReadPerSecond' | 'bytesWrittenPerSecond'>;

/** In whole percent and whole MiB/s: more is noise, and every change is told. */
function loadOf(before: DeviceActivity | undefined, now: DeviceActivity | undefined, passedMs: number): Load {
  if (!before || !now || passedMs <= 0) return { busyPercent: null, bytesReadPerSecond: null, bytesWrittenPerSecond: null };
  const rate = (bytes: number): number => Math.round((Math.max(0, bytes) * 1000) / passedMs / 2 ** 20) * 2 ** 20;
  return {
    busyPercent: Math.min(100, Math.max(0, Math.round((100 * (now.busyMs - before.busyMs)) / passedMs))),
    bytesReadPerSecond: rate(now.bytesRead - before.bytesRead),
    bytesWrittenPerSecond: rate(now.bytesWritten - before.bytesWritten),
  };
}
