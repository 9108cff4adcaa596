//! Writes the journal's records, each into both slots, and keeps its witness in step with them. Lives on the driver's helper thread.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use zerocopy::IntoBytes;

use super::journal_layout::{Facts, SLOT_BYTES};
use super::marks::Marks;
use super::vocabulary::{JournalPhase, RecordResult, Side};
use super::witness::Witness;
use crate::disk::DiskError;
use crate::kill_point::kill_point;

/// Blocks in `record`; move it to a thread that may.
#[derive(Debug)]
pub struct JournalWriter {
    pub(super) file: File,
    pub(super) path: PathBuf,
    /// Of the newest record that may be in the file.
    pub(super) facts: Facts,
    /// Where the next record goes first: never onto the newest one known to be good.
    pub(super) slot: u64,
    pub(super) marks: Option<Marks>,
    pub(super) witness: Witness,
}

impl JournalWriter {
    /// Writes a record and waits until it is on stable storage in both slots. On an error the result says what whoever opens the
    /// journal may see, and the next record begins with the slot that failed, so that the last good one stays.
    pub fn record(&mut self, phase: JournalPhase) -> (RecordResult, Option<DiskError>) {
        self.facts.sequence += 1;
        self.facts.phase = phase;
        let first = self.slot;
        if phase.authority() == Side::Source
            && self.witness.stands()
            && let Err(error) = self.witness.clear()
        {
            return (RecordResult::Failed, Some(error));
        }
        match self.write_both() {
            Ok(()) => {
                if let Some(marks) = &self.marks {
                    marks.recorded(self.facts.sequence);
                }
                match self.complete_witness() {
                    Ok(()) => (RecordResult::Durable, None),
                    Err(error) => (RecordResult::Unknown, Some(error)),
                }
            }
            // In the page cache, or on the disk, of one slot at least.
            Err((_, error)) if self.slot != first => (RecordResult::Unknown, Some(error)),
            Err((true, error)) if !self.is_seen(first * SLOT_BYTES) => (RecordResult::Failed, Some(error)),
            Err((_, error)) => (RecordResult::Unknown, Some(error)),
        }
    }

    /// From COMMITTED on a witness stands, before anybody acts upon it.
    pub(super) fn complete_witness(&mut self) -> Result<(), DiskError> {
        if self.facts.phase.authority() == Side::Source || self.witness.stands() {
            return Ok(());
        }
        kill_point("before:witness");
        self.witness.set()
    }

    /// The record as it stands, slot after slot; never both at once, so that one is whole at every moment. The error says whether it
    /// was the write that failed, or the sync behind it.
    pub(super) fn write_both(&mut self) -> Result<(), (bool, DiskError)> {
        let block = self.facts.encode();
        for _ in 0..2 {
            self.file
                .write_all_at(block.as_bytes(), self.slot * SLOT_BYTES)
                .map_err(|error| (true, DiskError::io("write a record of the move to", &self.path, error)))?;
            self.file
                .sync_data()
                .map_err(|error| (false, DiskError::io("sync a record of the move to", &self.path, error)))?;
            self.slot ^= 1;
        }
        Ok(())
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
