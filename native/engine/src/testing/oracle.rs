//! What a disk may hold, judged by what the guest was told. Kept in a file that is mapped shared, so that another process can
//! judge the image after the guest, the worker or both are gone.
//!
//! Per block there is a short list of writes whose content it may legally have. A write enters the list when it is submitted.
//! When a write w is acknowledged, every write acknowledged before w was submitted leaves the list: it cannot be seen any more.
//! What remains are the last acknowledged write, those that overlapped it in time, and those still in flight. Requests that
//! fail stay, as if in flight, until a later write is acknowledged. Nothing depends on flushes: the guest lives on when a worker
//! dies, so every acknowledged write has to survive that.
//!
//! ```text
//!   time ──►   a ──────┤            a, acknowledged before c was submitted: gone once c is acknowledged
//!                  b ────────┤      b overlaps c: its content may lie over c's, for ever
//!                       c ─────┤
//!                          d ──     d in flight: may have been done, may be done later
//! ```
//! Each 512-byte sector of a block is judged alone, because overlapping writes may interleave by sectors. A read that overlaps a
//! write of its block in time may even find a sector half old and half new: a page cache (tmpfs) copies without a lock. Such a
//! sector is no finding then, and one for the next read or the comparison at the end.
//!
//! File: a header of 4096 bytes (words: magic, version, disk, block bytes, blocks, clock, initial content), then per block
//! eight slots of two little-endian words: name of the write (0: slot is free), clock when it was acknowledged (0: in flight).

use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

use super::block::{Found, inspect};
use crate::disk::{ByteRange, SECTOR_BYTES};

const MAGIC: u64 = 0x564d_5354_4f52_4c31;
const VERSION: u64 = 1;
const HEADER_BYTES: usize = 4096;
/// Writes one block may be waiting for or be undecided between. A guest that finds no free slot writes elsewhere first.
const SLOTS: usize = 8;
const SLOT_BYTES: usize = 16;
/// The write put zeros there (write-zeroes, discard).
const ZEROS: u64 = 1 << 63;
/// Not a write: what the disk held before the first one.
const INITIAL: u64 = 1 << 62;
const NUMBER: u64 = INITIAL - 1;

/// What a disk held when its ledger was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialContent {
    Zeros,
    /// Anything: blocks never written are not judged.
    Unknown,
}

/// One disk's ledger, of the part of the disk that its guest uses. Written by one thread.
pub struct Ledger {
    map: MmapRaw,
    disk: u32,
    block_bytes: u64,
    blocks: u64,
    clock: u64,
    initial: InitialContent,
}

impl Ledger {
    /// A new ledger, in `path` or (`None`) in memory only. `size_bytes` of the disk are used from its beginning, a multiple of `block_bytes`.
    pub fn create(
        path: Option<&Path>,
        disk: u32,
        size_bytes: u64,
        block_bytes: u32,
        initial: InitialContent,
    ) -> io::Result<Self> {
        let block_bytes = u64::from(block_bytes);
        let whole = |bytes: u64, unit: u64| bytes > 0 && bytes.is_multiple_of(unit);
        if !whole(block_bytes, SECTOR_BYTES) || !whole(size_bytes, block_bytes) {
            let what = format!("a ledger of blocks of {block_bytes} bytes for a disk of {size_bytes} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let blocks = size_bytes / block_bytes;
        let len = HEADER_BYTES as u64 + blocks * (SLOTS * SLOT_BYTES) as u64;
        let file = match path {
            Some(path) => OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?,
            None => tempfile::tempfile()?,
        };
        file.set_len(len)?;
        let map = MmapOptions::new().len(len as usize).map_raw(&file)?;
        let ledger = Self { map, disk, block_bytes, blocks, clock: 1, initial };
        let known = u64::from(initial == InitialContent::Unknown);
        for (index, word) in [MAGIC, VERSION, u64::from(disk), block_bytes, blocks, 1, known].into_iter().enumerate() {
            ledger.word(index * 8).store(word.to_le(), Ordering::Relaxed);
        }
        Ok(ledger)
    }

    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let len = file.metadata()?.len();
        let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidData, format!("'{}': {why}", path.display()));
        if len < HEADER_BYTES as u64 {
            return Err(wrong("no ledger: too short"));
        }
        let map = MmapOptions::new().len(len as usize).map_raw(&file)?;
        let mut ledger = Self { map, disk: 0, block_bytes: 0, blocks: 0, clock: 0, initial: InitialContent::Zeros };
        let header: Vec<u64> = (0..7).map(|i| u64::from_le(ledger.word(i * 8).load(Ordering::Relaxed))).collect();
        if header[0] != MAGIC || header[1] != VERSION {
            return Err(wrong("no ledger of this version"));
        }
        if header[4].checked_mul((SLOTS * SLOT_BYTES) as u64).is_none_or(|bytes| bytes + HEADER_BYTES as u64 != len) {
            return Err(wrong("its length does not fit its header"));
        }
        (ledger.disk, ledger.block_bytes, ledger.blocks) = (header[2] as u32, header[3], header[4]);
        ledger.clock = header[5];
        ledger.initial = if header[6] == 0 { InitialContent::Zeros } else { InitialContent::Unknown };
        Ok(ledger)
    }

    pub fn initial(&self) -> InitialContent {
        self.initial
    }

    pub fn disk(&self) -> u32 {
        self.disk
    }

    pub fn block_bytes(&self) -> u64 {
        self.block_bytes
    }

    pub fn size_bytes(&self) -> u64 {
        self.blocks * self.block_bytes
    }

    /// Rises with every submission and acknowledgement.
    pub fn clock(&self) -> u64 {
        self.clock
    }

    /// Registers a write (`zeros`: a write-zeroes or discard) of whole blocks and returns its number, which goes into the
    /// sectors. `None` when a block has too many undecided writes already: write elsewhere.
    pub fn submit(&mut self, range: ByteRange, zeros: bool) -> Option<u64> {
        let blocks = self.blocks_of(range);
        // One slot more for the initial content, where it is not listed yet.
        let room = |block: u64| {
            let free = (0..SLOTS).filter(|slot| self.name(block, *slot) == 0).count();
            free >= if free == SLOTS { 2 } else { 1 }
        };
        if !blocks.clone().all(room) {
            return None;
        }
        let number = self.tick();
        for block in blocks {
            if (0..SLOTS).all(|slot| self.name(block, slot) == 0) {
                self.set(block, 0, INITIAL, 1);
            }
            if let Some(slot) = (0..SLOTS).find(|slot| self.name(block, *slot) == 0) {
                self.set(block, slot, number | if zeros { ZEROS } else { 0 }, 0);
            }
        }
        Some(number)
    }

    /// The guest was told that write `number` is done.
    pub fn acknowledge(&mut self, range: ByteRange, number: u64) {
        let now = self.tick();
        for block in self.blocks_of(range) {
            for slot in 0..SLOTS {
                let (name, acknowledged) = (self.name(block, slot), self.acknowledged(block, slot));
                if name & NUMBER == number && name & INITIAL == 0 {
                    self.set(block, slot, name, now);
                } else if name != 0 && acknowledged != 0 && acknowledged < number {
                    self.set(block, slot, 0, 0);
                }
            }
        }
    }

    /// The guest was told that write `number` failed: it may have been done in part, but never later.
    pub fn fail(&mut self, range: ByteRange, number: u64) {
        let now = self.tick();
        for block in self.blocks_of(range) {
            for slot in 0..SLOTS {
                let name = self.name(block, slot);
                if name & NUMBER == number && name & INITIAL == 0 {
                    self.set(block, slot, name, now);
                }
            }
        }
    }

    /// The guest that wrote these is gone: what it had in flight may have been done, but will not be any more.
    pub fn fail_all_in_flight(&mut self) {
        let now = self.tick();
        for block in 0..self.blocks {
            for slot in 0..SLOTS {
                let name = self.name(block, slot);
                if name != 0 && self.acknowledged(block, slot) == 0 {
                    self.set(block, slot, name, now);
                }
            }
        }
    }

    /// Starts a read of whole blocks: what it may see is what is legal from now until it is judged.
    pub fn start_read(&self, range: ByteRange, read: &mut ReadInFlight) {
        read.range = range;
        read.since = self.clock;
        read.zeros_meanwhile = false;
        read.legal.clear();
        for block in self.blocks_of(range) {
            let names: [u64; SLOTS] = std::array::from_fn(|slot| self.name(block, slot));
            let written = (0..SLOTS).any(|slot| names[slot] != 0 && self.acknowledged(block, slot) == 0);
            read.legal.push(Before { names, written });
        }
    }

    /// Judges what a read returned. Returns the number of wrong blocks and describes the first in `first_wrong`.
    pub fn judge(&self, read: &ReadInFlight, data: &[u8], first_wrong: &mut Option<String>) -> u64 {
        let mut wrong = 0;
        let blocks = self.blocks_of(read.range).zip(&read.legal).zip(data.chunks_exact(self.block_bytes as usize));
        for ((block, before), content) in blocks {
            let now: [u64; SLOTS] = std::array::from_fn(|slot| self.name(block, slot));
            let meanwhile = |number| number > read.since && number <= self.clock;
            // Whatever was submitted since and is over has left its successor here.
            let written = before.written || now.iter().any(|name| name & INITIAL == 0 && meanwhile(name & NUMBER));
            let legal = |found| match found {
                Found::Written { sequence } if meanwhile(sequence) => true,
                Found::Zeros if read.zeros_meanwhile => true,
                Found::Damaged if written => true,
                found => self.is_legal(found, &before.names) || self.is_legal(found, &now),
            };
            if let Some(what) = self.first_illegal(block, content, legal) {
                wrong += 1;
                first_wrong.get_or_insert_with(|| format!("{what}; legal before {:x?}, now {now:x?}", before.names));
            }
        }
        wrong
    }

    fn first_illegal(&self, block: u64, content: &[u8], legal: impl Fn(Found) -> bool) -> Option<String> {
        let start = block * self.block_bytes;
        content.chunks_exact(SECTOR_BYTES as usize).enumerate().find_map(|(index, sector)| {
            let offset = start + index as u64 * SECTOR_BYTES;
            let found = inspect(sector, self.disk, offset);
            (!legal(found)).then(|| format!("disk {} at byte {offset}: {found:x?}", self.disk))
        })
    }

    fn is_legal(&self, found: Found, names: &[u64; SLOTS]) -> bool {
        let untouched = names.iter().all(|name| *name == 0);
        let initial = untouched || names.iter().any(|name| name & INITIAL != 0);
        if initial && self.initial == InitialContent::Unknown {
            return true;
        }
        match found {
            Found::Zeros => initial || names.iter().any(|name| name & ZEROS != 0),
            Found::Written { sequence } => names.contains(&sequence),
            Found::Misplaced { .. } | Found::Damaged => false,
        }
    }

    fn blocks_of(&self, range: ByteRange) -> std::ops::Range<u64> {
        range.start / self.block_bytes..(range.end() / self.block_bytes).min(self.blocks)
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.word(5 * 8).store(self.clock.to_le(), Ordering::Relaxed);
        self.clock
    }

    fn name(&self, block: u64, slot: usize) -> u64 {
        u64::from_le(self.word(slot_at(block, slot)).load(Ordering::Relaxed))
    }

    fn acknowledged(&self, block: u64, slot: usize) -> u64 {
        u64::from_le(self.word(slot_at(block, slot) + 8).load(Ordering::Relaxed))
    }

    /// The name goes last, so that a reader after a crash never sees a name with another's acknowledgement.
    fn set(&self, block: u64, slot: usize, name: u64, acknowledged: u64) {
        self.word(slot_at(block, slot) + 8).store(acknowledged.to_le(), Ordering::Release);
        self.word(slot_at(block, slot)).store(name.to_le(), Ordering::Release);
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset + 8 <= self.map.len() && offset.is_multiple_of(8));
        // SAFETY: inside the mapping (just asserted), which starts on a page; shared memory is only used atomically.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(offset).cast()) }
    }
}

fn slot_at(block: u64, slot: usize) -> usize {
    HEADER_BYTES + (block as usize * SLOTS + slot) * SLOT_BYTES
}

/// What a read in flight may return. Reused, so that reading does not allocate.
#[derive(Default)]
pub struct ReadInFlight {
    range: ByteRange,
    since: u64,
    /// A write-zeroes or discard of one of its blocks was submitted since.
    pub zeros_meanwhile: bool,
    legal: Vec<Before>,
}

/// One block when the read began.
struct Before {
    names: [u64; SLOTS],
    /// A write of it was in flight.
    written: bool,
}

impl ReadInFlight {
    pub fn range(&self) -> ByteRange {
        self.range
    }
}

/// What became of every block of an image.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub blocks_checked: u64,
    /// Of those, blocks the guest ever wrote to.
    pub blocks_written: u64,
    pub blocks_wrong: u64,
    /// The first few wrong ones, in words.
    pub wrong: Vec<String>,
}

impl Verdict {
    /// One more wrong block.
    pub(super) fn wrong(&mut self, what: String) {
        self.blocks_wrong += 1;
        if self.wrong.len() < DESCRIBED {
            self.wrong.push(what);
        }
    }
}

/// Wrong blocks that are described, not only counted.
const DESCRIBED: usize = 8;

/// Judges a whole image, read by whatever `reader` reads it with (bytes from an offset), against the ledger of its guest.
pub fn verify_image(ledger: &Ledger, reader: impl Fn(u64, &mut [u8]) -> io::Result<()>) -> io::Result<Verdict> {
    let mut verdict = Verdict::default();
    // Whole blocks, about 1 MiB at once.
    let at_once = (1 << 20) / ledger.block_bytes.min(1 << 20);
    let mut buffer = vec![0; (at_once * ledger.block_bytes) as usize];
    for first in (0..ledger.blocks).step_by(at_once as usize) {
        let count = at_once.min(ledger.blocks - first);
        let data = &mut buffer[..(count * ledger.block_bytes) as usize];
        reader(first * ledger.block_bytes, data)?;
        for (index, content) in data.chunks_exact(ledger.block_bytes as usize).enumerate() {
            let block = first + index as u64;
            let names: [u64; SLOTS] = std::array::from_fn(|slot| ledger.name(block, slot));
            verdict.blocks_checked += 1;
            verdict.blocks_written += u64::from(names.iter().any(|name| name & NUMBER != 0));
            if let Some(what) = ledger.first_illegal(block, content, |found| ledger.is_legal(found, &names)) {
                verdict.wrong(format!("{what}; legal are {names:x?}"));
            }
        }
    }
    Ok(verdict)
}

#[cfg(test)]
#[path = "oracle_tests.rs"]
mod tests;
