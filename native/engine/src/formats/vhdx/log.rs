//! Log entries (2.3.1): building one, reading one, and finding the sequence of entries that is to be replayed (2.3.2).
//!
//! ```text
//!   [ header 64 | descriptors 32 each ][ more descriptors ]...[ data sector ][ data sector ]...     4 KiB units, may wrap
//!     a data sector carries 4084 bytes; the first 8 and last 4 bytes of its page travel in the descriptor
//! ```

use std::collections::VecDeque;

use uuid::Uuid;
use zerocopy::{FromBytes, IntoBytes};

use super::error::{Refusal, VhdxError};
use super::layout::*;
use crate::disk::ByteRange;
use crate::file::ReadAt;

/// The longest log that is replayed. Hyper-V and qemu-img make 1 MiB; it is held in memory, so there has to be an end.
pub const REPLAYED_LOG_BYTES_MAX: u64 = 64 * MIB;

/// Bytes that may be checksummed while looking for the sequence, in logs' lengths. Entries of one writer never overlap, so
/// twice the log is the honest most (a sequence is met again after the wrap); a forged log must not cost more than this.
const SCAN_LOGS_MAX: u64 = 16;

/// What an entry does to the file. Offsets and lengths are multiples of 4096.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Page { file_offset: u64, bytes: Box<[u8; PAGE_BYTES]> },
    Zeros { file_offset: u64, len: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub sequence: u64,
    /// Where in the log the oldest entry begins that was not yet applied when this one was written.
    pub tail: u64,
    /// Bytes of the log it takes.
    pub length: u64,
    /// The file had at least this length on stable storage.
    pub flushed_len: u64,
    /// The file is to have at least this length after replay.
    pub last_len: u64,
    pub changes: Vec<Change>,
}

/// What is the same for every entry a writer makes at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    pub log_guid: Uuid,
    pub sequence: u64,
    pub tail: u64,
    pub flushed_len: u64,
    pub last_len: u64,
}

/// Bytes of an entry with so many pages.
pub const fn entry_bytes(pages: usize) -> u64 {
    let descriptors = LOG_ENTRY_HEADER_BYTES + pages * LOG_DESCRIPTOR_BYTES;
    (descriptors.next_multiple_of(PAGE_BYTES) + pages * PAGE_BYTES) as u64
}

/// An entry that writes `pages` (file offset, content). Without pages it only says where the log stands.
pub fn build(stamp: &Stamp, pages: &[(u64, [u8; PAGE_BYTES])]) -> Vec<u8> {
    let length = entry_bytes(pages.len());
    let mut bytes = vec![0; length as usize];
    let header = RawLogEntryHeader {
        signature: LOG_ENTRY_SIGNATURE,
        checksum: 0.into(),
        entry_length: (length as u32).into(),
        tail: (stamp.tail as u32).into(),
        sequence: stamp.sequence.into(),
        descriptor_count: (pages.len() as u32).into(),
        reserved: 0.into(),
        log_guid: stamp.log_guid.to_bytes_le(),
        flushed_file_offset: stamp.flushed_len.into(),
        last_file_offset: stamp.last_len.into(),
    };
    bytes[..LOG_ENTRY_HEADER_BYTES].copy_from_slice(header.as_bytes());
    let data_start = length as usize - pages.len() * PAGE_BYTES;
    for (index, (file_offset, page)) in pages.iter().enumerate() {
        let (mut a, mut b, mut data) = ([0; 4], [0; 8], [0; 4084]);
        b.copy_from_slice(&page[..8]);
        data.copy_from_slice(&page[8..4092]);
        a.copy_from_slice(&page[4092..]);
        let descriptor = RawLogDescriptor {
            signature: LOG_DATA_DESCRIPTOR_SIGNATURE,
            a,
            b,
            file_offset: (*file_offset).into(),
            sequence: stamp.sequence.into(),
        };
        let sector = RawLogData {
            signature: LOG_DATA_SIGNATURE,
            sequence_high: ((stamp.sequence >> 32) as u32).into(),
            data,
            sequence_low: (stamp.sequence as u32).into(),
        };
        let at = LOG_ENTRY_HEADER_BYTES + index * LOG_DESCRIPTOR_BYTES;
        bytes[at..at + LOG_DESCRIPTOR_BYTES].copy_from_slice(descriptor.as_bytes());
        let at = data_start + index * PAGE_BYTES;
        bytes[at..at + PAGE_BYTES].copy_from_slice(sector.as_bytes());
    }
    seal(&mut bytes);
    bytes
}

/// The log of a file, in memory.
struct LogBytes {
    bytes: Vec<u8>,
    guid: Uuid,
    /// Bytes that may still be checksummed.
    budget: u64,
}

impl LogBytes {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The valid entry at `at`, or `None`. Stale, foreign and torn entries are `None`.
    fn entry_at(&mut self, at: u64) -> Result<Option<Entry>, Refusal> {
        let Ok((header, _)) = RawLogEntryHeader::read_from_prefix(&self.bytes[at as usize..]) else { return Ok(None) };
        let length = u64::from(header.entry_length.get());
        let plausible = header.signature == LOG_ENTRY_SIGNATURE
            && header.log_guid == self.guid.to_bytes_le()
            && header.sequence.get() != 0
            && length > 0
            && length.is_multiple_of(PAGE)
            && length <= self.len()
            && u64::from(header.tail.get()).is_multiple_of(PAGE)
            && u64::from(header.tail.get()) < self.len();
        if !plausible {
            return Ok(None);
        }
        self.budget = self.budget.checked_sub(length).ok_or(Refusal::LogOverlapping)?;
        let (at, end) = (at as usize, at as usize + length as usize);
        if end <= self.bytes.len() {
            return Ok(parse(&header, &self.bytes[at..end]));
        }
        let mut whole = self.bytes[at..].to_vec();
        whole.extend_from_slice(&self.bytes[..end - self.bytes.len()]);
        Ok(parse(&header, &whole))
    }
}

/// Descriptors, data sectors and checksum of an entry whose header is plausible.
fn parse(header: &RawLogEntryHeader, bytes: &[u8]) -> Option<Entry> {
    let count = u64::from(header.descriptor_count.get());
    let descriptor_bytes = LOG_ENTRY_HEADER_BYTES as u64 + count * LOG_DESCRIPTOR_BYTES as u64;
    let data_start = descriptor_bytes.next_multiple_of(PAGE);
    if data_start > bytes.len() as u64 || !is_sealed(bytes) {
        return None;
    }
    let sequence = header.sequence.get();
    let descriptors = &bytes[LOG_ENTRY_HEADER_BYTES..descriptor_bytes as usize];
    let mut sectors = bytes[data_start as usize..].chunks_exact(PAGE_BYTES);
    let mut changes = Vec::new();
    for raw in descriptors.chunks_exact(LOG_DESCRIPTOR_BYTES) {
        let raw = RawLogDescriptor::read_from_bytes(raw).ok()?;
        let file_offset = raw.file_offset.get();
        if raw.sequence.get() != sequence || !file_offset.is_multiple_of(PAGE) {
            return None;
        }
        match raw.signature {
            LOG_DATA_DESCRIPTOR_SIGNATURE => {
                let sector = RawLogData::read_from_bytes(sectors.next()?).ok()?;
                let sealed = u64::from(sector.sequence_high.get()) << 32 | u64::from(sector.sequence_low.get());
                if sector.signature != LOG_DATA_SIGNATURE || sealed != sequence {
                    return None;
                }
                let mut page = Box::new([0; PAGE_BYTES]);
                page[..8].copy_from_slice(&raw.b);
                page[8..4092].copy_from_slice(&sector.data);
                page[4092..].copy_from_slice(&raw.a);
                changes.push(Change::Page { file_offset, bytes: page });
            }
            LOG_ZERO_DESCRIPTOR_SIGNATURE => {
                let len = u64::from_le_bytes(raw.b);
                if !len.is_multiple_of(PAGE) {
                    return None;
                }
                changes.push(Change::Zeros { file_offset, len });
            }
            _ => return None,
        }
    }
    // Data sectors that no descriptor names would mean that the descriptors are not the writer's.
    sectors.next().is_none().then(|| Entry {
        sequence,
        tail: u64::from(header.tail.get()),
        length: bytes.len() as u64,
        flushed_len: header.flushed_file_offset.get(),
        last_len: header.last_file_offset.get(),
        changes,
    })
}

/// A run of entries, contiguous in place and sequence number.
struct Run {
    entries: VecDeque<(u64, Entry)>,
}

impl Run {
    /// The entries from the tail its last entry names; `None` when that tail is not one of them.
    fn live(mut self) -> Option<Vec<Entry>> {
        let tail = self.entries.back()?.1.tail;
        while self.entries.front()?.0 != tail {
            self.entries.pop_front();
        }
        Some(self.entries.into_iter().map(|(_, entry)| entry).collect())
    }
}

/// The entries to replay, oldest first, of the log in `range` whose header names `guid`: of all valid sequences the one that
/// ends with the highest sequence number. A log that is named but holds none is corrupt (2.3.2).
pub fn find_sequence(file: &impl ReadAt, range: ByteRange, guid: Uuid) -> Result<Vec<Entry>, VhdxError> {
    if range.len > REPLAYED_LOG_BYTES_MAX {
        return Err(Refusal::LogTooLong(range.len).into());
    }
    let mut bytes = vec![0; range.len as usize];
    file.read_exact_at(&mut bytes, range.start).map_err(VhdxError::io("read the log of"))?;
    let budget = range.len * SCAN_LOGS_MAX;
    Ok(scan(LogBytes { bytes, guid, budget })?)
}

fn scan(mut log: LogBytes) -> Result<Vec<Entry>, Refusal> {
    let mut best: Option<Vec<Entry>> = None;
    let mut start = 0;
    while start < log.len() {
        let (run, end) = run_from(&mut log, start)?;
        start = match run.entries.is_empty() {
            true => start + PAGE,
            false => end,
        };
        let highest = best.as_ref().and_then(|entries| entries.last()).map_or(0, |entry| entry.sequence);
        if run.entries.back().is_some_and(|(_, head)| head.sequence > highest)
            && let Some(live) = run.live()
        {
            best = Some(live);
        }
    }
    best.ok_or(Refusal::LogWithoutSequence)
}

/// The longest run that begins at `start`, and where it ends, counted on past the end of the log when it wraps.
fn run_from(log: &mut LogBytes, start: u64) -> Result<(Run, u64), Refusal> {
    let mut entries = VecDeque::new();
    let mut end = start;
    let mut expected: Option<u64> = None;
    while end - start < log.len() {
        let at = end % log.len();
        let Some(entry) = log.entry_at(at)? else { break };
        let fits = end - start + entry.length <= log.len();
        if !fits || expected.is_some_and(|sequence| entry.sequence != sequence) {
            break;
        }
        end += entry.length;
        expected = entry.sequence.checked_add(1);
        let last_possible = expected.is_none();
        entries.push_back((at, entry));
        if last_possible {
            break;
        }
    }
    Ok((Run { entries }, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: Uuid = Uuid::from_u128(0xabc);

    fn stamp(sequence: u64, tail: u64) -> Stamp {
        Stamp { log_guid: GUID, sequence, tail, flushed_len: 4 * MIB, last_len: 5 * MIB }
    }

    fn entry(sequence: u64, tail: u64, pages: usize) -> Vec<u8> {
        let pages: Vec<_> =
            (0..pages).map(|i| (3 * MIB + i as u64 * PAGE, [sequence as u8 + i as u8; PAGE_BYTES])).collect();
        build(&stamp(sequence, tail), &pages)
    }

    fn log(pieces: &[(u64, &[u8])]) -> LogBytes {
        let mut bytes = vec![0; MIB as usize];
        for (at, piece) in pieces {
            for (i, byte) in piece.iter().enumerate() {
                bytes[(*at as usize + i) % MIB as usize] = *byte;
            }
        }
        LogBytes { bytes, guid: GUID, budget: 16 * MIB }
    }

    fn sequences(log: LogBytes) -> Result<Vec<u64>, Refusal> {
        Ok(scan(log)?.iter().map(|entry| entry.sequence).collect())
    }

    #[test]
    fn an_entry_is_read_back_with_every_byte_of_its_pages() {
        let page: [u8; PAGE_BYTES] = std::array::from_fn(|i| (i * 7 + i / 256) as u8);
        let many: Vec<_> = (0..200).map(|i| (3 * MIB + i * PAGE, page)).collect();
        for pages in [&many[..0], &many[..1], &many[..126], &many[..127], &many[..]] {
            let bytes = build(&stamp(1 << 40 | 3, 0), pages);
            assert_eq!(bytes.len() as u64, entry_bytes(pages.len()));
            let entry = scan(log(&[(0, &bytes)])).unwrap().remove(0);
            let expected: Vec<_> =
                pages.iter().map(|(at, page)| Change::Page { file_offset: *at, bytes: Box::new(*page) }).collect();
            assert_eq!((entry.sequence, entry.flushed_len, entry.last_len), (1 << 40 | 3, 4 * MIB, 5 * MIB));
            assert!(entry.changes == expected);
        }
        assert_eq!((entry_bytes(0), entry_bytes(126), entry_bytes(127)), (PAGE, 127 * PAGE, 129 * PAGE));
    }

    #[test]
    fn replay_starts_at_the_tail_of_the_last_entry() {
        let (first, second, third) = (entry(5, 0, 1), entry(6, 0, 2), entry(7, 2 * PAGE, 1));
        let pieces: &[(u64, &[u8])] = &[(0, &first), (2 * PAGE, &second), (5 * PAGE, &third)];
        assert_eq!(sequences(log(pieces)), Ok(vec![6, 7]));
    }

    #[test]
    fn a_sequence_may_wrap_anywhere() {
        let start = MIB - PAGE;
        let (first, second) = (entry(5, start, 1), entry(6, start, 1));
        assert_eq!(sequences(log(&[(start, &first), (PAGE, &second)])), Ok(vec![5, 6]));
    }

    #[test]
    fn a_torn_entry_ends_the_sequence_and_what_follows_it_is_not_replayed() {
        let (first, mut torn, third) = (entry(5, 0, 1), entry(6, 0, 1), entry(7, 0, 1));
        torn[5000] ^= 1;
        assert_eq!(sequences(log(&[(0, &first), (2 * PAGE, &torn), (4 * PAGE, &third)])), Ok(vec![5]));
    }

    #[test]
    fn of_several_sequences_the_highest_wins_and_one_without_its_tail_does_not_count() {
        let (old, new) = (entry(5, 100 * PAGE, 1), entry(9, 0, 1));
        assert_eq!(sequences(log(&[(100 * PAGE, &old), (0, &new)])), Ok(vec![9]));
        let without_tail = entry(12, 50 * PAGE, 1);
        assert_eq!(sequences(log(&[(100 * PAGE, &old), (0, &new), (20 * PAGE, &without_tail)])), Ok(vec![9]));
    }

    #[test]
    fn entries_of_another_log_and_empty_logs_are_no_sequence() {
        let mut foreign = log(&[(0, &entry(5, 0, 1))]);
        foreign.guid = Uuid::from_u128(1);
        assert_eq!(sequences(foreign), Err(Refusal::LogWithoutSequence));
        assert_eq!(sequences(log(&[])), Err(Refusal::LogWithoutSequence));
    }

    #[test]
    fn every_single_bit_of_an_entry_counts() {
        let good = entry(5, 0, 2);
        for bit in 0..good.len() * 8 {
            // A flip every 97 bits reaches every field in the header and the descriptors, and both ends of the data.
            if bit > 1024 && bit % 97 != 0 {
                continue;
            }
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(scan(log(&[(0, &bad)])).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_log_of_overlapping_entries_is_refused_after_bounded_work() {
        let mut forged = log(&[]);
        for at in (0..MIB).step_by(PAGE_BYTES) {
            let mut header = entry(5, 0, 0);
            header[8..12].copy_from_slice(&(MIB as u32).to_le_bytes());
            forged.bytes[at as usize..at as usize + PAGE_BYTES].copy_from_slice(&header);
        }
        assert_eq!(sequences(forged), Err(Refusal::LogOverlapping));
    }

    #[test]
    fn the_highest_sequence_number_of_all_ends_a_run() {
        assert_eq!(sequences(log(&[(0, &entry(u64::MAX, 0, 1))])), Ok(vec![u64::MAX]));
    }
}
