/** The control of a move that nobody watches: its warnings go to the log, and nobody can stop it. */
import type { Log } from './ports.js';
import type { MoveControl } from './scene.js';

export function inQuiet(log: Log, moveId: string): MoveControl {
  return {
    stop: new AbortController().signal,
    report: () => undefined,
    warn: (text) => log.warn({ moveId }, text),
    say: (text) => log.info({ moveId }, text),
    pointOfNoReturn: () => undefined,
    stalled: () => undefined,
  };
}
