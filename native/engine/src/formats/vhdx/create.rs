//! Creating an image (2.1, 2.2): laid out as Hyper-V does it.
//!
//! ```text
//!   0       1M     2M          3M            3M + BAT rounded up to 1M
//!   | headers | log | metadata | BAT          | payload (fixed: all of it; dynamic: the file ends here, at 4M up to 1 TiB of 8M blocks)
//! ```

use std::fs::File;

use uuid::Uuid;
use zerocopy::IntoBytes;

use super::bat::BatGeometry;
use super::error::VhdxError;
use super::header::Header;
use super::layout::*;
use super::metadata::Metadata;
use super::open::{VhdxFacts, VhdxIdentity, VhdxKind};
use super::region;
use crate::disk::{ByteRange, DiskError, ErrorKind};
use crate::file::{WriteAt, allocate};

/// Hyper-V's default for dynamic disks.
pub const DEFAULT_BLOCK_BYTES: u64 = 32 * MIB;
/// What both Hyper-V and qemu-img make.
const LOG: ByteRange = ByteRange::new(MIB, MIB);
const METADATA_OFFSET: u64 = 2 * MIB;
/// What one write of BAT entries carries.
const BAT_CHUNK_ENTRIES: u64 = 1 << 16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateOptions {
    pub kind: VhdxKind,
    /// The virtual disk; a multiple of the logical sector size, at most 64 TiB.
    pub size_bytes: u64,
    /// A power of two from 1 MiB to 256 MiB.
    pub block_bytes: u64,
    /// 512 or 4096.
    pub logical_sector_bytes: u32,
    /// 512 or 4096.
    pub physical_sector_bytes: u32,
    /// Who made the file; at most 256 UTF-16 units.
    pub creator: String,
    /// Of the disk it is to be; `None` makes a new one.
    pub identity: Option<VhdxIdentity>,
}

impl CreateOptions {
    /// Hyper-V's defaults: 32 MiB blocks, 512-byte logical and 4096-byte physical sectors.
    pub fn new(kind: VhdxKind, size_bytes: u64, creator: impl Into<String>) -> Self {
        Self {
            kind,
            size_bytes,
            block_bytes: DEFAULT_BLOCK_BYTES,
            logical_sector_bytes: 512,
            physical_sector_bytes: 4096,
            creator: creator.into(),
            identity: None,
        }
    }

    /// The same disk in another file, as a move makes it: geometry, kind, VirtualDiskId, DataWriteGuid and a user's metadata stay.
    /// `Unsupported` when something would be lost.
    pub fn like(facts: &VhdxFacts, creator: impl Into<String>) -> Result<Self, DiskError> {
        let identity = facts.identity().map_err(|why| DiskError::new(ErrorKind::Unsupported, why))?;
        Ok(Self {
            kind: facts.kind,
            size_bytes: facts.size_bytes,
            block_bytes: facts.block_bytes,
            logical_sector_bytes: facts.logical_sector_bytes,
            physical_sector_bytes: facts.physical_sector_bytes,
            creator: creator.into(),
            identity: Some(identity),
        })
    }

    fn metadata(&self) -> Metadata {
        Metadata {
            block_bytes: self.block_bytes,
            fixed: self.kind == VhdxKind::Fixed,
            disk_bytes: self.size_bytes,
            disk_id: self.identity.as_ref().map_or_else(Uuid::new_v4, |identity| identity.disk_id),
            logical_sector_bytes: self.logical_sector_bytes,
            physical_sector_bytes: self.physical_sector_bytes,
        }
    }

    /// Refuses what no VHDX can be (`InvalidArgument`).
    pub fn check(&self) -> Result<(), DiskError> {
        let refuse = |message: String| Err(DiskError::new(ErrorKind::InvalidArgument, message));
        if let Err(refusal) = self.metadata().check() {
            return refuse(format!("cannot create the VHDX file: {refusal}"));
        }
        // Valid by the letter of the format; Windows makes none and refuses them. One that exists may be moved.
        if self.identity.is_none() && self.physical_sector_bytes < self.logical_sector_bytes {
            return refuse(format!(
                "cannot create the VHDX file: physical sectors of {} bytes are smaller than logical ones of {}",
                self.physical_sector_bytes, self.logical_sector_bytes
            ));
        }
        let units = self.creator.encode_utf16().count();
        if units > CREATOR_UNITS {
            return refuse(format!(
                "cannot create the VHDX file: the creator string has {units} UTF-16 units, at most 256 fit (2.2.1)"
            ));
        }
        Ok(())
    }

    /// Bytes of the file right after creation. A fixed file has its final length, a dynamic one grows from here.
    pub fn initial_file_bytes(&self) -> Result<u64, DiskError> {
        self.check()?;
        Ok(self.plan().file_len)
    }

    fn plan(&self) -> Plan {
        let metadata = self.metadata();
        let geometry = BatGeometry::new(&metadata);
        let items = metadata.to_bytes(self.identity.as_ref().map_or(&[], |identity| &identity.carried));
        let region = ByteRange::new(METADATA_OFFSET, (items.len() as u64).next_multiple_of(ALIGNMENT));
        let bat = ByteRange::new(region.end(), (geometry.entries() * BAT_ENTRY_BYTES).next_multiple_of(ALIGNMENT));
        let payload = match self.kind {
            VhdxKind::Fixed => geometry.blocks * geometry.block_bytes(),
            VhdxKind::Dynamic => 0,
        };
        Plan { items, region, geometry, bat, file_len: bat.end() + payload }
    }
}

struct Plan {
    /// The metadata region's table and items.
    items: Vec<u8>,
    region: ByteRange,
    geometry: BatGeometry,
    bat: ByteRange,
    file_len: u64,
}

/// Makes `file` a VHDX. The caller has just created it (O_EXCL), holds it open for writing and removes it when this fails.
///
/// Durable when it returns. The space of a fixed disk is allocated: `NoSpace` when it is not there.
pub fn create(file: &File, options: &CreateOptions) -> Result<(), DiskError> {
    options.check()?;
    let Plan { items, region, geometry, bat, file_len } = options.plan();
    let found = file.metadata().map_err(VhdxError::io("measure"))?;
    if !found.is_file() || found.len() != 0 {
        return Err(DiskError::new(
            ErrorKind::InvalidState,
            "cannot create a VHDX in a file that is not new and empty",
        ));
    }
    let doing = "create";
    WriteAt::set_len(file, file_len).map_err(VhdxError::io(doing))?;
    if options.kind == VhdxKind::Fixed {
        // Only what the disk uses of its last block; the rest of that block is a hole nobody reads.
        allocate(file, bat.end(), geometry.disk_bytes).map_err(VhdxError::io("allocate the space of"))?;
        write_fixed_bat(file, &geometry, bat)?;
    }
    let put = |bytes: &[u8], offset: u64| file.write_all_at(bytes, offset).map_err(VhdxError::io(doing));
    put(&items, region.start)?;
    let table = region::build(bat, region);
    for offset in REGION_TABLE_OFFSETS {
        put(&table, offset)?;
    }
    let mut header = Header {
        sequence: 0,
        file_write_guid: Uuid::new_v4(),
        data_write_guid: options.identity.as_ref().map_or_else(Uuid::new_v4, |identity| identity.data_write_guid),
        log_guid: Uuid::nil(),
        log: LOG,
    };
    for offset in HEADER_OFFSETS {
        header.sequence += 1;
        put(&header.to_bytes(), offset)?;
    }
    // The signature goes in last: what a crash leaves behind is no VHDX yet.
    file.sync().map_err(VhdxError::io("flush"))?;
    put(&file_id(&options.creator), FILE_ID_OFFSET)?;
    file.sync_all().map_err(VhdxError::io("flush"))?;
    Ok(())
}

fn file_id(creator: &str) -> Vec<u8> {
    let mut id = FileId { signature: FILE_SIGNATURE, creator: [0.into(); CREATOR_UNITS] };
    for (slot, unit) in id.creator.iter_mut().zip(creator.encode_utf16()) {
        *slot = unit.into();
    }
    id.as_bytes().to_vec()
}

/// Every payload block present, one behind the other.
fn write_fixed_bat(file: &File, geometry: &BatGeometry, bat: ByteRange) -> Result<(), VhdxError> {
    let mut entries: Vec<u8> = Vec::with_capacity((BAT_CHUNK_ENTRIES * BAT_ENTRY_BYTES) as usize);
    let (mut written, mut block) = (0, 0);
    while block < geometry.blocks {
        let last = (block + BAT_CHUNK_ENTRIES - 1).min(geometry.blocks - 1);
        entries.clear();
        for block in block..=last {
            entries.resize(((geometry.entry_of(block) - written) * BAT_ENTRY_BYTES) as usize, 0);
            let offset = bat.end() + (block << geometry.block_shift);
            entries.extend_from_slice(&(offset | BLOCK_FULLY_PRESENT).to_le_bytes());
        }
        file.write_all_at(&entries, bat.start + written * BAT_ENTRY_BYTES).map_err(VhdxError::io("create"))?;
        written = geometry.entry_of(last) + 1;
        block = last + 1;
    }
    Ok(())
}
