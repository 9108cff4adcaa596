/** What a folder tree holds, so that "nothing was changed" can be compared: every name, and the hash of every file. */
import { createHash } from 'node:crypto';
import { createReadStream, lstatSync, readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';

export type Listing = Readonly<Record<string, string>>;

export async function listing(...folders: readonly string[]): Promise<Listing> {
  const found: Record<string, string> = {};
  for (const folder of folders) {
    for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
      const path = join(entry.parentPath, entry.name);
      if (entry.isDirectory()) found[path] = 'folder';
      else if (entry.isSymbolicLink()) found[path] = `link to ${readlinkSync(path)}`;
      else if (!entry.isFile()) found[path] = 'special';
      else {
        const hash = createHash('sha1');
        await pipeline(createReadStream(path), hash);
        found[path] = `${lstatSync(path).size} bytes ${hash.digest('hex')}`;
      }
    }
  }
  return found;
}
