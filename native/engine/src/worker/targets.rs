//! The files a move makes at its destination: like their sources, exclusively, durable before anything depends on them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::plan::{Plan, PlannedDisk};
use crate::disk::{DiskError, ErrorKind};
use crate::file::{LockWait, SpaceReturn, copy_attributes, delete_gradually};
use crate::image::{CreateImage, Image, OpenImage, create_image, inspect_image, open_image_apart};
use crate::service::DiskId;
use crate::thread_apart::apart;

/// Nobody has to do with a target that is new; who looks at it all the same (a back-up, a scanner) lets go soon.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// What a move has made at its destination so far.
#[derive(Default)]
pub struct Made {
    /// What has to go when a later one cannot be made.
    pub paths: Vec<PathBuf>,
    /// One sentence for each that is not like its source in everything.
    pub warnings: Vec<String>,
}

/// Makes every target like its source, exclusively, and opens and locks it. As all of this file on threads apart: the destination may hang.
pub fn make_targets(plan: &Plan, made: &mut Made) -> Result<Vec<(DiskId, Image)>, DiskError> {
    plan.disks
        .iter()
        .map(|disk| {
            make_target(disk, made)?;
            open_target(disk, LockWait::AtMost(LOCK_WAIT))
        })
        .collect()
}

pub fn make_target(disk: &PlannedDisk, made: &mut Made) -> Result<(), DiskError> {
    at_destination(|| make_like_source(disk, made), &disk.target)
}

/// Calls to a file system that may hang. What `body` opens is closed, or stays with threads that it has started.
pub fn at_destination<T: Send>(
    body: impl FnOnce() -> Result<T, DiskError> + Send,
    about: &Path,
) -> Result<T, DiskError> {
    apart("destination", &[], |_| body()).map_err(|e| DiskError::io("start a thread for", about, e))?
}

fn make_like_source(disk: &PlannedDisk, made: &mut Made) -> Result<(), DiskError> {
    let format = disk.format.into();
    let facts = inspect_image(&disk.source, format)?;
    let identity = facts.identity.map_err(|why| {
        let message = format!("'{}' cannot be moved: {why}", disk.source.display());
        DiskError::new(ErrorKind::Unsupported, message).at(&disk.source)
    })?;
    let options = CreateImage {
        format,
        kind: facts.kind,
        size_bytes: facts.geometry.size_bytes,
        block_bytes: (facts.block_bytes > 0).then_some(facts.block_bytes),
        logical_sector_bytes: Some(facts.geometry.logical_sector_bytes),
        physical_sector_bytes: Some(facts.geometry.physical_sector_bytes),
        identity,
    };
    create_image(&disk.target, &options)?;
    made.paths.push(disk.target.clone());
    let left_out = copy_attributes(&disk.source, &disk.target)?;
    if !left_out.is_empty() {
        made.warnings.push(format!(
            "'{}' has not everything of '{}' beside its content; this could not be set: {}.",
            disk.target.display(),
            disk.source.display(),
            left_out.join(", ")
        ));
    }
    Ok(())
}

pub fn open_target(disk: &PlannedDisk, wait: LockWait<'_>) -> Result<(DiskId, Image), DiskError> {
    let request = OpenImage { path: &disk.target, format: disk.format.into(), writable: true, wait };
    Ok((DiskId(disk.disk), open_image_apart(&request)?))
}

/// For a move that died before its first copy: a target that is there was made by it if it is not older than the journal.
pub fn is_ours(disk: &PlannedDisk, journal: &Path) -> Result<bool, DiskError> {
    let born =
        |path: &Path| std::fs::metadata(path).and_then(|m| m.created()).map_err(|e| DiskError::io("examine", path, e));
    Ok(born(&disk.target)? >= born(journal)?)
}

/// Makes anew what such a move had made; a file of somebody else is left alone and refused.
pub fn remake_target(disk: &PlannedDisk, journal: &Path, made: &mut Made) -> Result<(), DiskError> {
    // There was room for one of them.
    at_destination(|| delete_former(disk, journal), &disk.target)?.wait();
    make_target(disk, made)
}

fn delete_former(disk: &PlannedDisk, journal: &Path) -> Result<SpaceReturn, DiskError> {
    if disk.target.symlink_metadata().is_err() {
        return Ok(SpaceReturn::default());
    }
    if !is_ours(disk, journal)? {
        let message = format!("'{}' is there and was not made by this move", disk.target.display());
        return Err(DiskError::new(ErrorKind::AlreadyExists, message).at(&disk.target));
    }
    let (space, deleted) = delete_gradually([disk.target.as_path()]);
    deleted.map(|()| space)
}
