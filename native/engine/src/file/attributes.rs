//! Owner, mode and extended attributes travel with a disk file when it moves.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::disk::DiskError;

/// A list of attribute names, and one value, as the kernel limits them (XATTR_LIST_MAX, XATTR_SIZE_MAX).
const LIST_MAX: usize = 64 * 1024;
const VALUE_MAX: usize = 64 * 1024;

/// Copies owner, mode and xattrs of `source` to `target`. Attributes the target's file system or our rights refuse
/// (`security.*` without privilege, a file system without xattrs) are left out and returned by name for a warning.
pub fn copy_attributes(source: &Path, target: &Path) -> Result<Vec<String>, DiskError> {
    let from = File::open(source).map_err(|e| DiskError::io("open", source, e))?;
    let to = File::open(target).map_err(|e| DiskError::io("open", target, e))?;
    let metadata = from.metadata().map_err(|e| DiskError::io("examine", source, e))?;
    let mut left_out = Vec::new();
    if std::os::unix::fs::fchown(&to, Some(metadata.uid()), Some(metadata.gid())).is_err() {
        left_out.push("owner".to_owned());
    }
    let mode = std::fs::Permissions::from_mode(metadata.mode() & 0o7777);
    to.set_permissions(mode).map_err(|e| DiskError::io("set the mode of", target, e))?;
    let mut names = vec![0u8; LIST_MAX];
    let Ok(length) = rustix::fs::flistxattr(&from, &mut names[..]) else { return Ok(left_out) };
    let mut value = vec![0u8; VALUE_MAX];
    for name in names[..length].split(|&b| b == 0).filter(|n| !n.is_empty()) {
        let shown = String::from_utf8_lossy(name).into_owned();
        let copied = rustix::fs::fgetxattr(&from, name, &mut value[..])
            .and_then(|n| rustix::fs::fsetxattr(&to, name, &value[..n], rustix::fs::XattrFlags::empty()));
        if copied.is_err() {
            left_out.push(shown);
        }
    }
    Ok(left_out)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{XattrFlags, getxattr, setxattr};

    use super::*;

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
        std::fs::set_permissions(&source, std::fs::Permissions::from_mode(0o640)).expect("ours");
        set(&source, "user.note", b"of the backup").expect("this file system has attributes");
        assert_eq!(copy_attributes(&source, &target).expect("copied"), Vec::<String>::new());
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
        assert_eq!(copy_attributes(&source, &target).expect("copied"), ["user.long"]);
        let mut value = [0u8; 8];
        assert_eq!(getxattr(&target, "user.note", &mut value[..]), Ok(5));
    }
}
