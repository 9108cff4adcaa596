//! The journal's bytes.
//!
//! ```text
//!   0        superblock slot 0 │ every record in both, one after the other: a torn write leaves the one before,
//!   4096     superblock slot 1 │ and damage to one slot costs nothing
//!   8192     plan (JSON, written once), padded to 4096
//! ```
//! Little-endian. The bitmaps are not here but in memory (`marks.rs`): one bit per 64 KiB chunk, bit n of 64-bit word n/64 first.

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::chunk_map::word_count;
use super::vocabulary::{CHUNK_BYTES, JournalPhase};

pub(super) const SLOT_BYTES: u64 = 4096;
pub(super) const PLAN_OFFSET: u64 = 2 * SLOT_BYTES;

/// "VMSTMOVE"
const MAGIC: [u8; 8] = *b"VMSTMOVE";
/// 2: every record in both slots, bitmaps elsewhere.
const VERSION: u32 = 2;

/// Disks of one VM: four SCSI controllers of 64 is what Hyper-V allows, and fits the slot.
pub const JOURNAL_DISKS_MAX: usize = 256;

/// Largest plan. A real one has a few KiB; the limit keeps a wrong length from becoming an allocation.
pub const JOURNAL_PLAN_MAX: u64 = 16 * 1024 * 1024;

/// Largest disk (VHDX's own limit), for the same reason.
pub const JOURNAL_DISK_BYTES_MAX: u64 = 64 << 40;

#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Superblock {
    magic: [u8; 8],
    version: U32,
    /// CRC-32C of the whole slot with this field zero.
    checksum: U32,
    /// Grows with every record; the larger one is the newer.
    sequence: U64,
    phase: U32,
    disks: U32,
    /// Of the kernel under which the bitmaps were last trustworthy (/proc/sys/kernel/random/boot_id).
    boot_id: [u8; 16],
    plan_bytes: U64,
    plan_checksum: U32,
    reserved: U32,
    /// Length of the whole file.
    file_bytes: U64,
    disk_bytes: [U64; JOURNAL_DISKS_MAX],
    /// Random; the marks of this journal have the same.
    id: [u8; 16],
    padding: [u8; 1960],
}

const _: () = assert!(size_of::<Superblock>() as u64 == SLOT_BYTES);

/// What a superblock says, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub sequence: u64,
    pub phase: JournalPhase,
    pub boot_id: [u8; 16],
    pub plan_bytes: u64,
    pub plan_checksum: u32,
    pub disk_bytes: Vec<u64>,
    pub id: [u8; 16],
}

/// Why a slot does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// All zeros. Both are written before the journal has its name.
    Empty,
    Rule(&'static str),
    /// Valid, but by a newer program.
    Version(u32),
}

pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

impl Facts {
    pub(super) fn encode(&self) -> Superblock {
        let mut disk_bytes = [U64::new(0); JOURNAL_DISKS_MAX];
        for (slot, size) in disk_bytes.iter_mut().zip(&self.disk_bytes) {
            slot.set(*size);
        }
        let mut block = Superblock {
            magic: MAGIC,
            version: U32::new(VERSION),
            checksum: U32::new(0),
            sequence: U64::new(self.sequence),
            phase: U32::new(self.phase.number()),
            disks: U32::new(self.disk_bytes.len() as u32),
            boot_id: self.boot_id,
            plan_bytes: U64::new(self.plan_bytes),
            plan_checksum: U32::new(self.plan_checksum),
            reserved: U32::new(0),
            file_bytes: U64::new(self.file_bytes()),
            disk_bytes,
            id: self.id,
            padding: [0; 1960],
        };
        block.checksum.set(crc32c(block.as_bytes()));
        block
    }

    /// Checks one slot: form, checksum, and that its numbers make sense.
    pub(super) fn decode(slot: &[u8]) -> Result<Self, Flaw> {
        if slot.iter().all(|byte| *byte == 0) {
            return Err(Flaw::Empty);
        }
        let mut block = Superblock::read_from_bytes(slot).map_err(|_| Flaw::Rule("a superblock has 4096 bytes"))?;
        if block.magic != MAGIC {
            return Err(Flaw::Rule("a superblock begins with VMSTMOVE"));
        }
        let checksum = block.checksum.get();
        block.checksum.set(0);
        if crc32c(block.as_bytes()) != checksum {
            return Err(Flaw::Rule("the checksum of a superblock covers its 4096 bytes"));
        }
        if block.version.get() != VERSION {
            return Err(Flaw::Version(block.version.get()));
        }
        let phase = JournalPhase::from_number(block.phase.get()).ok_or(Flaw::Rule("the phase is one of 1 to 9"))?;
        let disks = block.disks.get() as usize;
        if disks > JOURNAL_DISKS_MAX {
            return Err(Flaw::Rule("a move has at most 256 disks"));
        }
        let disk_bytes: Vec<u64> = block.disk_bytes[..disks].iter().map(|size| size.get()).collect();
        if disk_bytes.iter().any(|size| *size > JOURNAL_DISK_BYTES_MAX) {
            return Err(Flaw::Rule("a disk has at most 64 TiB"));
        }
        if block.plan_bytes.get() > JOURNAL_PLAN_MAX {
            return Err(Flaw::Rule("the plan has at most 16 MiB"));
        }
        let facts = Self {
            sequence: block.sequence.get(),
            phase,
            boot_id: block.boot_id,
            plan_bytes: block.plan_bytes.get(),
            plan_checksum: block.plan_checksum.get(),
            disk_bytes,
            id: block.id,
        };
        if facts.file_bytes() != block.file_bytes.get() {
            return Err(Flaw::Rule("the length of the file follows from the plan"));
        }
        Ok(facts)
    }

    pub(super) fn file_bytes(&self) -> u64 {
        PLAN_OFFSET + self.plan_bytes.next_multiple_of(SLOT_BYTES)
    }
}

/// Bytes of one bitmap in the file of marks.
pub(super) fn bitmap_bytes(disk_bytes: u64) -> u64 {
    (bitmap_words(disk_bytes) as u64 * 8).next_multiple_of(SLOT_BYTES)
}

/// Words of one bitmap that are used.
pub(super) fn bitmap_words(disk_bytes: u64) -> usize {
    word_count(disk_bytes.div_ceil(CHUNK_BYTES))
}
