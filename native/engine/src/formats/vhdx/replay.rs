//! Bringing a file up to date with its log (2.3.2): judged first, laid over the file in memory, and only when the whole image
//! has been found valid that way written into it.

use uuid::Uuid;

use super::error::{Refusal, VhdxError};
use super::header::Headers;
use super::layout::*;
use super::log::{self, Change, Entry};
use super::overlay::Overlay;
use crate::file::{ReadAt, WriteAt};

/// What a log has to say to a file, judged.
pub struct Replay {
    entries: Vec<Entry>,
    pub overlay: Overlay,
}

/// Reads and judges the log named by the current header. `file_len` is the file's real length.
pub fn prepare(file: &impl ReadAt, file_len: u64, headers: &Headers) -> Result<Replay, VhdxError> {
    let log = headers.current.log;
    let entries = log::find_sequence(file, log, headers.current.log_guid)?;
    let mut replayed_len = file_len;
    for entry in &entries {
        if entry.flushed_len > file_len {
            return Err(Refusal::LogTruncated { flushed: entry.flushed_len, len: file_len }.into());
        }
        if entry.last_len > FILE_BYTES_MAX {
            return Err(Refusal::LogExtends(entry.last_len).into());
        }
        replayed_len = replayed_len.max(entry.last_len);
    }
    for change in entries.iter().flat_map(|entry| &entry.changes) {
        let (offset, length) = match change {
            Change::Page { file_offset, .. } => (*file_offset, PAGE),
            Change::Zeros { file_offset, len } => (*file_offset, *len),
        };
        // The headers are never written through the log, and a log that rewrites itself has no meaning.
        let end = offset.checked_add(length).filter(|end| *end <= replayed_len);
        let in_log = offset < log.end() && end.is_some_and(|end| end > log.start);
        if offset < REGION_TABLE_OFFSETS[0] || end.is_none() || in_log {
            return Err(Refusal::LogTarget { offset, length }.into());
        }
    }
    let overlay = Overlay::new(entries.iter().flat_map(|entry| &entry.changes), replayed_len);
    Ok(Replay { entries, overlay })
}

/// Writes the log into the file and empties it, durably. A crash at any point leaves a file that replays to the same.
///
/// The steps, each flushed before the next: new FileWriteGuid (2.2.2.1 wants it before any other change); length and
/// contents; headers without LogGuid, twice.
pub fn apply(file: &impl WriteAt, replay: &Replay, headers: Headers) -> Result<Headers, VhdxError> {
    let update = |from: &Headers, log_guid: Uuid, file_write_guid: Uuid| -> Result<Headers, VhdxError> {
        let next = from.next(|header| {
            header.log_guid = log_guid;
            header.file_write_guid = file_write_guid;
        });
        file.write_all_at(&next.current.to_bytes(), next.offset()).map_err(VhdxError::io("update the header of"))?;
        file.sync().map_err(VhdxError::io("flush"))?;
        Ok(next)
    };
    let session = Uuid::new_v4();
    let headers = update(&headers, headers.current.log_guid, session)?;
    let doing = "replay the log of";
    if file.len().map_err(VhdxError::io(doing))? < replay.overlay.file_len() {
        file.set_len(replay.overlay.file_len()).map_err(VhdxError::io(doing))?;
    }
    for change in replay.entries.iter().flat_map(|entry| &entry.changes) {
        match change {
            Change::Page { file_offset, bytes } => file.write_all_at(&bytes[..], *file_offset),
            Change::Zeros { file_offset, len } => file.zero_at(*file_offset, *len),
        }
        .map_err(VhdxError::io(doing))?;
    }
    file.sync().map_err(VhdxError::io("flush"))?;
    let headers = update(&headers, Uuid::nil(), session)?;
    update(&headers, Uuid::nil(), session)
}
