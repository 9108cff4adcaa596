/** Destinations that are not like ext4 and XFS: without fallocate (ext3 here; NFS before 4.2, many FUSE file systems), and overlayfs. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Instance } from '../support/instance.js';
import { loopDevice, mountTmpfs, type Mount } from '../support/mounts.js';
import { lacks } from '../support/requires.js';

const run = promisify(execFile);
const DISK_BYTES = 16 * 2 ** 20;

describe.skipIf(lacks('root', 'losetup', 'mkfs.ext3', 'mkfs.ext4', 'qemu-img'))('a move to another kind of file system', () => {
  let instance: Instance;
  const at = (...place: string[]): string => join(instance.folder, ...place);

  beforeAll(async () => {
    instance = await Instance.start('file-systems');
  });
  afterAll(async () => {
    await instance?.[Symbol.asyncDispose]();
  });

  async function mountNew(name: string, make: string, bytes: number): Promise<Mount> {
    await writeFile(at(`${name}.back`), '');
    await truncate(at(`${name}.back`), bytes);
    await run(make, ['-q', '-F', at(`${name}.back`)]);
    const loop = await loopDevice(at(`${name}.back`));
    await mkdir(at(name));
    await run('mount', [loop.path, at(name)]);
    return {
      path: at(name),
      async [Symbol.asyncDispose]() {
        await run('umount', [at(name)]);
        await loop[Symbol.asyncDispose]();
      },
    };
  }

  async function makeVm(name: string, path: string): Promise<void> {
    await instance.run('New-VM', { Name: name, Path: at(name), VHDPath: path }, { set: 'Existing VHD' });
  }

  const occupied = async (path: string): Promise<number> => (await stat(path)).blocks * 512;

  it('makes fixed disks by writing zeros where space cannot be allocated otherwise', async () => {
    await using ext3 = await mountNew('ext3', 'mkfs.ext3', 400 * 2 ** 20);
    await writeFile(join(ext3.path, 'probe'), '');
    await expect(run('fallocate', ['-l', '4096', join(ext3.path, 'probe')])).rejects.toThrow(/not supported/);
    for (const name of ['new.vhdx', 'new.img']) {
      const path = join(ext3.path, name);
      await instance.run('New-VHD', { Path: [path], SizeBytes: String(DISK_BYTES), Fixed: true }, { set: 'FixedWithoutSource' });
      expect(await occupied(path)).toBeGreaterThanOrEqual(DISK_BYTES);
    }
    await run('qemu-img', ['check', '-q', join(ext3.path, 'new.vhdx')]);
    const content = randomBytes(DISK_BYTES);
    await writeFile(at('full.img'), content);
    await instance.run('New-VHD', { Path: [at('fixed.vhdx')], SizeBytes: String(DISK_BYTES), Fixed: true }, { set: 'FixedWithoutSource' });
    for (const leaf of ['full.img', 'fixed.vhdx']) {
      const name = leaf.split('.')[0]!;
      await makeVm(name, at(leaf));
      await instance.run('Move-VMStorage', { Name: name, DestinationStoragePath: join(ext3.path, name) });
      const moved = join(ext3.path, name, 'Virtual Hard Disks', leaf);
      expect(await occupied(moved)).toBeGreaterThanOrEqual(DISK_BYTES);
      expect(existsSync(at(leaf))).toBe(false);
    }
    expect(Buffer.compare(await readFile(join(ext3.path, 'full/Virtual Hard Disks/full.img')), content)).toBe(0);
  });

  it('takes an overlay over two file systems, where a file and its folder are on different devices', async () => {
    await using upper = await mountNew('upper', 'mkfs.ext4', 200 * 2 ** 20);
    await using lower = await mountTmpfs(at('lower'), 'size=64m');
    await mkdir(join(lower.path, 'from-below'));
    for (const name of ['up', 'work']) await mkdir(join(upper.path, name));
    await mkdir(at('merged'));
    const options = `lowerdir=${lower.path},upperdir=${join(upper.path, 'up')},workdir=${join(upper.path, 'work')},xino=off`;
    await run('mount', ['-t', 'overlay', 'overlay', '-o', options, at('merged')]);
    try {
      await writeFile(at('merged/probe'), '');
      expect((await stat(at('merged/probe'))).dev).not.toBe((await stat(at('merged'))).dev);
      const content = randomBytes(DISK_BYTES);
      await writeFile(at('over.img'), content);
      await makeVm('over', at('over.img'));
      for (const to of ['merged/new', 'merged/from-below']) {
        await instance.run('Move-VMStorage', { Name: 'over', DestinationStoragePath: at(to) });
        expect(Buffer.compare(await readFile(at(to, 'Virtual Hard Disks/over.img')), content)).toBe(0);
      }
      expect(existsSync(at('over.img'))).toBe(false);
      expect(existsSync(at('merged/new/Virtual Hard Disks/over.img'))).toBe(false);
      await instance.run('Move-VMStorage', { Name: 'over', DestinationStoragePath: at('back') });
      expect(Buffer.compare(await readFile(at('back/Virtual Hard Disks/over.img')), content)).toBe(0);
      expect(existsSync(at('merged/from-below/Virtual Hard Disks/over.img'))).toBe(false);
    } finally {
      await run('umount', [at('merged')]);
    }
  });
});
