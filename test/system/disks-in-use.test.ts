/**
 * A disk that somebody has is never attached, started with or served: mounted (here, or in a mount namespace nobody thinks of), swap, a
 * partition of it in use, the host's own root disk, a file under a loop device. What is on it stays as it was.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, lstatSync } from 'node:fs';
import { mkdir, open, readFile, truncate, writeFile } from 'node:fs/promises';
import { constants } from 'node:fs';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { errorTable } from '../../src/model/errors.js';
import { Instance } from '../support/instance.js';
import { isMounted, loopDevice, type Mount } from '../support/mounts.js';
import { lacks } from '../support/requires.js';
import { Serving } from '../support/serving.js';

const run = promisify(execFile);

const DEVICE_BYTES = 32 * 2 ** 20;

describe.skipIf(
  lacks('root', 'losetup', 'mkfs.ext4', 'e2fsck', 'findmnt', 'unshare', 'mkswap', 'addpart', 'delpart', 'mknod', 'qemu-system-x86_64'),
)('a disk in use', () => {
  let instance: Instance;
  const at = (...place: string[]): string => join(instance.folder, ...place);

  beforeAll(async () => {
    instance = await Instance.start('in-use');
    await instance.run('New-VM', { Name: 'vm', Path: at('vm') });
  });
  afterAll(async () => {
    await instance?.[Symbol.asyncDispose]();
  });

  async function makeBack(name: string, format = true): Promise<string> {
    await writeFile(at(name), '');
    await truncate(at(name), DEVICE_BYTES);
    if (format) await run('mkfs.ext4', ['-q', '-F', at(name)]);
    return at(name);
  }

  /** By every way in, each naming the disk and who has it. */
  async function expectRefused(path: string, who: RegExp): Promise<void> {
    const ways = [
      instance.refusal('New-VM', { Name: 'other', Path: at('other'), VHDPath: path }, { set: 'Existing VHD' }),
      instance.refusal('Add-VMHardDiskDrive', { VMName: ['vm'], Path: path }),
    ];
    for (const way of ways) {
      const refusal = await way;
      expect(refusal.message).toMatch(who);
      expect(refusal.message).toContain(path);
      expect(refusal.code).toBe('ObjectInUse');
    }
    for (const readOnly of [[], ['--read-only']]) {
      const { code, stderr } = await Serving.refusal([path, '--nbd', at('s.sock'), ...readOnly]);
      expect(stderr).toMatch(who);
      expect(code).toBe(errorTable.ObjectInUse[0]);
    }
    expect(await instance.run('Get-VMHardDiskDrive', { VMName: ['vm'] })).toEqual([]);
    expect(existsSync(at('other'))).toBe(false);
  }

  async function mounted(device: string, folder: string): Promise<Mount> {
    await mkdir(folder, { recursive: true });
    await run('mount', [device, folder]);
    return { path: folder, [Symbol.asyncDispose]: async () => void (await run('umount', [folder])) };
  }

  it('that is mounted', async () => {
    await using device = await loopDevice(await makeBack('mounted.back'));
    {
      await using mount = await mounted(device.path, at('mnt on it'));
      await writeFile(join(mount.path, 'precious'), 'precious');
      await expectRefused(device.path, /it is mounted at '.*\/mnt on it' \(ext4\)/);
    }
    await run('e2fsck', ['-fn', device.path]); // exit code 0: nothing to mend
  });

  it('that is mounted in another mount namespace alone', async () => {
    await using device = await loopDevice(await makeBack('namespace.back'));
    await mkdir(at('elsewhere'));
    const script = `mount ${device.path} ${at('elsewhere')} && echo mounted && exec sleep 600`;
    const holder: ChildProcess = spawn('unshare', ['--mount', 'sh', '-c', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    const exit = once(holder, 'exit');
    try {
      await once(holder.stdout!, 'data');
      expect(isMounted(at('elsewhere'))).toBe(false);
      await expectRefused(device.path, new RegExp(`mounted at '.*/elsewhere' \\(ext4\\) in the mount namespace of process ${holder.pid}`));
    } finally {
      holder.kill();
      await exit;
    }
  });

  it('of which a partition is mounted, and the whole of one that is attached by a partition', async () => {
    const back = await makeBack('parts.back', false);
    await using device = await loopDevice(back);
    const whole = device.path;
    const name = basename(whole);
    // Told to the kernel, as a table on the disk would be: not every kernel reads those of loop devices.
    await run('addpart', [whole, '1', '2048', '32768']);
    try {
      // A node of our own: nobody may be there to make /dev/loop0p1.
      const numbers = await readFile(`/sys/block/${name}/${name}p1/dev`, 'utf8');
      const partition = at('partition');
      await run('mknod', [partition, 'b', ...numbers.trim().split(':')]);
      await run('mkfs.ext4', ['-q', '-F', partition]);
      {
        await using mount = await mounted(partition, at('part'));
        expect(isMounted(mount.path)).toBe(true);
        await expectRefused(whole, /a disk whose partition loop\d+p1 is mounted at '.*\/part' \(ext4\)/);
        await expectRefused(partition, /it is mounted at '.*\/part' \(ext4\)/);
      }
    } finally {
      await run('delpart', [whole, '1']);
    }
  });

  it('that is swap space', async () => {
    await using device = await loopDevice(await makeBack('swap.back', false));
    await run('mkswap', ['-q', device.path]);
    await run('swapon', [device.path]);
    try {
      await expectRefused(device.path, /it is used as swap space/);
    } finally {
      await run('swapoff', [device.path]);
    }
  });

  it('that is open in a program which has it exclusively', async () => {
    await using device = await loopDevice(await makeBack('program.back', false));
    const handle = await open(device.path, constants.O_RDWR | constants.O_EXCL);
    try {
      await expectRefused(device.path, new RegExp(`open in process ${process.pid} `));
    } finally {
      await handle.close();
    }
  });

  it("that holds the host's root file system", async () => {
    const { stdout } = await run('findmnt', ['-n', '-o', 'SOURCE', '/']);
    const root = stdout.trim();
    // In a container there may be none to name.
    if (!root.startsWith('/dev/') || !lstatSync(root).isBlockDevice()) return;
    await expectRefused(root, /it is mounted at '\/' /);
  });

  it('that is a file under a loop device', async () => {
    const back = await makeBack('under.img');
    await using device = await loopDevice(back);
    await expectRefused(back, new RegExp(`it is the file behind the loop device ${device.path}`));
    await using mount = await mounted(device.path, at('over'));
    expect(isMounted(mount.path)).toBe(true);
    await expectRefused(back, /which is mounted at '.*\/over' \(ext4\)/);
  });

  it('keeps a VM that has it from starting, says who has it, and lets it start when it is free', async () => {
    const image = await makeBack('image.img');
    await using device = await loopDevice(await makeBack('device.back'));
    await instance.run('New-VM', { Name: 'two', Path: at('two'), VHDPath: image }, { set: 'Existing VHD' });
    await instance.run('Add-VMHardDiskDrive', { VMName: ['two'], Path: device.path });
    const expectNotStarted = async (who: RegExp): Promise<void> => {
      const refusal = await instance.refusal('Start-VM', { Name: ['two'] });
      expect(refusal.message).toMatch(who);
      expect(refusal.message).toContain('"two" could not be started');
      expect(refusal.code).toBe('ObjectInUse');
      expect(await instance.run('Get-VM', { Name: ['two'] })).toMatchObject([{ State: 'Off' }]);
    };
    {
      await using mount = await mounted(device.path, at('mounted'));
      expect(isMounted(mount.path)).toBe(true);
      await expectNotStarted(/mounted at '.*\/mounted' \(ext4\)/);
    }
    {
      await using over = await loopDevice(image);
      await expectNotStarted(new RegExp(`the file behind the loop device ${over.path}`));
    }
    await instance.run('Start-VM', { Name: ['two'] });
    // QEMU holds the claim, whatever becomes of the host.
    await instance.killHost();
    await expect(run('mount', [device.path, at('mounted')])).rejects.toThrow(/busy|already mounted/);
    await instance.startHost();
    expect(await instance.run('Get-VM', { Name: ['two'] })).toMatchObject([{ State: 'Running' }]);
    await instance.run('Stop-VM', { Name: ['two'], TurnOff: true });
    await using mount = await mounted(device.path, at('mounted'));
    expect(isMounted(mount.path)).toBe(true);
  });
});
