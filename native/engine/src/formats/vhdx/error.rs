//! Why a VHDX file is refused. Each refusal is a broken rule of the format, named with its section of [MS-VHDX], or a valid
//! demand this engine does not meet.

use std::io;

use uuid::Uuid;

use crate::disk::{DiskError, ErrorKind};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    #[error("the file has {len} bytes, the header section alone needs 1 MiB (2.2)")]
    TooShort { len: u64 },
    #[error("the file is longer ({len} bytes) than any VHDX this engine handles (128 TiB)")]
    TooLong { len: u64 },
    #[error("the file does not begin with 'vhdxfile', so it is not a VHDX (2.2.1)")]
    NotVhdx,
    #[error("neither header has a valid signature and checksum (2.2.2)")]
    NoValidHeader,
    #[error("both headers carry sequence number {sequence} but differ, so neither is current (2.2.2)")]
    HeadersDiffer { sequence: u64 },
    #[error("format version {0}, only version 1 is known (2.2.2)")]
    Version(u16),
    #[error("log version {0}, only version 0 is known (2.2.2)")]
    LogVersion(u16),
    #[error("header sequence number {0} leaves no room for another update (2.2.2)")]
    SequenceExhausted(u64),
    #[error(
        "the log at {offset} of {length} bytes is not a nonempty, 1 MiB aligned range behind the first 1 MiB (2.2.2)"
    )]
    LogPlacement { offset: u64, length: u64 },
    #[error("the log ends at {end}, behind the end of the file at {len} (2.2.2)")]
    LogBeyondEnd { end: u64, len: u64 },
    #[error("the log has {0} bytes, this engine writes and replays at most 64 MiB")]
    LogTooLong(u64),
    #[error("the header names a log (LogGuid is set) but the log holds no valid sequence of entries (2.3.2)")]
    LogWithoutSequence,
    #[error("the log holds so many overlapping entries that no writer can have written it (2.3.2)")]
    LogOverlapping,
    #[error("the log says that {flushed} bytes were on disk, the file has {len}: it was truncated (2.3.1.1)")]
    LogTruncated { flushed: u64, len: u64 },
    #[error(
        "a log entry writes {length} bytes at {offset}, into the headers, the log itself or behind the end of the file (2.3)"
    )]
    LogTarget { offset: u64, length: u64 },
    #[error("a log entry extends the file to {0} bytes, which is out of range (2.3.1.1)")]
    LogExtends(u64),
    #[error("neither region table has a valid signature and checksum (2.2.3)")]
    NoValidRegionTable,
    #[error("the two region tables are valid but name different regions (2.2.3)")]
    RegionTablesDiffer,
    #[error("the region table claims {0} entries, at most 2047 fit (2.2.3.1)")]
    RegionCount(u32),
    #[error("region {0} is listed twice (2.2.3.2)")]
    RegionTwice(Uuid),
    #[error(
        "region {guid} at {offset} of {length} bytes is not a nonempty, 1 MiB aligned range behind the first 1 MiB (2.2.3.2)"
    )]
    RegionPlacement { guid: Uuid, offset: u64, length: u64 },
    #[error("region {guid} ends at {end}, behind the end of the file at {len} (2.2.3.2)")]
    RegionBeyondEnd { guid: Uuid, end: u64, len: u64 },
    #[error("regions, log or header section overlap at {0} (2.2.3.2)")]
    RegionsOverlap(u64),
    #[error("the file requires region {0}, which is unknown (2.2.3.2)")]
    UnknownRegion(Uuid),
    #[error("the {0} region is missing (2.2.3)")]
    RegionMissing(&'static str),
    #[error("the metadata table has no valid signature (2.6.1.1)")]
    MetadataSignature,
    #[error("the metadata table claims {0} entries, at most 2047 fit (2.6.1.1)")]
    MetadataCount(u16),
    #[error("metadata item {0} is listed twice (2.6.1.2)")]
    MetadataTwice(Uuid),
    #[error(
        "metadata item {item} at {offset} of {length} bytes is outside its region, in its table or longer than 1 MiB (2.6.1.2)"
    )]
    MetadataPlacement { item: Uuid, offset: u64, length: u64 },
    #[error("metadata items overlap at {0} of the region (2.6.1.2)")]
    MetadataOverlap(u64),
    #[error("the file requires metadata item {0}, which is unknown (2.6.1.2)")]
    UnknownMetadata(Uuid),
    #[error("the {0} metadata item is missing (2.6.2)")]
    MetadataMissing(&'static str),
    #[error("the {item} metadata item has {length} bytes, not {expected} (2.6.2)")]
    MetadataLength { item: &'static str, length: u64, expected: u64 },
    #[error("block size {0} is not a power of two from 1 MiB to 256 MiB (2.6.2.1)")]
    BlockSize(u64),
    #[error("file parameters carry unknown flags {0:#x} (2.6.2.1)")]
    ParameterFlags(u32),
    #[error("{which} sector size {size} is neither 512 nor 4096 (2.6.2.4, 2.6.2.5)")]
    SectorSize { which: &'static str, size: u64 },
    #[error(
        "virtual disk size {size} is not a multiple of the sector size {sector} from one sector to 64 TiB (2.6.2.2)"
    )]
    DiskSize { size: u64, sector: u64 },
    #[error("it is a differencing disk (parent: {parent}); differencing disks are not supported yet")]
    Differencing { parent: String },
    #[error("the BAT region holds {held} entries, the disk needs {needed} (2.5)")]
    BatTooSmall { held: u64, needed: u64 },
    #[error("BAT entry {index} has reserved bits set: {entry:#x} (2.5.1)")]
    BatReserved { index: u64, entry: u64 },
    #[error("BAT entry {index} has state {state}, which no disk without a parent may have (2.5.1)")]
    BatState { index: u64, state: u64 },
    #[error("BAT entry {index} places its block at {offset}, inside the first 1 MiB (2.5.1)")]
    BatMisplaced { index: u64, offset: u64 },
    #[error("BAT entry {index} places its block up to {end}, behind the end of the file at {len} (2.5.1)")]
    BatBeyondEnd { index: u64, end: u64, len: u64 },
    #[error("two blocks, or a block and a region, share the file range at {0} (2.5, 2.2.3.2)")]
    BatOverlap(u64),
}

impl Refusal {
    /// A valid file that asks for something this engine refuses, as opposed to a broken one.
    fn is_unsupported(&self) -> bool {
        matches!(
            self,
            Refusal::Version(_)
                | Refusal::LogVersion(_)
                | Refusal::TooLong { .. }
                | Refusal::LogTooLong(_)
                | Refusal::UnknownRegion(_)
                | Refusal::UnknownMetadata(_)
                | Refusal::ParameterFlags(_)
                | Refusal::Differencing { .. }
        )
    }
}

/// What may go wrong inside this format: a broken rule, or the operating system.
#[derive(Debug, thiserror::Error)]
pub enum VhdxError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("cannot {doing} a VHDX file")]
    Io {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
}

impl VhdxError {
    /// For `map_err`: names what was being done.
    pub fn io(doing: &'static str) -> impl FnOnce(io::Error) -> VhdxError {
        move |source| VhdxError::Io { doing, source }
    }
}

impl From<VhdxError> for DiskError {
    fn from(error: VhdxError) -> DiskError {
        let message = error.to_string();
        match error {
            VhdxError::Refused(refusal) => {
                let (kind, what) = match refusal.is_unsupported() {
                    true => (ErrorKind::Unsupported, "cannot use the VHDX file: "),
                    false => (ErrorKind::Corrupt, "the VHDX file is corrupt: "),
                };
                DiskError::new(kind, format!("{what}{message}"))
            }
            VhdxError::Io { source, .. } => {
                let kind = match source.raw_os_error() {
                    Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => ErrorKind::NoSpace,
                    Some(libc::EACCES | libc::EPERM) => ErrorKind::PermissionDenied,
                    Some(libc::EROFS | libc::EBADF) => ErrorKind::ReadOnly,
                    Some(libc::EOPNOTSUPP) => ErrorKind::Unsupported,
                    _ => ErrorKind::Io,
                };
                let mut out = DiskError::new(kind, message);
                out.source = Some(source);
                out
            }
        }
    }
}
