/** File systems that may hold disks, out of /proc/self/mountinfo, and what their devices do, out of /proc/diskstats. Pure; formats of proc(5). */
export interface Mount {
  readonly path: string;
  /** `major:minor` of st_dev. */
  readonly device: string;
  readonly fileSystem: string;
  /** What is mounted. */
  readonly from: string;
  readonly isReadOnly: boolean;
}

/** Not made of storage, or not for disks. */
const NOT_FOR_DISKS = new Set(
  (
    'proc sysfs devtmpfs devpts cgroup cgroup2 securityfs debugfs tracefs pstore bpf configfs fusectl mqueue hugetlbfs binfmt_misc autofs ' +
    'efivarfs rpc_pipefs nsfs ramfs squashfs iso9660 udf vfat selinuxfs fuse.gvfsd-fuse fuse.portal fuse.lxcfs'
  ).split(' '),
);
const SYSTEM_FOLDERS = /^\/(?:dev|proc|sys|run)(?:\/|$)/;

/** One per file system, by the shortest path it is mounted at; a later mount at the same path hides the earlier one. */
export function mountsForDisks(mountinfo: string): readonly Mount[] {
  const byPath = new Map<string, Mount>();
  for (const line of mountinfo.split('\n')) {
    const [before, after] = line.split(' - ');
    const [, , device, , at, options] = before?.split(' ') ?? [];
    const [fileSystem, from, superOptions] = after?.split(' ') ?? [];
    if (device === undefined || at === undefined || options === undefined || fileSystem === undefined || from === undefined) continue;
    const isReadOnly = options.split(',').includes('ro') || superOptions?.split(',').includes('ro') === true;
    byPath.set(plain(at), { path: plain(at), device, fileSystem, from: plain(from), isReadOnly });
  }
  const byDevice = new Map<string, Mount>();
  for (const mount of [...byPath.values()].sort((a, b) => a.path.length - b.path.length)) {
    if (NOT_FOR_DISKS.has(mount.fileSystem) || SYSTEM_FOLDERS.test(mount.path) || byDevice.has(mount.device)) continue;
    byDevice.set(mount.device, mount);
  }
  return [...byDevice.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** Spaces and the like are written as octal. */
const plain = (text: string): string =>
  text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/** Counted since the boot. */
export interface DeviceActivity {
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly busyMs: number;
}

const SECTOR_BYTES = 512;

/** By `major:minor`. */
export function deviceActivity(diskstats: string): ReadonlyMap<string, DeviceActivity> {
  const all = new Map<string, DeviceActivity>();
  for (const line of diskstats.split('\n')) {
    const [major, minor, , , , read, , , , written, , , busy] = line.trim().split(/\s+/);
    if (busy === undefined) continue;
    all.set(`${major}:${minor}`, {
      bytesRead: Number(read) * SECTOR_BYTES,
      bytesWritten: Number(written) * SECTOR_BYTES,
      busyMs: Number(busy),
    });
  }
  return all;
}
