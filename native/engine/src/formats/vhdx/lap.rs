//! Where in the log the next entry goes.
//!
//! ```text
//!   0                                                            length - 4096
//!   | entry | entry | entry | cleared page | (stale) ... | 1 page | anchor |
//!     ^ tail of every entry of the lap                     unused   ^ says: all that came before is applied
//! ```
//! A lap fills the log from its start; when an entry no longer fits, the BAT is applied in place, the anchor is rewritten and
//! a new lap begins at 0. So:
//! * At every instant a durable, complete sequence exists: the anchor until an entry of the lap is durable, and the lap's
//!   entries while the anchor is rewritten (everything is flushed before that).
//! * A live sequence never wraps. The format allows it, but qemu-img (10.0 and before) then takes the part behind the wrap
//!   for the whole.
//! * The page behind an entry is cleared in the same write: qemu-img does not check that the second entry of a sequence
//!   follows the first, and would replay a stale one of an earlier lap on top of a newer.
//! * A further page in front of the anchor stays unused: qemu-img follows a sequence from the anchor around to the start,
//!   steps over one page that holds no entry, and would never end if that brought it to the anchor again.
//!
//! The price: when a lap ends, allocations wait for three flushes, once per 126 entries of the usual 1 MiB log (an entry
//! carries what waits at that moment, up to [`ENTRY_PAGES_MAX`] pages of 512 blocks).

use uuid::Uuid;

use super::layout::*;
use super::log::{self, Stamp};
use crate::disk::ByteRange;

/// BAT pages one entry carries: an eighth of the smallest log, so that several always fit.
pub const ENTRY_PAGES_MAX: usize = 31;

/// Behind every entry.
const CLEARED_BYTES: usize = PAGE_BYTES;

/// What the entry says about the file's length: flushed, and to be had after replay.
#[derive(Clone, Copy, Debug)]
pub struct FileLengths {
    pub durable: u64,
    pub current: u64,
}

pub struct LogLap {
    range: ByteRange,
    guid: Uuid,
    /// Of the next entry.
    sequence: u64,
    /// Where the next entry goes, from the start of the log.
    head: u64,
}

impl LogLap {
    pub fn new(range: ByteRange) -> Self {
        Self { range, guid: Uuid::nil(), sequence: 1, head: 0 }
    }

    /// A new log under a new GUID: whatever lies in the range is stale from now on.
    pub fn renew(&mut self) {
        *self = Self { guid: Uuid::new_v4(), ..Self::new(self.range) };
    }

    pub fn guid(&self) -> Uuid {
        self.guid
    }

    const fn anchor(&self) -> u64 {
        self.range.len - PAGE
    }

    pub fn fits(&self, pages: usize) -> bool {
        self.head + log::entry_bytes(pages) + CLEARED_BYTES as u64 + PAGE <= self.anchor()
    }

    /// The write that appends an entry: file offset and bytes. [`LogLap::fits`] has been asked.
    pub fn append(&mut self, pages: &[(u64, [u8; PAGE_BYTES])], lengths: FileLengths) -> (u64, Vec<u8>) {
        let mut bytes = log::build(&self.stamp(0, lengths), pages);
        let at = self.head;
        self.head += bytes.len() as u64;
        bytes.resize(bytes.len() + CLEARED_BYTES, 0);
        (self.range.start + at, bytes)
    }

    /// The write that says that nothing before it needs replay.
    pub fn write_anchor(&mut self, lengths: FileLengths) -> (u64, Vec<u8>) {
        let bytes = log::build(&self.stamp(self.anchor(), lengths), &[]);
        (self.range.start + self.anchor(), bytes)
    }

    /// The anchor is durable: the lap's entries may be overwritten.
    pub fn restart(&mut self) {
        self.head = 0;
    }

    fn stamp(&mut self, tail: u64, lengths: FileLengths) -> Stamp {
        let sequence = self.sequence;
        self.sequence += 1;
        Stamp { log_guid: self.guid, sequence, tail, flushed_len: lengths.durable, last_len: lengths.current }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_the_page_behind_them_and_one_more_stay_clear_of_the_anchor() {
        let lengths = FileLengths { durable: 0, current: 0 };
        let mut lap = LogLap::new(ByteRange::new(MIB, MIB));
        let mut entries = 0;
        while lap.fits(1) {
            let (offset, bytes) = lap.append(&[(3 * MIB, [1; PAGE_BYTES])], lengths);
            assert_eq!(offset, MIB + entries * 2 * PAGE);
            assert!(offset + bytes.len() as u64 <= 2 * MIB - 2 * PAGE);
            entries += 1;
        }
        assert_eq!(entries, 126);
        assert_eq!(lap.write_anchor(lengths).0, 2 * MIB - PAGE);
    }

    #[test]
    fn the_largest_entry_fits_an_eighth_of_the_smallest_log() {
        assert!(log::entry_bytes(ENTRY_PAGES_MAX) <= MIB / 8);
    }
}
