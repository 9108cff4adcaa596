/**
 * A root of its own for a QEMU: a small file system in memory with what QEMU needs of this system, read-only, and nothing else. Disks, homes,
 * sockets and the state of the host are not in it, under no path.
 *
 * ```text
 * unshare (mount, net, ipc, uts) ─▶ sh: root ─▶ setpriv: the guest's user, no capability, no_new_privs ─▶ QEMU
 * /  usr bin lib ... (this system's, read-only)   dev/{null,urandom}   vm = the run folder of the VM, where QEMU works
 * ```
 * The programs are util-linux's; the script is given to `sh -c`, so that there is no file of it to protect. What mounts of this system are
 * in the new namespace go with `umount -l`: a guest that runs keeps no file system of the host busy.
 */
import { basename, dirname, join } from 'node:path';

/**
 * `$1 ... --`: the places, then the program. It works where it was started, which is the run folder, and covers that very folder: it needs no
 * other name on this system. `-c` keeps mount from making a path of ".", which would then be the cover.
 */
export const PRIVATE_ROOT_SCRIPT = `set -eu
umask 022
PATH=/usr/sbin:/usr/bin:/sbin:/bin
root=$(pwd -P)
mount -n -t tmpfs -o mode=0755,nosuid,nodev,noexec,size=1m,nr_inodes=1k vm "$root"
mkdir "$root/vm" "$root/before"
mount -n -c -o bind,nosuid,nodev,noexec . "$root/vm"
while [ "$1" != -- ]; do
  mkdir -p "$root$(dirname "$1")"
  if [ -L "$1" ]; then ln -s "$(readlink "$1")" "$root$1"
  elif [ -d "$1" ]; then mkdir -p "$root$1"; mount -n -o bind,ro,nosuid,nodev "$1" "$root$1"
  elif [ -c "$1" ]; then : >"$root$1"; mount -n -o bind,nosuid,noexec "$1" "$root$1"
  elif [ -e "$1" ]; then : >"$root$1"; mount -n -o bind,ro,nosuid,nodev "$1" "$root$1"
  fi
  shift
done
shift
mount -n -o remount,bind,ro,nosuid,nodev,noexec "$root/vm"
mount -n -o remount,ro "$root"
pivot_root "$root" "$root/before"
chroot /before umount -n -l /
cd /vm
unset OLDPWD
exec "$@"`;

/** Programs, libraries and firmware, wherever a distribution keeps them; what is not there is left out. */
const SYSTEM: readonly string[] = [
  ...['/usr', '/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32', '/nix/store', '/gnu/store'],
  ...['/etc/ld.so.cache', '/etc/ld.so.conf', '/etc/ld.so.conf.d', '/etc/alternatives', '/etc/qemu'],
  ...['/dev/null', '/dev/zero', '/dev/urandom', '/dev/random'],
];
const INSTALLED = /^\/(usr|bin|lib|lib64|nix\/store|gnu\/store)\//;
/** Beside a `bin` that is not this system's: what a QEMU that was built by hand installs. */
const BESIDE_BIN = ['bin', 'lib', 'lib64', 'libexec', 'share'];

/** What QEMU finds in its root. `program`: its path with no link in it. */
export function placesFor(program: string): readonly string[] {
  if (INSTALLED.test(program)) return SYSTEM;
  const folder = dirname(program);
  return [...SYSTEM, ...(basename(folder) === 'bin' ? BESIDE_BIN.map((name) => join(dirname(folder), name)) : [folder])];
}
