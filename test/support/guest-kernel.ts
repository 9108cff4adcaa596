/** Where the set-up has put the test guest's kernel and initrd; also for compiled code, which lives below dist/. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The checkout's folder: the nearest one above this file that holds package.json. */
export const repository = ((): string => {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) {
    if (dirname(folder) === folder) throw new Error('This file is in no checkout: no package.json above it.');
    folder = dirname(folder);
  }
  return folder;
})();

export interface GuestKernel {
  readonly kernel: string;
  readonly initrd: string;
}

/** Null when the set-up could not make them (it said why). */
export function findGuestKernel(): GuestKernel | null {
  const kernel = join(repository, '.cache/guest/kernel/vmlinuz');
  const initrd = join(repository, '.cache/guest/initrd.cpio');
  return existsSync(kernel) && existsSync(initrd) ? { kernel, initrd } : null;
}

export function guestKernel(): GuestKernel {
  const found = findGuestKernel();
  if (!found) throw new Error('There is no kernel or initrd for the test guest; run npm run setup, which says what it lacks.');
  return found;
}
