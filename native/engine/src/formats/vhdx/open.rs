//! Opening: everything is read and judged, through the log's overlay where there is one, before anything is written.
//!
//! ```text
//!   file id → headers → log ─(dirty)→ overlay ┐
//!                        └──(clean)───────────┴→ region table → metadata → BAT → judged
//!                                                  writable and dirty: replay into the file, durably → map
//! ```

use std::borrow::Cow;

use uuid::Uuid;
use zerocopy::FromBytes;

use super::bat::Bat;
use super::error::{Refusal, VhdxError};
use super::header::{self, Headers};
use super::layout::*;
use super::map::VhdxMap;
use super::metadata::{self, CARRIED_BYTES_MAX, CarriedItem, Metadata};
use super::overlay::{Overlaid, Overlay};
use super::region::{self, Regions};
use super::replay::{self, Replay};
use crate::disk::{DiskError, Geometry};
use crate::file::{ReadAt, WriteAt};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VhdxKind {
    Dynamic,
    Fixed,
}

/// What Get-VHD tells about a file, and what a move carries over to the new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VhdxFacts {
    pub kind: VhdxKind,
    /// The virtual disk.
    pub size_bytes: u64,
    /// The file as it is; after a replay it may be longer.
    pub file_bytes: u64,
    pub block_bytes: u64,
    pub logical_sector_bytes: u32,
    pub physical_sector_bytes: u32,
    /// VirtualDiskId: stays with the disk when it moves.
    pub disk_id: Uuid,
    /// DataWriteGuid: changes when the content does.
    pub data_write_guid: Uuid,
    /// Not closed cleanly: the log has to be replayed before anyone may rely on the file.
    pub dirty_log: bool,
    /// Blocks that have a place in the file, after replay.
    pub allocated_blocks: u64,
    pub blocks: u64,
    /// The program that made the file, as it called itself.
    pub creator: String,
    /// Metadata items beside the known ones; `None`: more than a move can carry over.
    pub carried: Option<Vec<CarriedItem>>,
    /// What a person should know of the file, a sentence each.
    pub warnings: Vec<String>,
}

/// What makes a disk this disk, whatever file it lies in: a move keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VhdxIdentity {
    pub disk_id: Uuid,
    /// Names the content: children of this disk name their parent's by it.
    pub data_write_guid: Uuid,
    pub carried: Vec<CarriedItem>,
}

impl VhdxFacts {
    pub fn geometry(&self) -> Geometry {
        Geometry {
            size_bytes: self.size_bytes,
            logical_sector_bytes: self.logical_sector_bytes,
            physical_sector_bytes: self.physical_sector_bytes,
        }
    }

    /// `Err`: why the disk cannot be made anew in another file without a loss.
    pub fn identity(&self) -> Result<VhdxIdentity, String> {
        let carried = self.carried.clone().ok_or_else(|| {
            format!("its metadata holds more than {} MiB of items that are not known here", CARRIED_BYTES_MAX / MIB)
        })?;
        Ok(VhdxIdentity { disk_id: self.disk_id, data_write_guid: self.data_write_guid, carried })
    }
}

/// An open image.
pub struct VhdxImage {
    pub facts: VhdxFacts,
    pub map: VhdxMap,
    overlay: Overlay,
}

impl VhdxImage {
    /// What a reader has to lay over what it reads from the file; empty unless a dirty image was opened read-only.
    ///
    /// An extent of the map may then lie behind the real end of the file: those bytes are zeros before the overlay applies.
    pub fn overlay(&self) -> &Overlay {
        &self.overlay
    }

    pub fn into_parts(self) -> (VhdxFacts, VhdxMap, Overlay) {
        (self.facts, self.map, self.overlay)
    }
}

/// Opens an image. `file` is not O_DIRECT (set the flag afterwards) and is locked by the caller.
///
/// * `writable`: a dirty log is replayed into the file first; it is durable when this returns. A clean file is not written
///   before the first `map_write`.
/// * otherwise nothing is ever written; a dirty log is replayed into [`VhdxImage::overlay`].
///
/// Fails with `Corrupt` or `Unsupported` naming the broken rule, and then the file is unchanged; or with the I/O error.
pub fn open<F: WriteAt>(file: &F, writable: bool) -> Result<VhdxImage, DiskError> {
    let Judged { mut headers, regions, bat, facts, metadata, replay } = judge(file)?;
    let mut file_len = facts.file_bytes;
    let mut overlay = Overlay::default();
    if writable {
        headers.check_writable().map_err(VhdxError::from)?;
        if let Some(replay) = &replay {
            headers = replay::apply(file, replay, headers)?;
            file_len = file_len.max(replay.overlay.file_len());
        } else {
            // The first log entry will say that this length is durable; a process killed before us may not have flushed it.
            file.sync().map_err(VhdxError::io("flush"))?;
        }
    } else if let Some(replay) = replay {
        overlay = replay.overlay;
    }
    let map = VhdxMap::new(bat, &metadata, &regions, headers, file_len, writable);
    Ok(VhdxImage { facts, map, overlay })
}

/// Reads and judges a file as [`open`] does, without keeping it open and without writing.
pub fn inspect(file: &impl ReadAt) -> Result<VhdxFacts, DiskError> {
    Ok(judge(file)?.facts)
}

struct Judged {
    headers: Headers,
    regions: Regions,
    metadata: Metadata,
    bat: Bat,
    facts: VhdxFacts,
    replay: Option<Replay>,
}

fn judge(file: &impl ReadAt) -> Result<Judged, VhdxError> {
    let file_len = file.len().map_err(VhdxError::io("measure"))?;
    if file_len < FILE_ID_BYTES as u64 {
        return Err(Refusal::NotVhdx.into());
    }
    let mut id = [0; FILE_ID_BYTES];
    file.read_exact_at(&mut id, FILE_ID_OFFSET).map_err(VhdxError::io("read"))?;
    let id = FileId::read_from_bytes(&id).ok().filter(|id| id.signature == FILE_SIGNATURE).ok_or(Refusal::NotVhdx)?;
    if file_len < HEADER_SECTION_BYTES {
        return Err(Refusal::TooShort { len: file_len }.into());
    }
    if file_len > FILE_BYTES_MAX {
        return Err(Refusal::TooLong { len: file_len }.into());
    }
    let headers = header::read(file, file_len)?;
    let replay = match headers.current.log_guid.is_nil() {
        true => None,
        false => Some(replay::prepare(file, file_len, &headers)?),
    };
    let overlay = match &replay {
        Some(replay) => Cow::Borrowed(&replay.overlay),
        None => Cow::Owned(Overlay::new([], file_len)),
    };
    let view = Overlaid { file, real_len: file_len, overlay: &overlay };
    let regions = region::read(&view, overlay.file_len(), headers.current.log)?;
    let metadata = metadata::read(&view, regions.metadata)?;
    let bat = Bat::read(&view, overlay.file_len(), &regions, &metadata)?;
    let carried = metadata::read_carried(&view, regions.metadata)?;
    let facts = VhdxFacts {
        kind: if metadata.fixed { VhdxKind::Fixed } else { VhdxKind::Dynamic },
        size_bytes: metadata.disk_bytes,
        file_bytes: file_len,
        block_bytes: metadata.block_bytes,
        logical_sector_bytes: metadata.logical_sector_bytes,
        physical_sector_bytes: metadata.physical_sector_bytes,
        disk_id: metadata.disk_id,
        data_write_guid: headers.current.data_write_guid,
        dirty_log: replay.is_some(),
        allocated_blocks: bat.allocated_blocks,
        blocks: bat.geometry.blocks,
        creator: creator(&id),
        carried,
        warnings: warnings(&regions, &bat),
    };
    Ok(Judged { headers, regions, metadata, bat, facts, replay })
}

fn warnings(regions: &Regions, bat: &Bat) -> Vec<String> {
    let mut warnings = Vec::new();
    if bat.mended_bitmaps > 0 {
        warnings.push(format!(
            "{} sector bitmap entries of its block allocation table say 'zero', as QEMU wrote them until April 2023; they are read as empty. \
             The same fault of QEMU could also move blocks: check the file systems inside.",
            bat.mended_bitmaps
        ));
    }
    for region in &regions.unknown {
        warnings
            .push(format!("It has an optional region {region} that is not known here; a move does not carry it over."));
    }
    warnings
}

fn creator(id: &FileId) -> String {
    let units = id.creator.iter().map(|unit| unit.get()).take_while(|unit| *unit != 0);
    char::decode_utf16(units).map(|c| c.unwrap_or('\u{fffd}')).collect()
}
