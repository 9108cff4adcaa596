//! What a move knows of one disk: its bitmaps, its requests, where the copier stands.

use std::ops::Range;

use super::chunk_map::ChunkMap;
use super::holes::Holes;
use super::saved_map::{SavedMap, SharedWords};
use super::stage::Halves;
use super::vocabulary::{CHUNK_BYTES, FlushId, VERIFY_UNIT_BYTES};
use super::writes::{WriteTable, chunks_of};
use crate::disk::{ByteRange, DiskError, ErrorKind};

/// Room for requests before a table grows: twice a usual queue depth.
const REQUESTS_FORESEEN: usize = 256;

/// Words of the persisted bitmaps cleared with one event: some microseconds, and a page of the journal each at worst.
const SETTLED_AT_ONCE: usize = 256;

/// One disk of the move. The words are the journal's, or memory for a move without one.
pub struct DiskSetup {
    /// Guest bytes, the same on both sides; not larger than `i64::MAX`.
    pub size_bytes: u64,
    /// At least one bit per chunk: what differs, or may differ.
    pub dirty: SharedWords,
    /// As many: where a write to both sides may be half done.
    pub intent: SharedWords,
}

/// A guest flush that is not over.
#[derive(Clone, Copy, Debug)]
pub(super) struct GuestFlush {
    pub id: FlushId,
    pub halves: Halves,
    pub acknowledged: bool,
    pub submitted_us: u64,
    /// When both halves were done without an answer.
    pub due_us: Option<u64>,
    /// When the source had done it and the target had not.
    pub source_done_us: Option<u64>,
}

/// Volatile bitmaps cost 8 bits per chunk: 16 MiB per TiB, beside the two of the journal.
pub(super) struct DiskState {
    pub size_bytes: u64,
    pub chunks: u64,
    pub units: u64,

    /// The sides differ or may differ, and no copy that will settle it is under way.
    pub dirty: ChunkMap,
    pub copying: ChunkMap,
    /// Copied at least once in this process: what comes now is a recopy.
    pub copied: ChunkMap,
    /// Something may have been written to the target here.
    pub touched: ChunkMap,
    /// ... or anywhere: nothing is known of the target.
    pub all_touched: bool,
    /// Equal on both sides since the last target flush: persisted bits may go once a flush covers them ...
    pub settled: ChunkMap,
    /// ... and these are covered by the flush under way.
    pub flushing: ChunkMap,
    /// Two bits per chunk: how often it was in the guest's way (0..=3).
    strikes_low: ChunkMap,
    strikes_high: ChunkMap,

    pub saved_dirty: SavedMap,
    pub saved_intent: SavedMap,

    /// Units that are still to be compared: never were, or were dirtied since.
    pub unverified: ChunkMap,
    /// Verified units the guest has written since (both sides got it).
    pub written_since: ChunkMap,
    /// Units that differed once.
    pub repaired: ChunkMap,
    /// Attempts to compare a unit. Memory that no attempt has touched costs nothing.
    pub attempts: Vec<u8>,
    /// The unit compared last, and when.
    pub last_compared: Option<(u64, u64)>,
    /// What is known of holes.
    pub holes: Holes,

    pub writes: WriteTable,
    pub flushes: Vec<GuestFlush>,
    /// Target halves given up and still open, of writes and of flushes.
    pub abandoned: u32,
    /// Writes in flight to the source alone.
    pub source_only: u32,
    /// Everything in flight to a side.
    pub source_open: u32,
    pub target_open: u32,
    /// When the target last answered, or when something was submitted to it after a silence without need.
    pub target_heard_us: u64,

    /// Every chunk below it is marked in the journal, because the journal could not be told that the move is over; the rest follows.
    pub distrusted_from: Option<u64>,
    pub allocation_known: bool,
    /// The copier has been over the whole disk once.
    pub swept: bool,
    pub cursor: u64,
    pub verify_cursor: u64,
    /// A flush that settles is under way, or what it covered is being cleared.
    pub settle_flush: bool,
    pub settling: bool,
    pub settled_at_us: u64,
    pub copied_since_settle: u64,
}

impl DiskState {
    pub(super) fn new(setup: DiskSetup) -> Result<Self, DiskError> {
        let refuse =
            |what: &str| Err(DiskError::new(ErrorKind::InvalidArgument, format!("cannot move a disk: {what}")));
        let size_bytes = setup.size_bytes;
        if size_bytes > i64::MAX as u64 {
            return refuse("it is larger than a file may be");
        }
        let chunks = size_bytes.div_ceil(CHUNK_BYTES);
        let units = size_bytes.div_ceil(VERIFY_UNIT_BYTES);
        let (Some(saved_dirty), Some(saved_intent)) =
            (SavedMap::new(setup.dirty, chunks), SavedMap::new(setup.intent, chunks))
        else {
            return refuse("its bitmaps in the journal are too short");
        };
        let per_chunk = || ChunkMap::new(chunks);
        let per_unit = || ChunkMap::new(units);
        Ok(Self {
            size_bytes,
            chunks,
            units,
            dirty: per_chunk(),
            copying: per_chunk(),
            copied: per_chunk(),
            touched: per_chunk(),
            all_touched: false,
            settled: per_chunk(),
            flushing: per_chunk(),
            strikes_low: per_chunk(),
            strikes_high: per_chunk(),
            saved_dirty,
            saved_intent,
            unverified: ChunkMap::full(units),
            written_since: per_unit(),
            repaired: per_unit(),
            attempts: vec![0; units as usize],
            last_compared: None,
            holes: Holes::new(units),
            writes: WriteTable::with_room(REQUESTS_FORESEEN),
            flushes: Vec::with_capacity(REQUESTS_FORESEEN),
            abandoned: 0,
            source_only: 0,
            source_open: 0,
            target_open: 0,
            target_heard_us: 0,
            distrusted_from: None,
            allocation_known: false,
            swept: false,
            cursor: 0,
            verify_cursor: 0,
            settle_flush: false,
            settling: false,
            settled_at_us: 0,
            copied_since_settle: 0,
        })
    }

    /// The bytes of `chunks`, cut at the end of the disk.
    pub(super) fn bytes_of(&self, chunks: Range<u64>) -> ByteRange {
        let start = chunks.start * CHUNK_BYTES;
        let end = (chunks.end * CHUNK_BYTES).min(self.size_bytes);
        ByteRange::new(start, end.saturating_sub(start))
    }

    pub(super) fn unit_bytes(&self, unit: u64) -> ByteRange {
        let start = unit * VERIFY_UNIT_BYTES;
        ByteRange::new(start, VERIFY_UNIT_BYTES.min(self.size_bytes.saturating_sub(start)))
    }

    pub(super) fn contains(&self, range: ByteRange) -> bool {
        range.start.checked_add(range.len).is_some_and(|end| end <= self.size_bytes) && !range.is_empty()
    }

    /// Both sides are equal wherever no mirrored write is in flight, and nothing is on its way that could change it.
    pub(super) fn is_equal(&self) -> bool {
        self.dirty.is_empty() && self.copying.is_empty() && self.source_only == 0 && self.abandoned == 0
    }

    pub(super) fn all_dirty_or_copying(&self, chunks: Range<u64>) -> bool {
        let mut at = chunks.start;
        while at < chunks.end {
            // A dirty run is skipped whole: the next chunk that is not dirty has to be copying.
            let Some(clear) = self.dirty.first_clear(at..chunks.end) else { return true };
            at = clear;
            if !self.copying.get(at) {
                return false;
            }
            at += 1;
        }
        true
    }

    pub(super) fn strikes(&self, chunk: u64) -> u64 {
        u64::from(self.strikes_low.get(chunk)) + 2 * u64::from(self.strikes_high.get(chunk))
    }

    pub(super) fn strike(&mut self, chunk: u64) {
        let one = chunk..chunk + 1;
        match self.strikes(chunk) {
            0 => {
                self.strikes_low.set(one);
            }
            1 => {
                self.strikes_low.clear(one.clone());
                self.strikes_high.set(one);
            }
            _ => {
                self.strikes_low.set(one);
            }
        }
    }

    pub(super) fn forget_strikes(&mut self, chunk: u64) {
        self.strikes_low.clear(chunk..chunk + 1);
        self.strikes_high.clear(chunk..chunk + 1);
    }

    /// Takes what may be cleared behind a flush that starts now. Chunks with a write in flight stay for the next:
    /// their intent is still needed.
    pub(super) fn begin_settling(&mut self) {
        std::mem::swap(&mut self.settled, &mut self.flushing);
        for entry in self.writes.iter() {
            if entry.waiting {
                continue;
            }
            let chunks = chunks_of(entry.range);
            let mut from = chunks.start;
            while let Some(chunk) = self.flushing.next_set(from).filter(|chunk| *chunk < chunks.end) {
                from = self.flushing.first_clear(chunk..chunks.end).unwrap_or(chunks.end);
                self.flushing.clear(chunk..from);
                self.settled.set(chunk..from);
            }
        }
    }

    /// The flush covered them: forget that they were dirty or half written. Some of them, for a guest may have written all over a large
    /// disk; true when there are no more. What is dirtied meanwhile is taken out by `mark_dirty`.
    pub(super) fn settle_some(&mut self) -> bool {
        for _ in 0..SETTLED_AT_ONCE {
            let Some((index, bits)) = self.flushing.take_word() else { return true };
            self.saved_dirty.clear_in_word(index, bits);
            self.saved_intent.clear_in_word(index, bits);
        }
        self.flushing.is_empty()
    }

    /// Nothing was ever written to the target here.
    pub(super) fn is_target_fresh(&self, chunks: Range<u64>) -> bool {
        !self.all_touched && !self.touched.any(chunks)
    }
}

/// The units a range touches.
pub(super) fn units_of(range: ByteRange) -> Range<u64> {
    range.start / VERIFY_UNIT_BYTES..range.end().div_ceil(VERIFY_UNIT_BYTES)
}
