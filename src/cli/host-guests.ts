/** `vmstorage host stop-guests` and `start-guests`: asked of the host as a cmdlet is, told line by line. */
import { invoke } from '../client/invoke.js';
import type { VmStorageError } from '../model/errors.js';
import { START_GUESTS, STOP_GUESTS, STOP_LIMIT_SECONDS } from '../protocol/host-commands.js';
import { parseInteger } from './literal/numbers.js';
import { refuse } from './refuse.js';

/** Resolves with the exit code: that of the first guest that could not be stopped. */
export async function hostGuests(action: 'stop-guests' | 'start-guests', limit: unknown, json: boolean): Promise<number> {
  const told: string[] = [];
  const errors: VmStorageError[] = [];
  await invoke(
    {
      cmdlet: action === 'stop-guests' ? STOP_GUESTS : START_GUESTS,
      records: [{ parameterSet: '', bound: action === 'stop-guests' ? { limitSeconds: limitSeconds(limit) } : {} }],
      client: 'cli',
    },
    {
      output: () => {},
      progress: () => {},
      ask: () => true,
      text: (_, text) => {
        told.push(text);
        if (!json) console.log(text);
      },
      error: (error) => {
        errors.push(error);
        if (!json) console.error(`vmstorage: ${error.message}`);
      },
    },
  );
  if (json) console.log(JSON.stringify({ ok: errors.length === 0, told, errors: errors.map(({ code, message }) => ({ code, message })) }));
  return errors[0]?.exitCode ?? 0;
}

function limitSeconds(given: unknown): number {
  if (given === undefined) return STOP_LIMIT_SECONDS.default;
  const seconds = parseInteger(String(given));
  if (seconds === undefined || seconds < 1n || seconds > BigInt(STOP_LIMIT_SECONDS.most)) {
    return refuse(`--limit takes whole seconds from 1 to ${STOP_LIMIT_SECONDS.most}, not '${String(given)}'.`);
  }
  return Number(seconds);
}
