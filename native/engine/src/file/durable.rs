//! What makes a change of names survive a power cut: the folder has to be synced too.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::disk::DiskError;

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// fsync of the folder that holds `path`: after it a creation, a rename or a removal in it is durable.
pub fn sync_folder_of(path: &Path) -> Result<(), DiskError> {
    let folder = folder_of(path);
    let handle = File::open(&folder).map_err(|e| DiskError::io("open folder", &folder, e))?;
    handle.sync_all().map_err(|e| DiskError::io("sync folder", &folder, e))
}

/// Removes a file and makes the removal durable. A file that is not there is as good as removed.
pub fn unlink_durably(path: &Path) -> Result<(), DiskError> {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(DiskError::io("remove", path, e)),
    }
    match sync_folder_of(path) {
        Err(e) if e.source.as_ref().is_some_and(|s| s.kind() == std::io::ErrorKind::NotFound) => Ok(()),
        other => other,
    }
}
