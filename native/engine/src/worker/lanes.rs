//! The lanes of a move, opened on its control thread: the reactor's own must not wait for a thread to start.

use crate::disk::DiskError;
use crate::image::Image;
use crate::reactor::Lane;
use crate::service::{DiskId, Engine};

/// One for each file system that a move of these disks to these targets may have to wait for, but for what the guest itself waits for.
pub fn open_lanes(engine: &Engine, targets: &[(DiskId, Image)]) -> Result<Vec<Lane>, DiskError> {
    let mut wanted = Vec::new();
    for (disk, target) in targets {
        let (disk, target) = (*disk, target.file().file_system());
        for file_system in engine.call(move |s| s.file_systems(disk, target))? {
            if !wanted.contains(&file_system) {
                wanted.push(file_system);
            }
        }
    }
    wanted.into_iter().map(|file_system| engine.open_lane(file_system)).collect()
}
