//! The two headers (2.2.2): choosing the current one, and the next one to write.
//!
//! ```text
//!   current: slot A, sequence n      an update writes slot B with n + 1, then flushes: at every instant one header is valid
//! ```
//! An update that changes a GUID is done twice, so that either header alone tells the truth (2.2.2.1): an old header whose
//! LogGuid names a log that is gone would replay stale entries over newer ones.

use uuid::Uuid;
use zerocopy::{FromBytes, IntoBytes};

use super::error::{Refusal, VhdxError};
use super::layout::*;
use super::log::REPLAYED_LOG_BYTES_MAX;
use crate::disk::ByteRange;
use crate::file::ReadAt;

/// Sequence numbers kept free, so that a writable session never runs out in the middle of its work.
const SEQUENCE_RESERVE: u64 = 1 << 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub sequence: u64,
    /// Changes on every writable open before anything else is written.
    pub file_write_guid: Uuid,
    /// Changes before the first write a user could see.
    pub data_write_guid: Uuid,
    /// Nil: the log is empty. Otherwise entries with this GUID must be replayed.
    pub log_guid: Uuid,
    pub log: ByteRange,
}

impl Header {
    pub fn to_bytes(self) -> Vec<u8> {
        let raw = RawHeader {
            signature: HEADER_SIGNATURE,
            checksum: 0.into(),
            sequence: self.sequence.into(),
            file_write_guid: self.file_write_guid.to_bytes_le(),
            data_write_guid: self.data_write_guid.to_bytes_le(),
            log_guid: self.log_guid.to_bytes_le(),
            log_version: LOG_VERSION.into(),
            version: FORMAT_VERSION.into(),
            log_length: (self.log.len as u32).into(),
            log_offset: self.log.start.into(),
            reserved: [0; 4016],
        };
        let mut bytes = raw.as_bytes().to_vec();
        seal(&mut bytes);
        bytes
    }

    /// `None` when signature or checksum are wrong: then it does not exist, as after a torn update.
    fn parse(bytes: &[u8]) -> Option<RawHeader> {
        let raw = RawHeader::read_from_bytes(bytes).ok()?;
        (raw.signature == HEADER_SIGNATURE && is_sealed(bytes)).then_some(raw)
    }
}

/// The current header and where the next update goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    pub current: Header,
    /// Index into `HEADER_OFFSETS`.
    pub current_slot: usize,
}

impl Headers {
    /// The update to write: its header, its slot and the file offset. It becomes current by [`Headers::adopt`] once flushed.
    pub fn next(&self, change: impl FnOnce(&mut Header)) -> Headers {
        let mut header = self.current;
        change(&mut header);
        header.sequence = self.current.sequence + 1;
        Headers { current: header, current_slot: 1 - self.current_slot }
    }

    pub fn offset(&self) -> u64 {
        HEADER_OFFSETS[self.current_slot]
    }

    /// Refused when the sequence numbers left would not last a session, or when what this engine writes into the log
    /// could not be replayed by it.
    pub fn check_writable(&self) -> Result<(), Refusal> {
        if self.current.sequence > u64::MAX - SEQUENCE_RESERVE {
            return Err(Refusal::SequenceExhausted(self.current.sequence));
        }
        match self.current.log.len <= REPLAYED_LOG_BYTES_MAX {
            true => Ok(()),
            false => Err(Refusal::LogTooLong(self.current.log.len)),
        }
    }
}

/// Reads and judges both headers.
pub fn read(file: &impl ReadAt, file_len: u64) -> Result<Headers, VhdxError> {
    let mut pages = [[0u8; PAGE_BYTES]; 2];
    for (page, offset) in pages.iter_mut().zip(HEADER_OFFSETS) {
        file.read_exact_at(page, offset).map_err(VhdxError::io("read the headers of"))?;
    }
    Ok(choose(&pages, file_len)?)
}

fn choose(pages: &[[u8; PAGE_BYTES]; 2], file_len: u64) -> Result<Headers, Refusal> {
    let (current_slot, raw) = match (Header::parse(&pages[0]), Header::parse(&pages[1])) {
        (None, None) => return Err(Refusal::NoValidHeader),
        (Some(first), None) => (0, first),
        (None, Some(second)) => (1, second),
        (Some(first), Some(second)) => match first.sequence.get().cmp(&second.sequence.get()) {
            std::cmp::Ordering::Greater => (0, first),
            std::cmp::Ordering::Less => (1, second),
            // disk2vhd writes both alike. The same bytes say the same thing; different ones leave no way to choose.
            std::cmp::Ordering::Equal if pages[0] == pages[1] => (0, first),
            std::cmp::Ordering::Equal => return Err(Refusal::HeadersDiffer { sequence: first.sequence.get() }),
        },
    };
    if raw.version.get() != FORMAT_VERSION {
        return Err(Refusal::Version(raw.version.get()));
    }
    let log = ByteRange::new(raw.log_offset.get(), u64::from(raw.log_length.get()));
    let header = Header {
        sequence: raw.sequence.get(),
        file_write_guid: Uuid::from_bytes_le(raw.file_write_guid),
        data_write_guid: Uuid::from_bytes_le(raw.data_write_guid),
        log_guid: Uuid::from_bytes_le(raw.log_guid),
        log,
    };
    if !header.log_guid.is_nil() && raw.log_version.get() != LOG_VERSION {
        return Err(Refusal::LogVersion(raw.log_version.get()));
    }
    let aligned = log.start.is_multiple_of(ALIGNMENT)
        && log.len.is_multiple_of(ALIGNMENT)
        && log.len > 0
        && log.start >= HEADER_SECTION_BYTES;
    let end = log.start.checked_add(log.len);
    match end {
        Some(end) if aligned && end <= file_len => Ok(Headers { current: header, current_slot }),
        Some(end) if aligned => Err(Refusal::LogBeyondEnd { end, len: file_len }),
        _ => Err(Refusal::LogPlacement { offset: log.start, length: log.len }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(sequence: u64) -> Header {
        Header {
            sequence,
            file_write_guid: Uuid::from_u128(1),
            data_write_guid: Uuid::from_u128(2),
            log_guid: Uuid::nil(),
            log: ByteRange::new(MIB, MIB),
        }
    }

    fn page(header: Header) -> [u8; PAGE_BYTES] {
        header.to_bytes().try_into().unwrap()
    }

    #[test]
    fn the_higher_valid_sequence_number_is_current_and_the_other_slot_is_written_next() {
        let headers = choose(&[page(header(7)), page(header(8))], 4 * MIB).unwrap();
        assert_eq!((headers.current.sequence, headers.current_slot), (8, 1));
        let next = headers.next(|h| h.log_guid = Uuid::from_u128(9));
        assert_eq!((next.current.sequence, next.offset()), (9, HEADER_OFFSETS[0]));
    }

    #[test]
    fn a_torn_update_leaves_the_older_header_current() {
        let mut torn = page(header(8));
        torn[100] ^= 1;
        assert_eq!(choose(&[page(header(7)), torn], 4 * MIB).unwrap().current.sequence, 7);
        assert_eq!(choose(&[torn, page(header(7))], 4 * MIB).unwrap().current_slot, 1);
        assert_eq!(choose(&[torn, torn], 4 * MIB), Err(Refusal::NoValidHeader));
    }

    #[test]
    fn equal_sequence_numbers_are_accepted_only_when_the_headers_are_the_same() {
        assert!(choose(&[page(header(3)), page(header(3))], 4 * MIB).is_ok());
        let mut other = header(3);
        other.file_write_guid = Uuid::from_u128(99);
        assert_eq!(choose(&[page(header(3)), page(other)], 4 * MIB), Err(Refusal::HeadersDiffer { sequence: 3 }));
    }

    #[test]
    fn a_log_that_is_misplaced_or_behind_the_end_is_refused() {
        for (offset, length) in [(0, MIB), (MIB + PAGE, MIB), (MIB, 0), (MIB, PAGE), (u64::MAX - MIB + 1, MIB)] {
            let mut bad = header(1);
            bad.log = ByteRange::new(offset, length);
            assert_eq!(choose(&[page(bad), page(bad)], 4 * MIB), Err(Refusal::LogPlacement { offset, length }));
        }
        assert_eq!(choose(&[page(header(1)); 2], MIB), Err(Refusal::LogBeyondEnd { end: 2 * MIB, len: MIB }));
    }

    #[test]
    fn the_last_sequence_numbers_are_refused_for_writing() {
        let headers = choose(&[page(header(u64::MAX)); 2], 4 * MIB).unwrap();
        assert_eq!(headers.check_writable(), Err(Refusal::SequenceExhausted(u64::MAX)));
    }
}
