/**
 * Panics of the engine, from the logs of an instance. A panic ends a thread and not its process, and the next kill may take the process
 * before anybody misses the thread: the log is then all that tells of it.
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
