/**
 * What a test needs beside the project and may not have. A missing peer is a skip with its reason on a laptop and an error with
 * CI=true, because there a skip would hide that nothing was tested.
 *
 *     describe.skipIf(lacks('qemu-system-x86_64', 'guest'))('...', ...)
 *     describe.skipIf(!requires('pwsh', await findOrUndefined()))('...', ...)
 *
 * Every reason is noted in the file that VMSTORAGE_SKIPS names, from which the test runner prints it.
 */
import { accessSync, appendFileSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { findGuestKernel } from './guest-kernel.js';

export class MissingPeer extends Error {}

const reported = new Set<string>();

/** True when `peer` is there. Otherwise says why the tests are skipped and is false; with CI=true it throws. */
export function requires(name: string, present: unknown, reason = `${name} is not installed`): boolean {
  if (present) return true;
  if (process.env['CI'] === 'true') throw new MissingPeer(`CI needs ${name}: ${reason}; npm run setup says what to install`);
  if (!reported.has(name)) console.warn(`skipped: ${reason}`);
  if (!reported.has(name) && process.env['VMSTORAGE_SKIPS']) appendFileSync(process.env['VMSTORAGE_SKIPS'], `${reason}\n`);
  reported.add(name);
  return false;
}

/** Needs that are more than a program on PATH: why they are missing, or null. */
const others: Record<string, () => string | null> = {
  guest: () => (findGuestKernel() ? null : 'there is no kernel or initrd for the test guest'),
  root: () => (process.getuid?.() === 0 ? null : 'the tests do not run as root'),
};

export function findProgram(program: string): string | null {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    if (folder === '') continue;
    try {
      accessSync(join(folder, program), constants.X_OK);
      return join(folder, program);
    } catch {
      continue; // not in this folder of PATH
    }
  }
  return null;
}

/** True when one of `needs` (programs on PATH, 'guest', 'root') is missing, with all of `requires`. */
export function lacks(...needs: readonly string[]): boolean {
  return needs
    .map((need) => {
      const other = others[need];
      const reason = other ? other() : findProgram(need) ? null : `${need} is not on PATH`;
      return requires(need, reason === null, reason ?? undefined);
    })
    .includes(false);
}
