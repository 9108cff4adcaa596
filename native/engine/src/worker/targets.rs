//! The files a move makes at its destination: like their sources, exclusively, durable before anything depends on them, and used through
//! the descriptor that made them.

use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::plan::PlannedDisk;
use crate::disk::{DiskError, ErrorKind};
use crate::file::{
    FileIdentity, HostFile, LockWait, OpenMode, Place, SpaceReturn, Trust, delete_gradually, facts_of_file,
};
use crate::image::{CreateImage, Image, OpenImage, inspect_file, make_image, open_image, opened_apart};
use crate::kill_point::kill_point;
use crate::service::DiskId;
use crate::thread_apart::apart;

/// Nobody has to do with a target that is new; who looks at it all the same (a back-up, a scanner) lets go soon.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// What a move has made at its destination so far.
#[derive(Default)]
pub struct Made {
    /// What has to go when a later one cannot be made.
    pub places: Vec<Arc<Place>>,
    /// One sentence for each that is not like its source in everything.
    pub warnings: Vec<String>,
}

pub struct Target {
    pub disk: DiskId,
    pub image: Image,
    pub place: Arc<Place>,
}

/// Calls to a file system that may hang, with the descriptors `kept` and no others. What `body` opens is closed, or stays with threads
/// that it has started.
pub fn at_destination<T: Send>(
    kept: &[RawFd],
    body: impl FnOnce() -> Result<T, DiskError> + Send,
    about: &Path,
) -> Result<T, DiskError> {
    apart("destination", kept, |_| body()).map_err(|e| DiskError::io("start a thread for", about, e))?
}

/// Of the folders that are held.
pub fn descriptors_of(places: &[Arc<Place>]) -> Vec<RawFd> {
    places.iter().map(|place| place.folder_descriptor()).collect()
}

/// Makes a target like its source, exclusively, and puts it to work. `source`: the file that is served. As all of this file on threads
/// apart: the destination may hang.
pub fn make_target(
    disk: &PlannedDisk,
    source: FileIdentity,
    trust: Trust,
    made: &mut Made,
) -> Result<Target, DiskError> {
    let warnings = &mut made.warnings;
    let (image, place) = opened_apart(&disk.target, || make_like_source(disk, source, trust, warnings))?;
    let place = Arc::new(place);
    made.places.push(Arc::clone(&place));
    Ok(Target { disk: DiskId(disk.disk), image, place })
}

fn make_like_source(
    disk: &PlannedDisk,
    source: FileIdentity,
    trust: Trust,
    warnings: &mut Vec<String>,
) -> Result<(Image, Place), DiskError> {
    let format = disk.format.into();
    let from = HostFile::open(&disk.source, OpenMode::Examine, trust)?;
    if from.identity() != source {
        let message = format!("'{}' is not the file any more that the virtual machine uses", disk.source.display());
        return Err(DiskError::new(ErrorKind::InvalidState, message).at(&disk.source));
    }
    let facts = inspect_file(&from, format)?;
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
        trust,
    };
    let target = make_image(&disk.target, &options)?;
    kill_point("target:created");
    let (image, place, left_out) = target.put_to_work(from.file(), LockWait::AtMost(LOCK_WAIT))?;
    if !left_out.is_empty() {
        warnings.push(format!(
            "'{}' has not everything of '{}' beside its content; this could not be set: {}.",
            disk.target.display(),
            disk.source.display(),
            left_out.join(", ")
        ));
    }
    Ok((image, place))
}

/// For a worker that goes on with the move of another one: what that had made.
pub fn open_target(disk: &PlannedDisk, wait: LockWait<'_>, trust: Trust) -> Result<Target, DiskError> {
    let (image, place) = opened_apart(&disk.target, || {
        let request = OpenImage { path: &disk.target, format: disk.format.into(), writable: true, wait, trust };
        let image = open_image(&request)?;
        let place = found(disk, trust)?.filter(|place| place.identity() == image.file().identity());
        let place = place.ok_or_else(|| {
            let message = format!("'{}' became another file while it was opened", disk.target.display());
            DiskError::new(ErrorKind::InvalidState, message).at(&disk.target)
        })?;
        Ok((image, place))
    })?;
    Ok(Target { disk: DiskId(disk.disk), image, place: Arc::new(place) })
}

pub fn found(disk: &PlannedDisk, trust: Trust) -> Result<Option<Place>, DiskError> {
    Place::find(&disk.target, trust)
}

/// For a move that died before its first copy: a target that is there was made by it if it is not older than the journal.
pub fn is_ours(target: &Place, journal: &Path) -> Result<bool, DiskError> {
    let examined = std::fs::File::open(journal).and_then(|file| facts_of_file(&file));
    let journal = examined.map_err(|e| DiskError::io("examine", journal, e))?;
    Ok(target.facts().born_ns != 0 && journal.born_ns != 0 && target.facts().born_ns >= journal.born_ns)
}

/// Makes anew what such a move had made; a file of somebody else is left alone and refused.
pub fn remake_target(
    disk: &PlannedDisk,
    source: FileIdentity,
    trust: Trust,
    journal: &Path,
    made: &mut Made,
) -> Result<Target, DiskError> {
    // There was room for one of them.
    at_destination(&[], || delete_former(disk, trust, journal), &disk.target)?.wait();
    make_target(disk, source, trust, made)
}

fn delete_former(disk: &PlannedDisk, trust: Trust, journal: &Path) -> Result<SpaceReturn, DiskError> {
    let Some(left) = found(disk, trust)? else { return Ok(SpaceReturn::default()) };
    if !is_ours(&left, journal)? {
        let message = format!("'{}' is there and was not made by this move", disk.target.display());
        return Err(DiskError::new(ErrorKind::AlreadyExists, message).at(&disk.target));
    }
    let (space, deleted) = delete_gradually([&left]);
    deleted.map(|()| space)
}
