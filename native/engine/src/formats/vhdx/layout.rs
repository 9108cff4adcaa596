//! The structures of a VHDX file as they lie on disk, all little-endian, and the constants of the format.
//!
//! ```text
//!   0        64K       128K      192K      256K     320K   1M
//!   | file id | header 1 | header 2 | regions 1 | regions 2 | - | log, metadata region, BAT, payload blocks: 1 MiB aligned, any order
//! ```
//! Section numbers are those of [MS-VHDX] v20180912 and later.

use uuid::Uuid;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;
pub const TIB: u64 = 1 << 40;

/// Everything the log and the BAT are written in (2.3, 2.5).
pub const PAGE_BYTES: usize = 4096;
pub const PAGE: u64 = PAGE_BYTES as u64;
/// Regions, the log and blocks are aligned to it, and nothing of them lies below it (2.2).
pub const ALIGNMENT: u64 = MIB;

// The header section (2.2).
pub const FILE_ID_OFFSET: u64 = 0;
pub const HEADER_OFFSETS: [u64; 2] = [64 * KIB, 128 * KIB];
pub const REGION_TABLE_OFFSETS: [u64; 2] = [192 * KIB, 256 * KIB];
pub const HEADER_SECTION_BYTES: u64 = MIB;

pub const FILE_SIGNATURE: [u8; 8] = *b"vhdxfile";
/// UTF-16 units of the creator field (2.2.1).
pub const CREATOR_UNITS: usize = 256;

/// 2.2.1 File Type Identifier.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct FileId {
    pub signature: [u8; 8],
    pub creator: [U16; CREATOR_UNITS],
}

pub const FILE_ID_BYTES: usize = size_of::<FileId>();

pub const HEADER_SIGNATURE: [u8; 4] = *b"head";
pub const FORMAT_VERSION: u16 = 1;
pub const LOG_VERSION: u16 = 0;

/// 2.2.2 Headers. One page; the checksum covers all of it.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawHeader {
    pub signature: [u8; 4],
    pub checksum: U32,
    pub sequence: U64,
    pub file_write_guid: [u8; 16],
    pub data_write_guid: [u8; 16],
    pub log_guid: [u8; 16],
    pub log_version: U16,
    pub version: U16,
    pub log_length: U32,
    pub log_offset: U64,
    pub reserved: [u8; 4016],
}

pub const REGION_TABLE_BYTES: usize = 64 * KIB as usize;
pub const REGION_TABLE_SIGNATURE: [u8; 4] = *b"regi";
/// 2.2.3.1: more entries do not fit in 64 KiB.
pub const REGION_ENTRIES_MAX: u32 = 2047;

/// 2.2.3.1 Region Table Header.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawRegionTableHeader {
    pub signature: [u8; 4],
    pub checksum: U32,
    pub entry_count: U32,
    pub reserved: U32,
}

/// 2.2.3.2 Region Table Entry.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawRegionEntry {
    pub guid: [u8; 16],
    pub file_offset: U64,
    pub length: U32,
    pub required: U32,
}

pub const REGION_BAT: Uuid = Uuid::from_u128(0x2dc27766_f623_4200_9d64_115e9bfd4a08);
pub const REGION_METADATA: Uuid = Uuid::from_u128(0x8b7ca206_4790_4b9a_b8fe_575f050f886e);

pub const METADATA_TABLE_BYTES: usize = 64 * KIB as usize;
pub const METADATA_SIGNATURE: [u8; 8] = *b"metadata";
/// 2.6.1.1: more entries do not fit in 64 KiB.
pub const METADATA_ENTRIES_MAX: u16 = 2047;
/// 2.6.1.2: the longest item.
pub const METADATA_ITEM_BYTES_MAX: u64 = MIB;

/// 2.6.1.1 Metadata Table Header.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawMetadataTableHeader {
    pub signature: [u8; 8],
    pub reserved: U16,
    pub entry_count: U16,
    pub reserved2: [u8; 20],
}

/// 2.6.1.2 Metadata Table Entry.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawMetadataEntry {
    pub item: [u8; 16],
    pub offset: U32,
    pub length: U32,
    pub flags: U32,
    pub reserved: U32,
}

pub const METADATA_IS_USER: u32 = 1;
pub const METADATA_IS_VIRTUAL_DISK: u32 = 2;
pub const METADATA_IS_REQUIRED: u32 = 4;

// 2.6.2 Known Metadata Items.
pub const ITEM_FILE_PARAMETERS: Uuid = Uuid::from_u128(0xcaa16737_fa36_4d43_b3b6_33f0aa44e76b);
pub const ITEM_DISK_SIZE: Uuid = Uuid::from_u128(0x2fa54224_cd1b_4876_b211_5dbed83bf4b8);
pub const ITEM_DISK_ID: Uuid = Uuid::from_u128(0xbeca12ab_b2e6_4523_93ef_c309e000c746);
pub const ITEM_LOGICAL_SECTOR: Uuid = Uuid::from_u128(0x8141bf1d_a96f_4709_ba47_f233a8faab5f);
pub const ITEM_PHYSICAL_SECTOR: Uuid = Uuid::from_u128(0xcda348c7_445d_4471_9cc9_e9885251c556);
pub const ITEM_PARENT_LOCATOR: Uuid = Uuid::from_u128(0xa8d35f2d_b30b_454d_abf7_d3d84834ab0c);

/// 2.6.2.1 File Parameters.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawFileParameters {
    pub block_bytes: U32,
    pub flags: U32,
}

pub const PARAMETER_LEAVE_BLOCKS_ALLOCATED: u32 = 1;
pub const PARAMETER_HAS_PARENT: u32 = 2;

/// 2.6.2.6.1 Parent Locator Header.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawParentLocatorHeader {
    pub locator_type: [u8; 16],
    pub reserved: U16,
    pub key_value_count: U16,
}

/// 2.6.2.6.2 Parent Locator Entry. Offsets count from the start of the item.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawParentLocatorEntry {
    pub key_offset: U32,
    pub value_offset: U32,
    pub key_length: U16,
    pub value_length: U16,
}

// Limits of a virtual disk (2.6.2.1 to 2.6.2.5).
pub const BLOCK_BYTES_MIN: u64 = MIB;
pub const BLOCK_BYTES_MAX: u64 = 256 * MIB;
pub const DISK_BYTES_MAX: u64 = 64 * TIB;
/// 2.5: sectors described by one sector bitmap block, which defines the chunk.
pub const SECTORS_PER_BITMAP: u64 = 1 << 23;
/// No image file may be longer: twice the largest disk leaves room for every leaked block, and a wild offset is still seen
/// as one. (Our own limit.)
pub const FILE_BYTES_MAX: u64 = 2 * DISK_BYTES_MAX;

// 2.5.1 BAT entries: state in bits 0..=2, reserved 3..=19, offset in MiB above.
pub const BAT_STATE_MASK: u64 = 0x7;
pub const BAT_RESERVED_MASK: u64 = 0xf_fff8;
pub const BAT_OFFSET_MASK: u64 = !(MIB - 1);
pub const BAT_ENTRY_BYTES: u64 = 8;
pub const BAT_ENTRIES_PER_PAGE: usize = PAGE_BYTES / 8;

pub const BLOCK_NOT_PRESENT: u64 = 0;
pub const BLOCK_UNDEFINED: u64 = 1;
pub const BLOCK_ZERO: u64 = 2;
pub const BLOCK_UNMAPPED: u64 = 3;
pub const BLOCK_FULLY_PRESENT: u64 = 6;

pub const LOG_ENTRY_SIGNATURE: [u8; 4] = *b"loge";
pub const LOG_DATA_DESCRIPTOR_SIGNATURE: [u8; 4] = *b"desc";
pub const LOG_ZERO_DESCRIPTOR_SIGNATURE: [u8; 4] = *b"zero";
pub const LOG_DATA_SIGNATURE: [u8; 4] = *b"data";

/// 2.3.1.1 Log Entry Header.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawLogEntryHeader {
    pub signature: [u8; 4],
    pub checksum: U32,
    pub entry_length: U32,
    pub tail: U32,
    pub sequence: U64,
    pub descriptor_count: U32,
    pub reserved: U32,
    pub log_guid: [u8; 16],
    pub flushed_file_offset: U64,
    pub last_file_offset: U64,
}

/// 2.3.1.2 and 2.3.1.3: a zero descriptor (`a` reserved, `b` the length) or a data descriptor (`a` the trailing 4 bytes, `b`
/// the leading 8).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawLogDescriptor {
    pub signature: [u8; 4],
    pub a: [u8; 4],
    pub b: [u8; 8],
    pub file_offset: U64,
    pub sequence: U64,
}

/// 2.3.1.4 Log Data Sector.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawLogData {
    pub signature: [u8; 4],
    pub sequence_high: U32,
    pub data: [u8; 4084],
    pub sequence_low: U32,
}

pub const LOG_ENTRY_HEADER_BYTES: usize = size_of::<RawLogEntryHeader>();
pub const LOG_DESCRIPTOR_BYTES: usize = size_of::<RawLogDescriptor>();

const _: () = {
    assert!(size_of::<FileId>() == 520);
    assert!(size_of::<RawHeader>() == PAGE_BYTES);
    assert!(size_of::<RawRegionTableHeader>() == 16 && size_of::<RawRegionEntry>() == 32);
    assert!(size_of::<RawMetadataTableHeader>() == 32 && size_of::<RawMetadataEntry>() == 32);
    assert!(size_of::<RawParentLocatorHeader>() == 20 && size_of::<RawParentLocatorEntry>() == 12);
    assert!(size_of::<RawLogEntryHeader>() == 64 && size_of::<RawLogDescriptor>() == 32);
    assert!(size_of::<RawLogData>() == PAGE_BYTES);
};

/// CRC-32C of a structure whose checksum field lies at bytes 4..8 and counts as zero (2.2.2, 2.2.3.1, 2.3.1.1).
pub fn checksum(bytes: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&bytes[..4]);
    digest.update(&[0; 4]);
    digest.update(&bytes[8..]);
    digest.finalize() as u32
}

/// Writes the checksum of such a structure into it.
pub fn seal(bytes: &mut [u8]) {
    let sum = checksum(bytes);
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
}

/// Whether the checksum in such a structure is right.
pub fn is_sealed(bytes: &[u8]) -> bool {
    bytes[4..8] == checksum(bytes).to_le_bytes()
}
