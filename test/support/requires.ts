/**
 * What a test needs beside the project: a missing peer is a skip with its reason on a laptop, and an error in CI (CI=true).
 *
 *   describe.skipIf(lacks('qemu-system-x86_64', 'guest'))('...', () => { ... })
 *
 * Every skip is noted in the file that VMSTORAGE_SKIPS names, from which the test runner prints the reasons.
 */
import { accessSync, appendFileSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { findGuestKernel } from './guest-kernel.js';

/** Peers that are more than a program on PATH; each returns why it is missing, or null. */
const peers: Record<string, () => string | null> = {
  guest: () => (findGuestKernel() ? null : 'no kernel or initrd for the test guest'),
  root: () => (process.getuid?.() === 0 ? null : 'not root'),
};

export function findProgram(program: string): string | null {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
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

/** True when one of `needs` (programs on PATH, or 'guest', 'root') is missing; notes why. Throws under CI=true. */
export function lacks(...needs: readonly string[]): boolean {
  const reasons = needs
    .map((need) => (peers[need] ? peers[need]() : findProgram(need) ? null : `no ${need} on PATH`))
    .filter((reason) => reason !== null);
  if (reasons.length === 0) return false;
  if (process.env.CI === 'true')
    throw new Error(
      `This test needs what is missing here: ${reasons.join(', ')}. In CI that is an error; npm run setup says what to install.`,
    );
  if (process.env.VMSTORAGE_SKIPS) appendFileSync(process.env.VMSTORAGE_SKIPS, `${reasons.join(', ')}\n`);
  return true;
}
