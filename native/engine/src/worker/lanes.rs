//! The lanes of a move, opened on its control thread: the reactor's own must not wait for a thread to start.

use std::os::fd::RawFd;

use crate::disk::{DiskError, FileSystemId};
use crate::image::Image;
use crate::reactor::Lane;
use crate::service::{DiskId, Engine};

/// One for each file system that a move of these disks to these targets may have to wait for, but for what the guest itself waits for. Each
/// has the files of its own file system alone: what it keeps open while it hangs, nobody else can use then either.
pub fn open_lanes(engine: &Engine, targets: &[(DiskId, Image)]) -> Result<Vec<Lane>, DiskError> {
    let mut wanted: Vec<(FileSystemId, Vec<RawFd>)> = Vec::new();
    for (disk, image) in targets {
        let (disk, target) = (*disk, (image.file().file_system(), image.file().fd()));
        let source = engine.call(move |s| s.file_of(disk))?;
        let Some(source) = source.filter(|source| source.0 != target.0) else { continue };
        for (file_system, file) in [source, target] {
            match wanted.iter_mut().find(|(have, _)| *have == file_system) {
                Some((_, files)) => files.push(file),
                None => wanted.push((file_system, vec![file])),
            }
        }
    }
    wanted.into_iter().map(|(file_system, files)| engine.open_lane(file_system, &files)).collect()
}
