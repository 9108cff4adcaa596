/** The test files of a folder, whatever depth. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

export function filesWithTests(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return filesWithTests(path);
    return entry.name.endsWith('.test.ts') ? [path] : [];
  });
}
