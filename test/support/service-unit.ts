/** The systemd units of docs, read. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { repository } from './guest-kernel.js';

/** That of the host. */
export const unitFile = join(repository, 'docs/vmstorage.service');
/** That which shuts guests down before the system stops. */
export const guestsUnitFile = join(repository, 'docs/vmstorage-guests.service');

/** The values of a section's settings by name; a setting that is there twice is an error, as none of ours may be. */
export function unitSection(section: string, file = unitFile): Readonly<Record<string, string>> {
  const found: Record<string, string> = {};
  let here = '';
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    if (line === '' || line.startsWith('#')) continue;
    const title = /^\[(\w+)\]$/.exec(line)?.[1];
    if (title !== undefined) here = title;
    else if (here === section) {
      const [, name, value] = /^(\w+)=(.*)$/.exec(line) ?? [];
      if (name === undefined || value === undefined || name in found)
        throw new Error(`[${section}] has a line that is not understood: ${line}`);
      found[name] = value;
    }
  }
  return found;
}
