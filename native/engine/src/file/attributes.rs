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
