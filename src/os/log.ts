/** Logging: pino, one JSON line per event, to a file of the instance or (for a service) to standard error. */
import { pino } from 'pino';

/** The subset of pino that is used: fields first, then a sentence. */
export interface Log {
  debug(fields: object, text: string): void;
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
  child(bindings: Record<string, unknown>): Log;
}

/** `file` null means standard error. Written synchronously: what was logged before a crash is there after it. */
export function createLog(file: string | null, level: string): Log {
  const destination = pino.destination(file === null ? { dest: 2, sync: true } : { dest: file, append: true, mode: 0o600, sync: true });
  // A log that cannot be written (disk full, closed pipe) must not take the host with it, and there is nowhere left to say so.
  destination.on('error', () => {});
  return pino({ level, base: { pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime }, destination);
}

export const silentLog: Log = { debug() {}, info() {}, warn() {}, error() {}, child: () => silentLog };
