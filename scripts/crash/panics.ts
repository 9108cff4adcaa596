/**
 * Panics of the engine, from the logs of an instance. A panic ends the worker as a kill does, its successor goes on, and no guest sees it:
 * the log is all that tells of it.
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** Each with the line that says why. */
export function panicsIn(logsFolder: string): string[] {
  if (!existsSync(logsFolder)) return []; // the host never came up, which is a problem by itself
  return readdirSync(logsFolder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && /\.log(\.1)?$/.test(entry.name))
    .flatMap((entry) => {
      const lines = readFileSync(join(entry.parentPath, entry.name), 'utf8').split('\n');
      return lines.flatMap((line, at) =>
        /^thread '.*' .*panicked at /.test(line) ? [`${entry.name}: ${line} ${lines[at + 1] ?? ''}`] : [],
      );
    });
}
