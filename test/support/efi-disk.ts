/** A disk that UEFI firmware boots from: a FAT file system on the whole of it, as on removable media, with the files that it is given. */
import { execFile } from 'node:child_process';
import { truncate, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const SECTOR_BYTES = 512;

/** What has to be on PATH to make one. */
export const efiDiskNeeds = ['mformat', 'mmd', 'mcopy'] as const;

/** Makes the raw image `path`. `files`: what is in it, with where each comes from. */
export async function makeEfiDisk(path: string, sizeBytes: number, files: Readonly<Record<string, string>>): Promise<void> {
  await writeFile(path, '');
  await truncate(path, sizeBytes);
  await run('mformat', ['-i', path, '-T', String(sizeBytes / SECTOR_BYTES), '-F', '-v', 'BOOT', '::']);
  const folders = new Set(Object.keys(files).flatMap((name) => foldersOf(name)));
  for (const folder of folders) await run('mmd', ['-i', path, `::/${folder}`]);
  for (const [name, from] of Object.entries(files)) await run('mcopy', ['-i', path, from, `::/${name}`]);
}

/** `a` and `a/b` for `a/b/c`. */
function foldersOf(name: string): string[] {
  const folder = dirname(name);
  return folder === '.' ? [] : [...foldersOf(folder), folder];
}
