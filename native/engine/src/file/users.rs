//! Who has a block device, or a file that the kernel itself works on. Only for the message: that a device is in use is what the exclusive
//! open says (see `host_file.rs`), and a user this finds nothing of is still a user.
//!
//! ```text
//!   device M:m ─┬─ /proc/self/mountinfo, then those of other mount namespaces     mounted at ...
//!               ├─ /proc/swaps                                                    swap space
//!               ├─ /sys/dev/block/M:m/holders                                     device mapper, RAID ... and who has those
//!               ├─ its partitions, or the disk it is a partition of               and who has those
//!               └─ /proc/PID/fd                                                   open in a program
//!   file ───────┬─ /sys/block/loopN/loop/backing_file                             a loop device, and who has that
//!               └─ /proc/swaps                                                    swap space
//! ```
//! Any file system of the machine may hang, and what is asked here goes over all that is open on it. So no file system is asked that cannot
//! be the answer: a path is looked at only when the table of mounts has it on the device in question, and always without a refresh
//! (AT_STATX_DONT_SYNC), which FUSE and NFS would send to their servers.

use std::collections::HashSet;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Statx, StatxFlags, statx};

use super::host_file::FileIdentity;

/// Users a message names; further ones say nothing new.
const NAMED_MAX: usize = 3;
/// Device on device on device: deeper stacks are not built.
const DEPTH_MAX: usize = 4;

/// Where the kernel tells of itself. Tests have a tree of their own.
pub struct Users<'a> {
    proc: &'a Path,
    sys: &'a Path,
}

impl Default for Users<'_> {
    fn default() -> Self {
        Self { proc: Path::new("/proc"), sys: Path::new("/sys") }
    }
}

impl Users<'_> {
    /// Who has a block device, as the end of "it is ..."; `None` when nobody is found.
    pub fn of_device(&self, device: u64) -> Option<String> {
        joined(self.device_users(device, DEPTH_MAX))
    }

    /// The kernel's own use of a regular file: its content is a device's, or memory's. Locks do not tell of it.
    pub fn of_file(&self, file: FileIdentity) -> Option<String> {
        let mut found: Vec<String> = self.loop_devices_over(file).iter().map(|name| self.as_loop(name)).collect();
        let mounts = self.own_mounts();
        if self.swap_paths().iter().any(|path| is_at(path, file, &mounts)) {
            found.push("used as swap space".to_owned());
        }
        joined(found)
    }

    fn as_loop(&self, name: &str) -> String {
        let users = read(&self.sys.join("block").join(name).join("dev")).and_then(|text| parse_device(text.trim()));
        let users = users.and_then(|device| self.of_device(device));
        let behind = users.map_or_else(String::new, |users| format!(", which is {users}"));
        format!("the file behind the loop device /dev/{name}{behind}")
    }

    fn device_users(&self, device: u64, depth: usize) -> Vec<String> {
        let mut found = self.mounts(device);
        if self.swap_paths().iter().any(|path| rdev(path) == Some(device)) {
            found.push("used as swap space".to_owned());
        }
        if depth > 0 {
            found.extend(self.holders(device, depth));
            found.extend(self.relatives(device, depth));
        }
        if found.is_empty() && depth == DEPTH_MAX {
            found.extend(self.processes(device));
        }
        found
    }

    /// This process's mounts first: those of a container are the last thing one thinks of, and say whose they are.
    fn mounts(&self, device: u64) -> Vec<String> {
        let own = self.mounts_in(&self.proc.join("self"), device, "");
        if !own.is_empty() {
            return own;
        }
        let mut seen: HashSet<PathBuf> = fs::read_link(self.proc.join("self/ns/mnt")).into_iter().collect();
        for process in self.process_folders() {
            let Ok(namespace) = fs::read_link(process.join("ns/mnt")) else { continue };
            if seen.insert(namespace) {
                let there =
                    self.mounts_in(&process, device, &format!(" in the mount namespace of {}", named(&process)));
                if !there.is_empty() {
                    return there;
                }
            }
        }
        Vec::new()
    }

    fn mounts_in(&self, process: &Path, device: u64, whose: &str) -> Vec<String> {
        let Ok(table) = fs::read(process.join("mountinfo")) else { return Vec::new() };
        let lines = table.split(|byte| *byte == b'\n');
        let mounts = lines.filter_map(parse_mount).filter(|mount| {
            // btrfs shows a number of its own, not its devices'; the name leads to them.
            mount.device == device || (mount.source.is_absolute() && rdev(&mount.source) == Some(device))
        });
        mounts.map(|mount| format!("mounted at '{}' ({}){whose}", mount.at.display(), mount.kind)).collect()
    }

    fn own_mounts(&self) -> Vec<Mount> {
        let table = fs::read(self.proc.join("self/mountinfo")).unwrap_or_default();
        table.split(|byte| *byte == b'\n').filter_map(parse_mount).collect()
    }

    fn swap_paths(&self) -> Vec<PathBuf> {
        let Ok(table) = fs::read(self.proc.join("swaps")) else { return Vec::new() };
        let lines = table.split(|byte| *byte == b'\n').skip(1);
        lines.filter_map(|line| line.split(|byte| *byte == b' ' || *byte == b'\t').next()).map(unescape).collect()
    }

    fn folder_of(&self, device: u64) -> PathBuf {
        let (major, minor) = (libc::major(device), libc::minor(device));
        self.sys.join("dev/block").join(format!("{major}:{minor}"))
    }

    fn holders(&self, device: u64, depth: usize) -> Vec<String> {
        let holders = entries(&self.folder_of(device).join("holders"));
        holders
            .iter()
            .map(|holder| {
                let name = leaf(holder);
                let mapped = read(&holder.join("dm/name")).map(|text| text.trim().to_owned());
                let what = match mapped {
                    Some(mapped) => format!("part of the device-mapper device '{mapped}' ({name})"),
                    None if holder.join("md").is_dir() => format!("part of the RAID array {name}"),
                    None => format!("part of {name}"),
                };
                self.with_users_of(what, holder, depth)
            })
            .collect()
    }

    /// Partitions of a disk, or the disk of a partition: the kernel gives the one to nobody while another has the other.
    fn relatives(&self, device: u64, depth: usize) -> Vec<String> {
        let folder = self.folder_of(device);
        if folder.join("partition").exists() {
            let Some(disk) = fs::canonicalize(&folder).ok().and_then(|own| own.parent().map(Path::to_owned)) else {
                return Vec::new();
            };
            let held = entries(&disk.join("holders"));
            return held
                .iter()
                .map(|holder| format!("a partition of {}, which {} has", leaf(&disk), leaf(holder)))
                .collect();
        }
        let partitions = entries(&folder).into_iter().filter(|entry| entry.join("partition").exists());
        partitions
            .filter_map(|partition| {
                let users = joined(self.device_users(device_in(&partition)?, depth - 1))?;
                Some(format!("a disk whose partition {} is {users}", leaf(&partition)))
            })
            .collect()
    }

    fn with_users_of(&self, what: String, folder: &Path, depth: usize) -> String {
        let users = device_in(folder).and_then(|device| joined(self.device_users(device, depth - 1)));
        match users {
            Some(users) => format!("{what}, which is {users}"),
            None => what,
        }
    }

    fn processes(&self, device: u64) -> Vec<String> {
        let is_open = |process: &PathBuf| {
            let files = entries(&process.join("fd"));
            leaf(process) != std::process::id().to_string() && files.iter().any(|file| rdev(file) == Some(device))
        };
        let users = self.process_folders().into_iter().filter(is_open).take(NAMED_MAX);
        users.map(|process| format!("open in {}", named(&process))).collect()
    }

    fn process_folders(&self) -> Vec<PathBuf> {
        let is_process = |path: &PathBuf| leaf(path).bytes().all(|byte| byte.is_ascii_digit());
        entries(self.proc).into_iter().filter(is_process).collect()
    }

    fn loop_devices_over(&self, file: FileIdentity) -> Vec<String> {
        let devices = entries(&self.sys.join("block")).into_iter().filter(|path| leaf(path).starts_with("loop"));
        let mounts = self.own_mounts();
        let over = devices.filter(|path| {
            let backing = read(&path.join("loop/backing_file"));
            backing.is_some_and(|text| is_at(Path::new(text.trim_end_matches('\n')), file, &mounts))
        });
        over.map(|path| leaf(&path)).collect()
    }
}

struct Mount {
    device: u64,
    at: PathBuf,
    kind: String,
    source: PathBuf,
}

/// proc_pid_mountinfo(5): `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_mount(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let behind = fields.iter().position(|field| *field == b"-")?;
    Some(Mount {
        device: parse_device(std::str::from_utf8(fields.get(2)?).ok()?)?,
        at: unescape(fields.get(4)?),
        kind: String::from_utf8_lossy(fields.get(behind + 1)?).into_owned(),
        source: unescape(fields.get(behind + 2)?),
    })
}

fn parse_device(text: &str) -> Option<u64> {
    let (major, minor) = text.split_once(':')?;
    Some(libc::makedev(major.parse().ok()?, minor.parse().ok()?))
}

/// The kernel writes space, tab, newline and backslash as `\040` and the like.
fn unescape(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, behind)) = rest.split_first() {
        let octal =
            (first == b'\\').then(|| behind.get(..3)).flatten().and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &behind[3..];
            }
            None => {
                out.push(first);
                rest = behind;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(out))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    found.sort_unstable();
    found
}

fn read(path: &Path) -> Option<String> {
    fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn leaf(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| String::from_utf8_lossy(name.as_bytes()).into_owned())
}

fn named(process: &Path) -> String {
    let name = read(&process.join("comm")).map_or_else(String::new, |text| format!(" ({})", text.trim()));
    format!("process {}{name}", leaf(process))
}

fn device_in(folder: &Path) -> Option<u64> {
    parse_device(read(&folder.join("dev"))?.trim())
}

/// Of a block device's node.
fn rdev(path: &Path) -> Option<u64> {
    let found = look(path)?;
    let is_block_device = FileType::from_raw_mode(found.stx_mode.into()) == FileType::BlockDevice;
    is_block_device.then(|| libc::makedev(found.stx_rdev_major, found.stx_rdev_minor))
}

/// Is `path` this very file? A file system on another device is not asked.
fn is_at(path: &Path, file: FileIdentity, mounts: &[Mount]) -> bool {
    may_hold(mounts, path, file.device) && identity(path) == Some(file)
}

fn identity(path: &Path) -> Option<FileIdentity> {
    let found = look(path)?;
    let is_file = FileType::from_raw_mode(found.stx_mode.into()) == FileType::RegularFile;
    is_file
        .then(|| FileIdentity { device: libc::makedev(found.stx_dev_major, found.stx_dev_minor), inode: found.stx_ino })
}

/// What is known of it already.
fn look(path: &Path) -> Option<Statx> {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    statx(CWD, path, flags, StatxFlags::TYPE | StatxFlags::MODE | StatxFlags::INO).ok()
}

/// False: the mount that has `path` is of another device. These kinds give their files numbers that the table does not have.
fn may_hold(mounts: &[Mount], path: &Path, device: u64) -> bool {
    let deepest =
        mounts.iter().filter(|mount| path.starts_with(&mount.at)).max_by_key(|mount| mount.at.as_os_str().len());
    deepest
        .is_none_or(|mount| mount.device == device || ["btrfs", "overlay", "bcachefs"].contains(&mount.kind.as_str()))
}

fn joined(mut found: Vec<String>) -> Option<String> {
    let more = found.len().saturating_sub(NAMED_MAX);
    found.truncate(NAMED_MAX);
    if more > 0 {
        found.push(format!("{more} more"));
    }
    (!found.is_empty()).then(|| found.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel's tree: files by path, with their text.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn of_device(files: &[(&str, &str)], device: u64) -> Option<String> {
        let folder = tree(files);
        Users { proc: &folder.path().join("proc"), sys: &folder.path().join("sys") }.of_device(device)
    }

    const SDA: u64 = libc::makedev(8, 0);

    #[test]
    fn a_mount_is_named_with_its_folder_and_file_system() {
        let mounts = "22 1 0:20 / /sys rw - sysfs sysfs rw\n23 1 8:0 / /srv/old\\040disks rw,relatime shared:1 - ext4 /dev/sda rw\n";
        let found = of_device(&[("proc/self/mountinfo", mounts)], SDA);
        assert_eq!(found.as_deref(), Some("mounted at '/srv/old disks' (ext4)"));
        assert_eq!(of_device(&[("proc/self/mountinfo", mounts)], libc::makedev(8, 1)), None);
    }

    #[test]
    fn a_mount_in_another_namespace_is_named_with_whose_it_is() {
        let folder = tree(&[
            ("proc/self/mountinfo", "22 1 0:20 / /sys rw - sysfs sysfs rw\n"),
            ("proc/41/mountinfo", "9 1 8:0 / /data rw - xfs /dev/sda rw\n"),
            ("proc/41/comm", "containerd-shim\n"),
        ]);
        fs::create_dir_all(folder.path().join("proc/41/ns")).unwrap();
        std::os::unix::fs::symlink("mnt:[4026532170]", folder.path().join("proc/41/ns/mnt")).unwrap();
        let users = Users { proc: &folder.path().join("proc"), sys: &folder.path().join("sys") };
        let found = users.of_device(SDA);
        assert_eq!(
            found.as_deref(),
            Some("mounted at '/data' (xfs) in the mount namespace of process 41 (containerd-shim)")
        );
    }

    #[test]
    fn device_mapper_and_raid_are_named_with_who_has_those() {
        let files = [
            ("proc/self/mountinfo", "23 1 253:0 / / rw - ext4 /dev/mapper/vg0-root rw\n"),
            ("sys/dev/block/8:0/holders/dm-0/dm/name", "vg0-root\n"),
            ("sys/dev/block/8:0/holders/dm-0/dev", "253:0\n"),
            ("sys/dev/block/8:0/holders/md127/md/level", "raid1\n"),
            ("sys/dev/block/8:0/holders/md127/dev", "9:127\n"),
        ];
        let found = of_device(&files, SDA).unwrap();
        assert_eq!(
            found,
            "part of the device-mapper device 'vg0-root' (dm-0), which is mounted at '/' (ext4), part of the RAID array md127"
        );
    }

    #[test]
    fn a_disk_whose_partition_is_in_use_says_which() {
        let files = [
            ("proc/self/mountinfo", "23 1 8:1 / /boot/efi rw - vfat /dev/sda1 rw\n"),
            ("sys/dev/block/8:0/dev", "8:0\n"),
            ("sys/dev/block/8:0/sda1/partition", "1\n"),
            ("sys/dev/block/8:0/sda1/dev", "8:1\n"),
        ];
        assert_eq!(
            of_device(&files, SDA).as_deref(),
            Some("a disk whose partition sda1 is mounted at '/boot/efi' (vfat)")
        );
    }

    #[test]
    fn a_file_under_a_loop_device_or_in_use_as_swap_is_found_by_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (disk, swap, other) =
            (folder.path().join("disk"), folder.path().join("swap file"), folder.path().join("other"));
        for path in [&disk, &swap, &other] {
            fs::write(path, b"x").unwrap();
        }
        let line = format!("Filename\t\tType\n{}  file 4 0 -2\n", swap.display().to_string().replace(' ', "\\040"));
        let kernel = tree(&[
            ("proc/swaps", &line),
            ("proc/self/mountinfo", "23 1 7:3 / /mnt/image rw - ext4 /dev/loop3 rw\n"),
            ("sys/block/loop3/loop/backing_file", &format!("{}\n", disk.display())),
            ("sys/block/loop3/dev", "7:3\n"),
            ("sys/block/sda/dev", "8:0\n"),
        ]);
        let users = Users { proc: &kernel.path().join("proc"), sys: &kernel.path().join("sys") };
        let of = |path: &Path| users.of_file(identity(path).unwrap());
        let expected = "the file behind the loop device /dev/loop3, which is mounted at '/mnt/image' (ext4)";
        assert_eq!(of(&disk).as_deref(), Some(expected));
        assert_eq!(of(&swap).as_deref(), Some("used as swap space"));
        assert_eq!(of(&other), None);
    }

    #[test]
    fn a_file_system_that_cannot_be_the_answer_is_not_asked() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        fs::write(&disk, b"x").unwrap();
        let of = |mount: &str| {
            let kernel = tree(&[
                ("proc/self/mountinfo", &format!("1 1 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 {mount} rw\n")),
                ("sys/block/loop3/loop/backing_file", &format!("{}\n", disk.display())),
            ]);
            let users = Users { proc: &kernel.path().join("proc"), sys: &kernel.path().join("sys") };
            users.of_file(identity(&disk).unwrap())
        };
        let (at, device) = (folder.path().display(), identity(&disk).unwrap().device);
        let own = format!("{}:{}", libc::major(device), libc::minor(device));
        let found = Some("the file behind the loop device /dev/loop3".to_owned());
        // Were it looked at, it would be found: the table says that it lies elsewhere, where looking might never end.
        assert_eq!(of(&format!("0:77 / {at} rw - fuse.sshfs sshfs")), None);
        assert_eq!(of(&format!("{own} / {at} rw - fuse.sshfs sshfs")), found);
        assert_eq!(
            of(&format!("0:77 / {at} rw - btrfs /dev/sdb")),
            found,
            "whose subvolumes have numbers of their own"
        );
    }
}
