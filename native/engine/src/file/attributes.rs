//! Owner, mode and extended attributes travel with a disk file when it moves.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// A list of attribute names, and one value, as the kernel limits them (XATTR_LIST_MAX, XATTR_SIZE_MAX).
const LIST_MAX: usize = 64 * 1024;
const VALUE_MAX: usize = 64 * 1024;

/// Copies owner, mode and xattrs of one open file to another. Attributes the target's file system or our rights refuse
/// (`security.*` without privilege, a file system without xattrs) are left out and returned by name for a warning. No file of data runs as
/// its owner: such bits of a mode stay behind.
pub fn copy_attributes(from: &File, to: &File) -> std::io::Result<Vec<String>> {
    let metadata = from.metadata()?;
    let mut left_out = Vec::new();
    if std::os::unix::fs::fchown(to, Some(metadata.uid()), Some(metadata.gid())).is_err() {
        left_out.push("owner".to_owned());
    }
    to.set_permissions(std::fs::Permissions::from_mode(metadata.mode() & 0o777))?;
    let mut names = vec![0u8; LIST_MAX];
    let Ok(length) = rustix::fs::flistxattr(from, &mut names[..]) else { return Ok(left_out) };
    let mut value = vec![0u8; VALUE_MAX];
    for name in names[..length].split(|&b| b == 0).filter(|n| !n.is_empty()) {
        let shown = String::from_utf8_lossy(name).into_owned();
        let copied = rustix::fs::fgetxattr(from, name, &mut value[..])
            .and_then(|n| rustix::fs::fsetxattr(to, name, &value[..n], rustix::fs::XattrFlags::empty()));
        if copied.is_err() {
            left_out.push(shown);
        }
    }
    Ok(left_out)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rustix::fs::{XattrFlags, getxattr, setxattr};

    use super::*;

    fn copied(source: &Path, target: &Path) -> Vec<String> {
        let [from, to] = [source, target].map(|path| File::open(path).expect("there"));
        copy_attributes(&from, &to).expect("copied")
    }

    fn set(file: &Path, name: &str, value: &[u8]) -> Result<(), rustix::io::Errno> {
        setxattr(file, name, value, XattrFlags::empty())
    }

    #[test]
    fn owner_mode_and_attributes_go_along() {
        let folder = tempfile::tempdir().expect("a folder");
        let (source, target) = (folder.path().join("source"), folder.path().join("target"));
        for file in [&source, &target] {
            std::fs::write(file, b"").expect("made");
        }
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            std::os::unix::fs::chown(&source, Some(1234), Some(4321)).expect("root may");
        }
        std::fs::set_permissions(&source, std::fs::Permissions::from_mode(0o4640)).expect("ours");
        set(&source, "user.note", b"of the backup").expect("this file system has attributes");
        assert_eq!(copied(&source, &target), Vec::<String>::new());
        let metadata = std::fs::metadata(&target).expect("there");
        assert_eq!(metadata.mode() & 0o7777, 0o640);
        if is_root {
            assert_eq!((metadata.uid(), metadata.gid()), (1234, 4321));
        }
        let mut value = [0u8; 64];
        let length = getxattr(&target, "user.note", &mut value[..]).expect("there");
        assert_eq!(&value[..length], b"of the backup");
    }

    /// A RAM disk takes values that are longer than a block of ext4, which refuses them. Elsewhere there is nothing to see here.
    #[test]
    fn what_the_target_refuses_is_named_and_the_rest_goes_along() {
        let long = vec![7u8; 10_000];
        let folder = tempfile::tempdir().expect("a folder");
        let Ok(memory) = tempfile::tempdir_in("/dev/shm") else { return };
        let (source, target) = (memory.path().join("source"), folder.path().join("target"));
        for file in [&source, &target] {
            std::fs::write(file, b"").expect("made");
        }
        if set(&source, "user.long", &long).is_err() || set(&target, "user.long", &long).is_ok() {
            return;
        }
        set(&source, "user.note", b"short").expect("set");
        assert_eq!(copied(&source, &target), ["user.long"]);
        let mut value = [0u8; 8];
        assert_eq!(getxattr(&target, "user.note", &mut value[..]), Ok(5));
    }
}
