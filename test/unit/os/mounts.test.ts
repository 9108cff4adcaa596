/** Which file systems may hold disks, by the kernel's own list. */
import { expect, test } from 'vitest';
import { deviceActivity, mountsForDisks } from '../../../src/os/mounts.js';

const mountinfo = `22 27 0:21 / /proc rw,relatime - proc proc rw
24 27 0:6 / /dev rw,relatime - devtmpfs devtmpfs rw
25 24 0:23 / /dev/shm rw,relatime - tmpfs tmpfs rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
30 27 8:17 / /mnt/my\\040disks rw,noatime shared:7 master:1 - xfs /dev/sdb1 rw
31 27 8:17 /sub /srv/vms/deeper rw,noatime - xfs /dev/sdb1 rw
32 27 0:44 / /mnt/nas rw,relatime - nfs4 nas:/export rw,vers=4.2
33 27 8:33 / /mnt/old ro,relatime - ext4 /dev/sdc1 ro
34 27 8:49 / /boot/efi rw - vfat /dev/sda1 rw
35 27 0:50 / /run/user/0 rw - tmpfs tmpfs rw
36 27 0:51 / /tmp rw - tmpfs tmpfs rw
37 27 8:65 / /tmp rw - ext4 /dev/sde1 rw
`;

test('one per file system at its shortest path; nothing of the kernel, no boot partition; the later mount hides the earlier', () => {
  expect(mountsForDisks(mountinfo)).toEqual([
    { path: '/', device: '254:0', fileSystem: 'ext4', from: '/dev/vda', isReadOnly: false },
    { path: '/mnt/my disks', device: '8:17', fileSystem: 'xfs', from: '/dev/sdb1', isReadOnly: false },
    { path: '/mnt/nas', device: '0:44', fileSystem: 'nfs4', from: 'nas:/export', isReadOnly: false },
    { path: '/mnt/old', device: '8:33', fileSystem: 'ext4', from: '/dev/sdc1', isReadOnly: true },
    { path: '/tmp', device: '8:65', fileSystem: 'ext4', from: '/dev/sde1', isReadOnly: false },
  ]);
});

test('a list that is not as expected costs the lines that are not', () => {
  expect(mountsForDisks('nonsense\n\n1 2 3\n27 1 254:0 / / rw - ext4 /dev/vda rw')).toHaveLength(1);
});

test('bytes and busy time of a device', () => {
  const text = ' 254       0 vda 100 0 2000 50 200 0 4000 70 0 1234 120 0 0 0 0 0 0\n   7       0 loop0 1 2\n';
  expect([...deviceActivity(text)]).toEqual([['254:0', { bytesRead: 1_024_000, bytesWritten: 2_048_000, busyMs: 1234 }]]);
});
