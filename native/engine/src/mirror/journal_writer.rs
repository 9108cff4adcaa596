//! Writes the journal's records. Lives on the driver's helper thread: shares nothing with the mapped bitmaps but the
//! file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use zerocopy::IntoBytes;

use super::journal_layout::{Facts, SLOT_BYTES};
use super::vocabulary::{JournalPhase, RecordResult};
use crate::disk::DiskError;

/// Blocks in `record`; move it to a thread that may.
#[derive(Debug)]
pub struct JournalWriter {
    pub(super) file: File,
    pub(super) path: PathBuf,
    /// Of the newest record that may be in the file.
    pub(super) facts: Facts,
    /// Where the next record goes: never onto the newest one known to be good.
    pub(super) slot: u64,
}

impl JournalWriter {
    /// Writes a record and waits until it is on stable storage. On an error the result says what whoever opens the
    /// journal may see, and the next record goes to the same slot, so that the last good one stays.
    pub fn record(&mut self, phase: JournalPhase) -> (RecordResult, Option<DiskError>) {
        self.facts.sequence += 1;
        self.facts.phase = phase;
        let block = self.facts.encode();
        let at = self.slot * SLOT_BYTES;
        if let Err(error) = self.file.write_all_at(block.as_bytes(), at) {
            let result = if self.is_seen(at) { RecordResult::Unknown } else { RecordResult::Failed };
            return (result, Some(DiskError::io("write a record of the move to", &self.path, error)));
        }
        if let Err(error) = self.file.sync_data() {
            // In the page cache, and perhaps on the disk.
            return (RecordResult::Unknown, Some(DiskError::io("sync a record of the move to", &self.path, error)));
        }
        self.slot ^= 1;
        (RecordResult::Durable, None)
    }

    /// The phase of the newest record that was tried.
    pub fn phase(&self) -> JournalPhase {
        self.facts.phase
    }

    /// Could the next process read the record just tried? When in doubt, yes.
    fn is_seen(&self, at: u64) -> bool {
        let mut slot = vec![0; SLOT_BYTES as usize];
        match self.file.read_exact_at(&mut slot, at) {
            Ok(()) => Facts::decode(&slot).is_ok_and(|found| found.sequence == self.facts.sequence),
            Err(_) => true,
        }
    }
}
