/**
 * File systems that the kernel makes up: they show its own objects as files, have no room (statfs says 0 bytes, so that "not enough space"
 * would be the next thing said of them) and keep nothing. Told by the type of the mount, from /proc/self/mountinfo: that asks no file system.
 */
import * as fs from 'node:fs/promises';

/** Those that have no device below them (`nodev`) and take no files of an ordinary program; tmpfs, overlay and those over a network do. */
const ofTheKernel: ReadonlySet<string> = new Set([
  ...['proc', 'sysfs', 'cgroup', 'cgroup2', 'devpts', 'devtmpfs', 'mqueue', 'debugfs', 'tracefs', 'securityfs', 'configfs', 'pstore'],
  ...['bpf', 'efivarfs', 'fusectl', 'binfmt_misc', 'rpc_pipefs', 'nfsd', 'selinuxfs', 'autofs', 'resctrl', 'functionfs', 'hugetlbfs'],
]);

interface MountedAt {
  readonly device: string;
  readonly type: string;
}

/** `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`: the device, and behind the dash the type (proc_pid_mountinfo(5)). */
export function parseMountInfo(text: string): readonly MountedAt[] {
  return text.split('\n').flatMap((line) => {
    const [before = '', behind = ''] = line.split(' - ');
    const [device, type] = [before.split(' ')[2], behind.split(' ')[0]];
    return device && type ? [{ device, type }] : [];
  });
}

/** The type of the file system that `folder` is on when it is one of the kernel's own, else null. */
export async function kernelFileSystem(folder: string): Promise<string | null> {
  const { dev } = await fs.stat(folder, { bigint: true });
  const device = `${major(dev)}:${minor(dev)}`;
  const found = parseMountInfo(await fs.readFile('/proc/self/mountinfo', 'utf8')).find((mount) => mount.device === device);
  return found && ofTheKernel.has(found.type) ? found.type : null;
}

/** As gnu_dev_major(3) takes st_dev apart. */
function major(device: bigint): bigint {
  return ((device >> 8n) & 0xfffn) | ((device >> 32n) & ~0xfffn);
}

function minor(device: bigint): bigint {
  return (device & 0xffn) | ((device >> 12n) & ~0xffn);
}
