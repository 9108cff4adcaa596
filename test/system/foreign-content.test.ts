/** An image of another format, or an archive, under the name of a raw disk: refused where somebody attaches it, unless it is meant. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { open, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { errorTable } from '../../src/model/errors.js';
import { Instance } from '../support/instance.js';
import { loopDevice } from '../support/mounts.js';
import { lacks } from '../support/requires.js';
import { Serving } from '../support/serving.js';

const run = promisify(execFile);
const DISK_BYTES = 16 * 2 ** 20;
const QCOW2_MAGIC = Buffer.from('QFI\xfb', 'latin1');

describe.skipIf(lacks('qemu-img', 'qemu-system-x86_64'))('foreign content under the name of a raw disk', () => {
  let instance: Instance;
  const at = (...place: string[]): string => join(instance.folder, ...place);

  beforeAll(async () => {
    instance = await Instance.start('foreign');
  });
  afterAll(async () => {
    await instance?.[Symbol.asyncDispose]();
  });

  const newVm = (name: string, path: string, more: { AllowForeignContent?: boolean } = {}) =>
    instance.collect('New-VM', { Name: name, Path: at(name), VHDPath: path, ...more }, { set: 'Existing VHD' });

  /** As qemu-img makes them, and whether it knows how (QED and Parallels may be left out of a distribution's). */
  const images: readonly (readonly [string, string, readonly string[]])[] = [
    ['qcow2', 'a qcow2 image', []],
    ['qed', 'a QED image', []],
    ['vhdx', 'a VHDX image', []],
    ['vpc', 'a VHD image', ['-o', 'subformat=dynamic']],
    ['vpc', 'a VHD image', ['-o', 'subformat=fixed']],
    ['vmdk', 'a VMDK image', []],
    ['vdi', 'a VDI image', []],
    ['parallels', 'a Parallels image', []],
  ];
  it.each(images)('%s is refused as %s, by every way in, and stays as it was', async (format, what, options) => {
    const name = [format, ...options].join('').replace(/[^a-z]/g, '');
    const path = at(`${name}.img`);
    await run('qemu-img', ['create', '-q', '-f', format, ...options, path, String(DISK_BYTES)]);
    // QED's header is shorter than a cluster; a raw disk is a whole number of sectors.
    const handle = await open(path, 'r+');
    const { size } = await handle.stat();
    if (size % 512 !== 0) await handle.truncate(Math.ceil(size / 512) * 512);
    await handle.close();
    const hash = async (): Promise<string> =>
      createHash('sha256')
        .update(await readFile(path))
        .digest('hex');
    const before = await hash();
    const { errors } = await newVm(name, path);
    expect(errors[0]?.message).toContain(`its content is ${what}`);
    expect(errors[0]?.message).toContain('-AllowForeignContent');
    expect(errors[0]?.code).toBe('ImageUnsupported');
    const served = await Serving.refusal([path, '--nbd', at('s.sock'), '--read-only']);
    expect(served.stderr).toContain(`its content is ${what}`);
    expect(served.code).toBe(errorTable.ImageUnsupported[0]);
    expect(await hash()).toBe(before);
  });

  it('an archive, also where its length is no whole number of sectors', async () => {
    await writeFile(at('disk.img'), gzipSync(Buffer.alloc(100_000, 'x')));
    const odd = await newVm('odd', at('disk.img'));
    expect(odd.errors[0]).toMatchObject({ code: 'ImageCorrupt', message: expect.stringContaining('its content is gzip data') });
    await truncate(at('disk.img'), 4096);
    expect((await newVm('odd', at('disk.img'))).errors[0]).toMatchObject({ code: 'ImageUnsupported' });
  });

  it('a name that promises VHDX over another content says what that is', async () => {
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', at('disk.vhdx'), String(DISK_BYTES)]);
    expect((await newVm('vhdx', at('disk.vhdx'))).errors[0]?.message).toContain('its content is a qcow2 image');
  });

  it.skipIf(lacks('root', 'losetup'))('a block device with a qcow2 image on it', async () => {
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', at('device.back'), String(DISK_BYTES)]);
    await truncate(at('device.back'), DISK_BYTES);
    await using device = await loopDevice(at('device.back'));
    expect((await newVm('device', device.path)).errors[0]).toMatchObject({ code: 'ImageUnsupported' });
    expect((await newVm('device', device.path, { AllowForeignContent: true })).errors).toEqual([]);
    await instance.run('Remove-VM', { Name: ['device'], Force: true });
  });

  it('is attached and served when that is meant', async () => {
    const path = at('meant.img');
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', path, String(DISK_BYTES)]);
    const size = 2 ** 18; // whole sectors, as it has once something was written into it
    await truncate(path, size);
    {
      await using serving = await Serving.start(path, at('m.sock'), '--allow-foreign-content');
      const { stdout } = await run('qemu-img', ['info', '--output=json', '-f', 'raw', serving.uri]);
      expect(JSON.parse(stdout)).toMatchObject({ 'virtual-size': size });
    }
    expect((await newVm('meant', path, { AllowForeignContent: true })).errors).toEqual([]);
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', at('second.img'), String(DISK_BYTES)]);
    await truncate(at('second.img'), size);
    const bound = { VMName: ['meant'], Path: at('second.img') };
    expect(await instance.refusal('Add-VMHardDiskDrive', bound)).toMatchObject({ code: 'ImageUnsupported' });
    await instance.run('Add-VMHardDiskDrive', { ...bound, AllowForeignContent: true });
  });

  it('that a guest has written does not keep its VM from starting and moving', async () => {
    const path = at('guest.img');
    await instance.run('New-VHD', { Path: [path], SizeBytes: String(DISK_BYTES), Dynamic: true }, { set: 'DynamicWithoutSource' });
    expect((await newVm('guest', path)).errors).toEqual([]);
    const handle = await open(path, 'r+');
    await handle.write(QCOW2_MAGIC, 0, QCOW2_MAGIC.length, 0);
    await handle.close();
    await instance.run('Start-VM', { Name: ['guest'] });
    await instance.run('Move-VMStorage', { Name: 'guest', DestinationStoragePath: at('moved') });
    expect(await instance.run('Get-VM', { Name: ['guest'] })).toMatchObject([{ State: 'Running' }]);
    await instance.run('Stop-VM', { Name: ['guest'], TurnOff: true });
    const moved = await readFile(at('moved/Virtual Hard Disks/guest.img'));
    expect(moved.subarray(0, 4)).toEqual(QCOW2_MAGIC);
    expect(moved.length).toBe(DISK_BYTES);
  });
});
