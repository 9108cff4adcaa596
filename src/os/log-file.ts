/**
 * A log that its one writer keeps bounded: at `maxBytes` it becomes `<name>.1` and a new one is begun. A write that the file system refuses
 * (full, read-only) costs that line and nothing else: the next one is tried again, and says how many were lost.
 */
import { closeSync, constants, fstatSync, openSync, renameSync, writeSync } from 'node:fs';
import { LOG_MAX_BYTES } from './bounded-logs.js';
import { reasonOf } from './errno.js';

export class LogFile {
  #descriptor: number | null = null;
  #bytes = 0;
  #lost = 0;
  #reason: string | null = null;
  /** The last write stopped within a line. */
  #torn = false;

  /** Written synchronously: what was logged before a crash is there after it. `onRefused` hears of the first of several refusals. */
  constructor(
    readonly path: string,
    private readonly onRefused: (trouble: string) => void,
    private readonly maxBytes: number = LOG_MAX_BYTES,
  ) {}

  /** Why nothing can be written now, naming the file; null when the last write succeeded. */
  get trouble(): string | null {
    return this.#reason === null ? null : `the log '${this.path}' cannot be written: ${this.#reason}`;
  }

  write(line: string): void {
    try {
      this.#append(line);
      this.#reason = null;
    } catch (error) {
      this.#lost += 1;
      const first = this.#reason === null;
      this.#reason = reasonOf(error);
      if (first) this.onRefused(this.trouble!);
    }
  }

  /** A later write opens it again. */
  close(): void {
    if (this.#descriptor !== null) closeSync(this.#descriptor);
    this.#descriptor = null;
  }

  /** How many lines were lost before this one, told once. */
  takeLost(): number {
    const lost = this.#lost;
    this.#lost = 0;
    return lost;
  }

  #append(line: string): void {
    this.#descriptor ??= this.#open();
    if (this.#bytes > 0 && this.#bytes + line.length > this.maxBytes) this.#beginAnew();
    const bytes = Buffer.from(this.#torn ? `\n${line}` : line, 'utf8');
    const written = writeSync(this.#descriptor, bytes);
    this.#bytes += written;
    this.#torn = written < bytes.length;
    if (this.#torn) throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
  }

  #open(): number {
    const descriptor = openSync(this.path, constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND | constants.O_NOFOLLOW, 0o600);
    this.#bytes = fstatSync(descriptor).size;
    return descriptor;
  }

  #beginAnew(): void {
    renameSync(this.path, `${this.path}.1`);
    this.close();
    this.#descriptor = this.#open();
  }
}
