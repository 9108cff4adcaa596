/**
 * Logging: pino, one JSON line per event, to a file of the instance or (for a service) to standard error. What others chose of it (names, paths,
 * what guests say) is in the line as text that no terminal obeys.
 */
import { pino } from 'pino';
import { visibleJson } from '../model/visible.js';
import { LogFile } from './log-file.js';
import { complain } from './terminal.js';

/** The subset of pino that is used: fields first, then a sentence. */
export interface Log {
  debug(fields: object, text: string): void;
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
  child(bindings: Record<string, unknown>): Log;
}

export interface OpenLog {
  readonly log: Log;
  /** Why the log cannot be written now, naming the file, or null. */
  trouble(): string | null;
  /** Tries again whether it can be written, if it could not. */
  tryAgain(): void;
  close(): void;
}

/**
 * `file` null means standard error. A log that cannot be written (its file system is full, or read-only) does not take the host with it: it
 * is said once on standard error, each line tries again, and the first that succeeds is followed by how many were lost.
 */
export function createLog(file: string | null, level: string): OpenLog {
  const options = { level, base: { pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime };
  if (file === null) {
    const destination = pino.destination({ dest: 2, sync: true });
    destination.on('error', () => {}); // there is nowhere left to say so
    return {
      log: pino(options, { write: (line) => void destination.write(visibleJson(line)) }),
      trouble: () => null,
      tryAgain: () => {},
      close: () => {},
    };
  }
  const out = new LogFile(file, (trouble) => complain(`vmstorage host: ${trouble}. It is tried again with every line.`));
  const written = (line: string): void => {
    const before = out.trouble;
    out.write(visibleJson(line));
    if (before !== null && out.trouble === null) log.warn({ file, lines: out.takeLost() }, 'the log is written again; lines were lost');
  };
  const log = pino(options, { write: written });
  return {
    log,
    trouble: () => out.trouble,
    tryAgain: () => {
      if (out.trouble !== null) log.info({}, 'the log is tried again');
    },
    close: () => out.close(),
  };
}

export const silentLog: Log = { debug() {}, info() {}, warn() {}, error() {}, child: () => silentLog };
