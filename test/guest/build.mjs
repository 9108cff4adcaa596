/**
 * Builds the test guest's initrd: `init` compiled from the C files beside this one, and the kernel modules it loads.
 *
 *   .cache/guest/kernel/{vmlinuz,release,modules/*.ko}  (by scripts/setup.mjs)  +  *.c  ->  .cache/guest/initrd.cpio
 *
 * Needs a C compiler with a static libc and nothing else. `node test/guest/build.mjs [folder]` builds by hand.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { characterDevice, cpio, file, folder } from './cpio.mjs';

const here = dirname(fileURLToPath(import.meta.url));

/** In the order of loading: virtio_ring before virtio, else every later one lacks its symbols. Missing ones are built into the kernel. */
export const guestModules = [
  'virtio_ring',
  'virtio',
  'virtio_pci_modern_dev',
  'virtio_pci_legacy_dev',
  'virtio_pci', // the bus
  'virtio_console',
  'virtio_blk', // hvc0; the disks
  'evdev',
  'button', // /dev/input/event*; the ACPI power button
];
export const guestSources = ['init.c', 'keys.c', 'load.c', 'queues.c'];
/** Everything the initrd is made of, beside the kernel. */
export const guestInputs = [
  ...guestSources,
  'block.h',
  'console.h',
  'histogram.h',
  'keys.h',
  'load.h',
  'queues.h',
  'build.mjs',
  'cpio.mjs',
].map((name) => join(here, name));

/**
 * @param {string} guestFolder holds kernel/; gets initrd.cpio
 * @param {string} [compiler]
 * @returns {string} path of the initrd
 */
export function buildInitrd(guestFolder, compiler = process.env.CC ?? 'cc') {
  const modulesFolder = join(guestFolder, 'kernel', 'modules');
  const scratch = mkdtempSync(join(tmpdir(), 'vmstorage-initrd-'));
  try {
    const init = join(scratch, 'init');
    const flags = ['-O2', '-static', '-pthread', '-Wall', '-Wextra', '-Werror', '-s', '-o', init];
    execFileSync(compiler, [...flags, ...guestSources.map((name) => join(here, name))], { stdio: ['ignore', 'inherit', 'inherit'] });
    const modules = guestModules.filter((name) => existsSync(join(modulesFolder, `${name}.ko`)));
    const archive = cpio([
      folder('dev'),
      folder('proc'),
      folder('sys'),
      folder('modules'),
      characterDevice('dev/console', 5, 1),
      file('init', readFileSync(init), 0o755),
      ...modules.map((name, index) =>
        file(`modules/${String(index).padStart(2, '0')}-${name}.ko`, readFileSync(join(modulesFolder, `${name}.ko`))),
      ),
    ]);
    const initrd = join(guestFolder, 'initrd.cpio');
    writeFileSync(`${initrd}.new`, archive);
    renameSync(`${initrd}.new`, initrd);
    return initrd;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  console.log(buildInitrd(process.argv[2] ?? join(here, '..', '..', '.cache', 'guest')));
}
