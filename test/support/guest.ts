/**
 * A running test guest as seen through its console file: follows the file, keeps every line, and waits for what a test needs.
 * Waiting is by condition with a limit; what is waited for and the last lines are in the error when the limit is reached.
 */
import { open, type FileHandle } from 'node:fs/promises';
import { parseGuestLine, versionTables, type GuestLine, type GuestSecond, type VersionTable } from './guest-lines.js';

/** How often the file is looked at: far below the guest's own line per second, far above what it costs. */
const LOOK_EACH_MS = 25;
/** A TCG guest is ready in 3 s, in 10 s on a busy machine, later with OVMF before it. */
export const READY_LIMIT_MS = 60_000;
/** Reading back and telling two disks of 64 MiB takes 2 s under TCG. */
export const DONE_LIMIT_MS = 60_000;
const READ_BYTES = 64 * 1024;

export type Line<E extends GuestLine['ev']> = Extract<GuestLine, { ev: E }>;

interface Waiter {
  look(): void;
}

/** What the guest went through between two points of its console. */
export interface GuestSpell {
  readonly seconds: readonly GuestSecond[];
  /** Longest read, write or flush, ms. */
  readonly maxLatencyMs: number;
  readonly maxStallMs: number;
  readonly maxTickMs: number;
  readonly requests: number;
}

export class GuestConsole implements AsyncDisposable {
  readonly lines: GuestLine[] = [];
  readonly #waiters = new Set<Waiter>();
  readonly #timer: NodeJS.Timeout;
  #file: FileHandle | null = null;
  #offset = 0;
  #rest = '';
  #looking: Promise<void> | null = null;
  #failure: Error | null = null;

  /** Follows `path`, which may not exist yet. Close it (`await using`) when the guest is gone. */
  constructor(readonly path: string) {
    this.#timer = setInterval(() => {
      this.#looking ??= this.#look()
        .catch((error: unknown) => {
          this.#failure = error instanceof Error ? error : new Error(String(error));
        })
        .finally(() => {
          this.#looking = null;
          for (const waiter of [...this.#waiters]) waiter.look();
        });
    }, LOOK_EACH_MS);
  }

  async #look(): Promise<void> {
    if (!this.#file) {
      try {
        this.#file = await open(this.path, 'r');
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
        throw error;
      }
    }
    // A VM that was started again has truncated the file.
    if ((await this.#file.stat()).size < this.#offset) {
      this.#offset = 0;
      this.#rest = '';
    }
    const buffer = Buffer.allocUnsafe(READ_BYTES);
    for (;;) {
      const { bytesRead } = await this.#file.read(buffer, 0, buffer.length, this.#offset);
      if (bytesRead === 0) return;
      this.#offset += bytesRead;
      // The guest prints ASCII; a kernel message with other bytes is not ours and is dropped as a line.
      const parts = (this.#rest + buffer.toString('latin1', 0, bytesRead)).split('\n');
      this.#rest = parts.pop() ?? '';
      for (const part of parts) {
        const line = parseGuestLine(part.trim());
        if (line) this.lines.push(line);
      }
    }
  }

  /**
   * Resolves with what `find` returns as soon as it is not undefined; it is asked again whenever the file was looked at.
   * Rejects after `limitMs`, or when `gone` aborts (the VM's process ended).
   */
  waitFor<T>(what: string, find: (lines: readonly GuestLine[]) => T | undefined, limitMs: number, gone?: AbortSignal): Promise<T> {
    return new Promise((resolve, reject) => {
      const end = (): void => {
        clearTimeout(limit);
        this.#waiters.delete(waiter);
        gone?.removeEventListener('abort', onGone);
      };
      const fail = (why: string): void => {
        end();
        const last = this.lines.slice(-8).map((line) => JSON.stringify(line).slice(0, 300));
        reject(
          new Error(`Waited for the guest: ${what}; ${why}. Its console (${this.path}) ends with:\n${last.join('\n') || '(nothing)'}`),
        );
      };
      const onGone = (): void => {
        // What it printed last may not have been read yet.
        void this.#look()
          .catch(() => undefined)
          .then(() => {
            waiter.look();
            if (this.#waiters.has(waiter)) fail('its VM is gone');
          });
      };
      const waiter: Waiter = {
        look: () => {
          if (!this.#waiters.has(waiter)) return;
          try {
            const found = find(this.lines);
            if (found !== undefined) {
              end();
              resolve(found);
            } else if (this.#failure) {
              fail(`its console cannot be read: ${this.#failure.message}`);
            }
          } catch (error) {
            end();
            reject(error instanceof Error ? error : new Error(String(error)));
          }
        },
      };
      const limit = setTimeout(() => fail(`nothing after ${limitMs} ms`), limitMs);
      this.#waiters.add(waiter);
      if (gone?.aborted) onGone();
      else gone?.addEventListener('abort', onGone, { once: true });
      waiter.look();
    });
  }

  /** The first line of kind `ev` at or after position `from`. */
  waitForLine<E extends GuestLine['ev']>(ev: E, limitMs: number, from = 0, gone?: AbortSignal): Promise<Line<E>> {
    return this.waitFor(`a line "${ev}"`, (lines) => lines.slice(from).find((line): line is Line<E> => line.ev === ev), limitMs, gone);
  }

  /** Resolves when the guest has its disks open and its load is about to start. `boot` counts from 1; a reboot is the next. */
  ready(boot = 1, gone?: AbortSignal): Promise<Line<'ready'>> {
    return this.waitFor(
      `ready (boot ${boot})`,
      (lines) => lines.filter((line): line is Line<'ready'> => line.ev === 'ready')[boot - 1],
      READY_LIMIT_MS,
      gone,
    );
  }

  /** Resolves after `count` more seconds in which every disk completed requests: the guest goes on. */
  async goesOn(count = 1, limitMs = 30_000): Promise<void> {
    const from = this.lines.length;
    const disks = new Set(this.lines.filter((line) => line.ev === 'disk').map((line) => line.disk));
    await this.waitFor(
      `${count} more s of requests on ${[...disks].join(', ')}`,
      (lines) => {
        const busy = lines.slice(from).filter((line): line is GuestSecond => line.ev === 'second' && line.r + line.w > 0);
        return [...disks].every((disk) => busy.filter((line) => line.disk === disk).length >= count) || undefined;
      },
      limitMs,
    );
  }

  /** Resolves when the guest has stopped its load, read everything back and told its versions. */
  async done(from = 0, gone?: AbortSignal): Promise<{ verified: Line<'verified'>[]; tables: VersionTable[] }> {
    await this.waitForLine('done', DONE_LIMIT_MS, from, gone);
    const lines = this.lines.slice(from);
    return { verified: lines.filter((line) => line.ev === 'verified'), tables: versionTables(lines) };
  }

  /** Number of lines so far: a position to start looking from. */
  get here(): number {
    return this.lines.length;
  }

  /** Errors and wrong blocks since the guest started, over all its disks and boots. */
  get faults(): GuestLine[] {
    return this.lines.filter(
      (line) => line.ev === 'error' || line.ev === 'mismatch' || line.ev === 'missing' || line.ev === 'fatal' || line.ev === 'module',
    );
  }

  /** The guest's own count of I/O errors, and of blocks that read back wrong. */
  get errorCounts(): { errors: number; mismatches: number } {
    const last = new Map<string, { err: number; bad: number }>();
    for (const line of this.lines) if (line.ev === 'second' || line.ev === 'disk' || line.ev === 'verified') last.set(line.disk, line);
    const counts = [...last.values()];
    return { errors: counts.reduce((sum, { err }) => sum + err, 0), mismatches: counts.reduce((sum, { bad }) => sum + bad, 0) };
  }

  /** What the guest saw in lines `from` to `to`. */
  spell(from: number, to = this.lines.length): GuestSpell {
    const seconds = this.lines.slice(from, to).filter((line): line is GuestSecond => line.ev === 'second');
    const most = (of: (second: GuestSecond) => number): number => seconds.reduce((max, second) => Math.max(max, of(second)), 0);
    return {
      seconds,
      maxLatencyMs: most(({ rmax, wmax, fmax }) => Math.max(rmax, wmax, fmax)) / 1000,
      maxStallMs: most(({ stall }) => stall),
      maxTickMs: most(({ tick }) => tick) / 1000,
      requests: seconds.reduce((sum, { r, w, f }) => sum + r + w + f, 0),
    };
  }

  /** Stops following. Everything read so far stays in `lines`. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#looking;
    await this.#file?.close();
    this.#file = null;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
