/** `vmstorage host stop-guests` and `start-guests`: asked of the host as a cmdlet is, told line by line. */
import { invoke } from '../client/invoke.js';
import type { VmStorageError } from '../model/errors.js';
import { visibleLine } from '../model/visible.js';
import { complain, print, printJson } from '../os/terminal.js';
import { START_GUESTS, STOP_GUESTS, STOP_LIMIT_SECONDS } from '../protocol/host-commands.js';
import { parseInteger } from './literal/numbers.js';
import { refuse } from './refuse.js';

/** Resolves with the exit code: that of the first guest that could not be stopped. */
export async function hostGuests(action: 'stop-guests' | 'start-guests', limitSeconds: number, json: boolean): Promise<number> {
  const told: string[] = [];
  const errors: VmStorageError[] = [];
  await invoke(
    {
      cmdlet: action === 'stop-guests' ? STOP_GUESTS : START_GUESTS,
      records: [{ parameterSet: '', bound: action === 'stop-guests' ? { limitSeconds } : {} }],
      client: 'cli',
    },
    {
      output: () => {},
      progress: () => {},
      ask: () => true,
      text: (_, text) => {
        told.push(text);
        if (!json) print(visibleLine(text));
      },
      error: (error) => {
        errors.push(error);
        if (!json) complain(`vmstorage: ${error.message}`);
      },
    },
  );
  if (json) printJson({ ok: errors.length === 0, told, errors: errors.map(({ code, message }) => ({ code, message })) });
  return errors[0]?.exitCode ?? 0;
}

/** `--limit`, read before anything is begun. */
export function readLimit(action: string, given: unknown): number {
  if (given === undefined) return STOP_LIMIT_SECONDS.default;
  if (action !== 'stop-guests') refuse(`--limit is of 'host stop-guests' alone.`);
  const seconds = parseInteger(String(given));
  if (seconds === undefined || seconds < 1n || seconds > BigInt(STOP_LIMIT_SECONDS.most)) {
    return refuse(`--limit takes whole seconds from 1 to ${STOP_LIMIT_SECONDS.most}, not '${String(given)}'.`);
  }
  return Number(seconds);
}
