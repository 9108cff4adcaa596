/**
 * `running.json`: which guests run, so that the host that comes after a boot knows which did. It is only about starting them again: what a
 * guest really does is asked of its process, always.
 *
 * A file that is missing or damaged is no boot: guests are started for what is known, never for what is not.
 */
import { Type, type Static } from 'typebox';
import { Compile } from 'typebox/compile';
import { hasCode, reasonOf } from '../os/errno.js';
import type { Files } from '../os/files.js';
import type { Log } from '../os/log.js';
import type { InstancePaths } from '../os/paths.js';

const ids = Type.Array(Type.String({ pattern: '^[0-9a-f-]{36}$' }), { maxItems: 100_000 });
const runningFile = Type.Object(
  {
    schema: Type.Literal(1),
    /** Which start of the system this is about. */
    system: Type.String({ minLength: 1, maxLength: 200 }),
    /** Guests that run. */
    running: ids,
    /** Guests that were shut down because the system stops. */
    stopped: ids,
    /** Guests that are to be started, and wait for their delay. */
    waiting: ids,
  },
  { additionalProperties: false },
);
const check = Compile(runningFile);

export type RunningGuests = Omit<Static<typeof runningFile>, 'schema'>;

export interface RunningRecord {
  /** As it was written last, or null: there was none that could be read. */
  readonly current: RunningGuests | null;
  /** Written when the promise resolves. A file that cannot be written is logged and never an error: no guest may depend on it. */
  change(of: (before: RunningGuests) => RunningGuests): Promise<void>;
}

/** `system` is that of an empty record, where there is none. */
export async function openRunning(paths: InstancePaths, files: Files, log: Log, system: string): Promise<RunningRecord> {
  const file = paths.runningFile;
  let current = await read();
  let written = current === null ? null : textOf(current);
  let last: Promise<void> = Promise.resolve();
  const write = async (of: (before: RunningGuests) => RunningGuests): Promise<void> => {
    current = of(current ?? { system, running: [], stopped: [], waiting: [] });
    const text = textOf(current);
    if (text === written) return;
    try {
      await files.replace(file, text);
      written = text;
    } catch (error) {
      written = null; // half of it may be there
      log.error({ file, reason: reasonOf(error) }, 'which guests run could not be written down');
    }
  };
  return {
    get current() {
      return current;
    },
    change(of) {
      last = last.then(() => write(of));
      return last;
    },
  };

  async function read(): Promise<RunningGuests | null> {
    try {
      const value: unknown = JSON.parse(await files.readText(file));
      if (check.Check(value)) {
        const { schema: _, ...guests } = value;
        return guests;
      }
      log.error({ file }, 'which guests ran cannot be read: the file is damaged; none is started for it');
    } catch (error) {
      if (!hasCode(error, 'ENOENT'))
        log.error({ file, reason: reasonOf(error) }, 'which guests ran cannot be read; none is started for it');
    }
    return null;
  }
}

const textOf = (guests: RunningGuests): string => JSON.stringify({ schema: 1, ...guests }, null, 2) + '\n';
