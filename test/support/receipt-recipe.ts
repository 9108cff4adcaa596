/** The README's recipe for recomputing a receipt by hand, run as it stands there: what a reader would type. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { copyFile, mkdtemp, rm, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { checkoutFolder } from '../../src/powershell/checkout.js';

const run = promisify(execFile);

/** The two lines under "The receipt": make plain content of disk.vhdx, hash it. */
export function recipeLines(): readonly [plain: string, hash: string] {
  const section = readFileSync(join(checkoutFolder(), 'README.md'), 'utf8')
    .split(/^## /m)
    .find((text) => text.startsWith('The receipt'));
  const lines =
    /```sh\n(.*?)```/s
      .exec(section ?? '')?.[1]
      ?.trim()
      .split('\n') ?? [];
  if (lines.length !== 2) throw new Error('the README has no recipe of two lines under "The receipt"');
  return [lines[0]!, lines[1]!];
}

/** Hash of a disk's content by that recipe; a raw disk needs its second line only. */
export async function hashByHand(path: string, format: 'raw' | 'vhdx'): Promise<string> {
  // Beside the disk: that file system has room for it.
  const folder = await mkdtemp(join(dirname(path), 'by-hand-'));
  try {
    const [plain, hash] = recipeLines();
    if (format === 'raw') await copyFile(path, join(folder, 'disk.plain'));
    else await symlink(path, join(folder, 'disk.vhdx'));
    const { stdout } = await run('sh', ['-c', format === 'raw' ? hash : `set -e\n${plain}\n${hash}`], { cwd: folder });
    return /^[0-9a-f]{32}/.exec(stdout)?.[0] ?? `no hash: ${stdout}`;
  } finally {
    await rm(folder, { recursive: true });
  }
}
