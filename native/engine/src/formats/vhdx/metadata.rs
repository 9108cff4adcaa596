//! The metadata region (2.6): what the virtual disk is. Only the table and the known items are read.

use uuid::Uuid;
use zerocopy::{FromBytes, IntoBytes};

use super::error::{Refusal, VhdxError};
use super::layout::*;
use crate::disk::ByteRange;
use crate::file::ReadAt;

/// The longest parent path shown in a refusal, in UTF-16 units (Windows' own limit of a long path is 32767).
const PARENT_PATH_UNITS_SHOWN: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    pub block_bytes: u64,
    /// LeaveBlocksAllocated: what makes a disk fixed.
    pub fixed: bool,
    pub disk_bytes: u64,
    pub disk_id: Uuid,
    pub logical_sector_bytes: u32,
    pub physical_sector_bytes: u32,
}

/// A metadata item this engine does not know and may ignore: a user's (what Windows' SetVirtualDiskMetadata makes) or an optional one of
/// a newer system. It belongs to the disk, so a move carries it over as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarriedItem {
    pub id: Uuid,
    /// Of the table entry: user item, of the virtual disk, required.
    pub flags: u32,
    pub value: Vec<u8>,
}

/// All carried items of a file together; a user's items are a few kilobytes. (Our own limit: they are held in memory.)
pub const CARRIED_BYTES_MAX: u64 = 16 * MIB;

struct Item {
    id: Uuid,
    /// Inside the region.
    offset: u64,
    length: u64,
}

pub fn read(file: &impl ReadAt, region: ByteRange) -> Result<Metadata, VhdxError> {
    let mut table = vec![0; METADATA_TABLE_BYTES];
    file.read_exact_at(&mut table, region.start).map_err(VhdxError::io("read the metadata of"))?;
    let (items, _) = parse_table(&table, region.len)?;
    let read = |id: Uuid, name: &'static str, expected: u64| -> Result<[u8; 16], VhdxError> {
        let item = items.iter().find(|item| item.id == id).ok_or(Refusal::MetadataMissing(name))?;
        if item.length != expected {
            return Err(Refusal::MetadataLength { item: name, length: item.length, expected }.into());
        }
        let mut bytes = [0; 16];
        file.read_exact_at(&mut bytes[..expected as usize], region.start + item.offset)
            .map_err(VhdxError::io("read the metadata of"))?;
        Ok(bytes)
    };
    let u32_of =
        |bytes: [u8; 16], at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);

    let parameters = read(ITEM_FILE_PARAMETERS, "file parameters", 8)?;
    let (block_bytes, flags) = (u64::from(u32_of(parameters, 0)), u32_of(parameters, 4));
    if flags & PARAMETER_HAS_PARENT != 0 {
        let locator = items.iter().find(|item| item.id == ITEM_PARENT_LOCATOR);
        let parent = locator.and_then(|item| parent_path(file, region, item)).unwrap_or_else(|| "not named".to_owned());
        return Err(Refusal::Differencing { parent }.into());
    }
    if flags & !PARAMETER_LEAVE_BLOCKS_ALLOCATED != 0 {
        return Err(Refusal::ParameterFlags(flags).into());
    }
    let size = read(ITEM_DISK_SIZE, "virtual disk size", 8)?;
    let metadata = Metadata {
        block_bytes,
        fixed: flags & PARAMETER_LEAVE_BLOCKS_ALLOCATED != 0,
        disk_bytes: u64::from(u32_of(size, 0)) | u64::from(u32_of(size, 4)) << 32,
        disk_id: Uuid::from_bytes_le(read(ITEM_DISK_ID, "virtual disk id", 16)?),
        logical_sector_bytes: u32_of(read(ITEM_LOGICAL_SECTOR, "logical sector size", 4)?, 0),
        physical_sector_bytes: u32_of(read(ITEM_PHYSICAL_SECTOR, "physical sector size", 4)?, 0),
    };
    metadata.check()?;
    Ok(metadata)
}

/// The items beside those `read` knows, in the order of the table; `None` when they are more than [`CARRIED_BYTES_MAX`].
pub fn read_carried(file: &impl ReadAt, region: ByteRange) -> Result<Option<Vec<CarriedItem>>, VhdxError> {
    let mut table = vec![0; METADATA_TABLE_BYTES];
    file.read_exact_at(&mut table, region.start).map_err(VhdxError::io("read the metadata of"))?;
    let (_, others) = parse_table(&table, region.len)?;
    if others.iter().map(|(item, _)| item.length).sum::<u64>() > CARRIED_BYTES_MAX {
        return Ok(None);
    }
    let read = |(item, flags): &(Item, u32)| {
        let mut value = vec![0; item.length as usize];
        if item.length > 0 {
            file.read_exact_at(&mut value, region.start + item.offset)
                .map_err(VhdxError::io("read the metadata of"))?;
        }
        Ok(CarriedItem { id: item.id, flags: *flags, value })
    };
    others.iter().map(read).collect::<Result<_, VhdxError>>().map(Some)
}

impl Metadata {
    /// The rules a disk keeps, whether read or about to be created.
    pub fn check(&self) -> Result<(), Refusal> {
        if !self.block_bytes.is_power_of_two() || !(BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&self.block_bytes) {
            return Err(Refusal::BlockSize(self.block_bytes));
        }
        for (which, size) in [("logical", self.logical_sector_bytes), ("physical", self.physical_sector_bytes)] {
            if size != 512 && size != 4096 {
                return Err(Refusal::SectorSize { which, size: size.into() });
            }
        }
        let (size, sector) = (self.disk_bytes, u64::from(self.logical_sector_bytes));
        if size == 0 || size > DISK_BYTES_MAX || !size.is_multiple_of(sector) {
            return Err(Refusal::DiskSize { size, sector });
        }
        Ok(())
    }

    /// The region's table and items, as Hyper-V lays them out: items behind the 64 KiB table, `carried` behind our own.
    pub fn to_bytes(self, carried: &[CarriedItem]) -> Vec<u8> {
        let flags = if self.fixed { PARAMETER_LEAVE_BLOCKS_ALLOCATED } else { 0 };
        let parameters = RawFileParameters { block_bytes: (self.block_bytes as u32).into(), flags: flags.into() };
        let required = METADATA_IS_REQUIRED;
        let of_disk = METADATA_IS_REQUIRED | METADATA_IS_VIRTUAL_DISK;
        let disk_bytes = self.disk_bytes.to_le_bytes();
        let disk_id = self.disk_id.to_bytes_le();
        let (logical, physical) = (self.logical_sector_bytes.to_le_bytes(), self.physical_sector_bytes.to_le_bytes());
        let own: [(Uuid, u32, &[u8]); 5] = [
            (ITEM_FILE_PARAMETERS, required, parameters.as_bytes()),
            (ITEM_DISK_SIZE, of_disk, &disk_bytes),
            (ITEM_DISK_ID, of_disk, &disk_id),
            (ITEM_LOGICAL_SECTOR, of_disk, &logical),
            (ITEM_PHYSICAL_SECTOR, of_disk, &physical),
        ];
        let items = own.into_iter().chain(carried.iter().map(|item| (item.id, item.flags, item.value.as_slice())));
        let header = RawMetadataTableHeader {
            signature: METADATA_SIGNATURE,
            reserved: 0.into(),
            entry_count: ((own.len() + carried.len()) as u16).into(),
            reserved2: [0; 20],
        };
        let mut bytes = vec![0; METADATA_TABLE_BYTES];
        bytes[..32].copy_from_slice(header.as_bytes());
        let mut offset = METADATA_TABLE_BYTES;
        for (slot, (id, flags, value)) in items.enumerate() {
            let entry = RawMetadataEntry {
                item: id.to_bytes_le(),
                // 2.6.1.2: an empty item has no place.
                offset: if value.is_empty() { 0 } else { offset as u32 }.into(),
                length: (value.len() as u32).into(),
                flags: flags.into(),
                reserved: 0.into(),
            };
            bytes[32 + 32 * slot..64 + 32 * slot].copy_from_slice(entry.as_bytes());
            bytes.extend_from_slice(value);
            offset += value.len();
        }
        bytes.resize(bytes.len().next_multiple_of(PAGE_BYTES), 0);
        bytes
    }
}

/// The known items, and the others with their flags.
type Parsed = (Vec<Item>, Vec<(Item, u32)>);

fn parse_table(table: &[u8], region_len: u64) -> Result<Parsed, Refusal> {
    let Ok((header, rest)) = RawMetadataTableHeader::read_from_prefix(table) else {
        return Err(Refusal::MetadataSignature);
    };
    if header.signature != METADATA_SIGNATURE {
        return Err(Refusal::MetadataSignature);
    }
    let count = header.entry_count.get();
    if count > METADATA_ENTRIES_MAX {
        return Err(Refusal::MetadataCount(count));
    }
    let raw: Vec<RawMetadataEntry> = rest
        .chunks_exact(size_of::<RawMetadataEntry>())
        .take(usize::from(count))
        .filter_map(|bytes| RawMetadataEntry::read_from_bytes(bytes).ok())
        .collect();
    let mut names: Vec<(Uuid, bool)> = Vec::with_capacity(raw.len());
    let mut taken: Vec<ByteRange> = Vec::with_capacity(raw.len());
    let (mut items, mut others) = (Vec::new(), Vec::new());
    for entry in &raw {
        let id = Uuid::from_bytes_le(entry.item);
        let (offset, length) = (u64::from(entry.offset.get()), u64::from(entry.length.get()));
        let is_user = entry.flags.get() & METADATA_IS_USER != 0;
        // An empty item has no place; any other lies behind the table and inside the region.
        let placed = offset >= METADATA_TABLE_BYTES as u64 && offset + length <= region_len;
        if length > METADATA_ITEM_BYTES_MAX || (length > 0 && !placed) {
            return Err(Refusal::MetadataPlacement { item: id, offset, length });
        }
        let known = !is_user
            && [
                ITEM_FILE_PARAMETERS,
                ITEM_DISK_SIZE,
                ITEM_DISK_ID,
                ITEM_LOGICAL_SECTOR,
                ITEM_PHYSICAL_SECTOR,
                ITEM_PARENT_LOCATOR,
            ]
            .contains(&id);
        if known {
            items.push(Item { id, offset, length });
        } else if entry.flags.get() & METADATA_IS_REQUIRED != 0 {
            return Err(Refusal::UnknownMetadata(id));
        } else {
            others.push((Item { id, offset, length }, entry.flags.get()));
        }
        names.push((id, is_user));
        if length > 0 {
            taken.push(ByteRange::new(offset, length));
        }
    }
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Refusal::MetadataTwice(pair[0].0));
    }
    taken.sort_unstable_by_key(|range| range.start);
    if let Some(pair) = taken.windows(2).find(|pair| pair[0].overlaps(&pair[1])) {
        return Err(Refusal::MetadataOverlap(pair[1].start));
    }
    Ok((items, others))
}

/// The parent's path out of the locator (2.6.2.6), for the message only. `None` when it cannot be read.
fn parent_path(file: &impl ReadAt, region: ByteRange, item: &Item) -> Option<String> {
    let mut bytes = vec![0; item.length as usize];
    file.read_exact_at(&mut bytes, region.start + item.offset).ok()?;
    let (header, rest) = RawParentLocatorHeader::read_from_prefix(&bytes).ok()?;
    let text = |offset: u32, length: u16| -> Option<String> {
        let units = bytes.get(offset as usize..offset as usize + usize::from(length))?;
        let units = units.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
        Some(char::decode_utf16(units.take(PARENT_PATH_UNITS_SHOWN)).map(|c| c.unwrap_or('\u{fffd}')).collect())
    };
    let pairs: Vec<(String, String)> = rest
        .chunks_exact(size_of::<RawParentLocatorEntry>())
        .take(usize::from(header.key_value_count.get()))
        .filter_map(|bytes| RawParentLocatorEntry::read_from_bytes(bytes).ok())
        .filter_map(|raw| {
            let key = text(raw.key_offset.get(), raw.key_length.get())?;
            Some((key, text(raw.value_offset.get(), raw.value_length.get())?))
        })
        .collect();
    let value = |wanted: &str| pairs.iter().find(|(key, _)| key == wanted).map(|(_, value)| value.clone());
    value("absolute_win32_path").or_else(|| value("relative_path")).or_else(|| value("volume_path"))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    struct Bytes(Vec<u8>);

    impl ReadAt for Bytes {
        fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
            let from = self.0.get(offset as usize..offset as usize + buf.len());
            buf.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        }

        fn len(&self) -> io::Result<u64> {
            Ok(self.0.len() as u64)
        }
    }

    fn good() -> Metadata {
        Metadata {
            block_bytes: 32 * MIB,
            fixed: true,
            disk_bytes: 3 * MIB + 512,
            disk_id: Uuid::from_u128(77),
            logical_sector_bytes: 512,
            physical_sector_bytes: 4096,
        }
    }

    fn read_back(bytes: Vec<u8>) -> Result<Metadata, Refusal> {
        let mut file = bytes;
        file.resize(MIB as usize, 0);
        match read(&Bytes(file), ByteRange::new(0, MIB)) {
            Ok(metadata) => Ok(metadata),
            Err(VhdxError::Refused(refusal)) => Err(refusal),
            Err(VhdxError::Io { source, .. }) => panic!("{source}"),
        }
    }

    #[test]
    fn what_is_built_is_read_back() {
        assert_eq!(read_back(good().to_bytes(&[])), Ok(good()));
    }

    #[test]
    fn geometry_outside_the_format_is_refused() {
        let refused = |change: fn(&mut Metadata)| {
            let mut bad = good();
            change(&mut bad);
            read_back(bad.to_bytes(&[])).unwrap_err()
        };
        assert_eq!(refused(|m| m.block_bytes = MIB / 2), Refusal::BlockSize(MIB / 2));
        assert_eq!(refused(|m| m.block_bytes = 3 * MIB), Refusal::BlockSize(3 * MIB));
        assert_eq!(refused(|m| m.block_bytes = 512 * MIB), Refusal::BlockSize(512 * MIB));
        assert_eq!(refused(|m| m.disk_bytes = 0), Refusal::DiskSize { size: 0, sector: 512 });
        assert!(matches!(refused(|m| m.disk_bytes = 64 * TIB + 512), Refusal::DiskSize { .. }));
        assert!(matches!(refused(|m| m.logical_sector_bytes = 4096), Refusal::DiskSize { sector: 4096, .. }));
        assert_eq!(refused(|m| m.physical_sector_bytes = 1024), Refusal::SectorSize { which: "physical", size: 1024 });
    }

    #[test]
    fn unknown_items_are_refused_when_required_and_ignored_when_not() {
        let unknown = Uuid::from_u128(5);
        let with_flags = |flags: u32| {
            let mut bytes = good().to_bytes(&[]);
            let entry = RawMetadataEntry {
                item: unknown.to_bytes_le(),
                offset: 0.into(),
                length: 0.into(),
                flags: flags.into(),
                reserved: 0.into(),
            };
            bytes[10..12].copy_from_slice(&6u16.to_le_bytes());
            bytes[32 + 32 * 5..64 + 32 * 5].copy_from_slice(entry.as_bytes());
            read_back(bytes)
        };
        assert_eq!(with_flags(METADATA_IS_REQUIRED), Err(Refusal::UnknownMetadata(unknown)));
        assert_eq!(with_flags(0), Ok(good()));
    }

    #[test]
    fn carried_items_are_read_back_as_they_were() {
        let items = [
            CarriedItem {
                id: Uuid::from_u128(9),
                flags: METADATA_IS_USER,
                value: b"backup-product: chain 42".to_vec(),
            },
            CarriedItem { id: Uuid::from_u128(8), flags: METADATA_IS_VIRTUAL_DISK, value: vec![] },
            CarriedItem { id: Uuid::from_u128(7), flags: METADATA_IS_USER, value: vec![7; 70_000] },
        ];
        let mut file = good().to_bytes(&items);
        file.resize(MIB as usize, 0);
        let region = ByteRange::new(0, MIB);
        assert_eq!(read_carried(&Bytes(file.clone()), region).unwrap().unwrap(), items);
        assert_eq!(read_back(file), Ok(good()));
    }

    #[test]
    fn missing_doubled_overlapping_and_misplaced_items_are_refused() {
        let edited = |at: usize, value: u32| {
            let mut bytes = good().to_bytes(&[]);
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            read_back(bytes).unwrap_err()
        };
        let second = 64;
        assert!(matches!(edited(second + 16, 1), Refusal::MetadataPlacement { offset: 1, .. }));
        assert!(matches!(edited(second + 16, MIB as u32), Refusal::MetadataPlacement { .. }));
        assert_eq!(edited(second + 16, 64 * 1024), Refusal::MetadataOverlap(64 * 1024));
        assert!(matches!(edited(second + 20, 7), Refusal::MetadataLength { length: 7, .. }));
        let mut four = good().to_bytes(&[]);
        four[10..12].copy_from_slice(&4u16.to_le_bytes());
        assert_eq!(read_back(four), Err(Refusal::MetadataMissing("physical sector size")));
        let mut twice = good().to_bytes(&[]);
        twice.copy_within(32..48, second);
        assert_eq!(read_back(twice), Err(Refusal::MetadataTwice(ITEM_FILE_PARAMETERS)));
    }

    #[test]
    fn a_differencing_disk_is_named_as_such() {
        let mut bytes = good().to_bytes(&[]);
        bytes[METADATA_TABLE_BYTES + 4] |= PARAMETER_HAS_PARENT as u8;
        assert_eq!(read_back(bytes), Err(Refusal::Differencing { parent: "not named".into() }));
    }
}
