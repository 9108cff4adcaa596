//! The region table (2.2.3): where the BAT and the metadata lie. Two copies; one valid copy is enough.

use uuid::Uuid;
use zerocopy::{FromBytes, IntoBytes};

use super::error::{Refusal, VhdxError};
use super::layout::*;
use crate::disk::ByteRange;
use crate::file::ReadAt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regions {
    pub bat: ByteRange,
    pub metadata: ByteRange,
    /// Header section, log and all regions (unknown optional ones too), sorted: no block may lie in them.
    pub reserved: Vec<ByteRange>,
    /// Optional regions of a newer system.
    pub unknown: Vec<Uuid>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    guid: Uuid,
    offset: u64,
    length: u64,
    required: bool,
}

pub fn read(file: &impl ReadAt, file_len: u64, log: ByteRange) -> Result<Regions, VhdxError> {
    let mut tables = Vec::with_capacity(2);
    for offset in REGION_TABLE_OFFSETS {
        let mut table = vec![0; REGION_TABLE_BYTES];
        file.read_exact_at(&mut table, offset).map_err(VhdxError::io("read the region tables of"))?;
        tables.push(parse(&table)?);
    }
    let entries = match (tables.swap_remove(0), tables.swap_remove(0)) {
        (None, None) => return Err(Refusal::NoValidRegionTable.into()),
        (Some(first), Some(second)) if first != second => return Err(Refusal::RegionTablesDiffer.into()),
        (Some(entries), _) | (None, Some(entries)) => entries,
    };
    Ok(judge(&entries, file_len, log)?)
}

/// The entries of one copy, sorted, or `None` when its checksum is wrong.
fn parse(table: &[u8]) -> Result<Option<Vec<Entry>>, Refusal> {
    let Ok((header, rest)) = RawRegionTableHeader::read_from_prefix(table) else { return Ok(None) };
    if header.signature != REGION_TABLE_SIGNATURE || !is_sealed(table) {
        return Ok(None);
    }
    let count = header.entry_count.get();
    if count > REGION_ENTRIES_MAX {
        return Err(Refusal::RegionCount(count));
    }
    let mut entries: Vec<Entry> = rest
        .chunks_exact(size_of::<RawRegionEntry>())
        .take(count as usize)
        .filter_map(|bytes| RawRegionEntry::read_from_bytes(bytes).ok())
        .map(|raw| Entry {
            guid: Uuid::from_bytes_le(raw.guid),
            offset: raw.file_offset.get(),
            length: u64::from(raw.length.get()),
            required: raw.required.get() & 1 != 0,
        })
        .collect();
    entries.sort_unstable();
    Ok(Some(entries))
}

fn judge(entries: &[Entry], file_len: u64, log: ByteRange) -> Result<Regions, Refusal> {
    let (mut bat, mut metadata) = (None, None);
    let mut reserved = vec![ByteRange::new(0, HEADER_SECTION_BYTES), log];
    let mut unknown = Vec::new();
    for pair in entries.windows(2) {
        if pair[0].guid == pair[1].guid {
            return Err(Refusal::RegionTwice(pair[0].guid));
        }
    }
    for &Entry { guid, offset, length, required } in entries {
        let aligned = offset.is_multiple_of(ALIGNMENT)
            && length.is_multiple_of(ALIGNMENT)
            && length > 0
            && offset >= HEADER_SECTION_BYTES;
        let range = match offset.checked_add(length) {
            Some(end) if aligned && end > file_len => {
                return Err(Refusal::RegionBeyondEnd { guid, end, len: file_len });
            }
            Some(_) if aligned => ByteRange::new(offset, length),
            _ => return Err(Refusal::RegionPlacement { guid, offset, length }),
        };
        match guid {
            REGION_BAT => bat = Some(range),
            REGION_METADATA => metadata = Some(range),
            _ if required => return Err(Refusal::UnknownRegion(guid)),
            // Optional and unknown: kept untouched, and nothing is placed there.
            _ => unknown.push(guid),
        }
        reserved.push(range);
    }
    reserved.sort_unstable_by_key(|range| range.start);
    for pair in reserved.windows(2) {
        if pair[0].overlaps(&pair[1]) {
            return Err(Refusal::RegionsOverlap(pair[1].start));
        }
    }
    let bat = bat.ok_or(Refusal::RegionMissing("BAT"))?;
    let metadata = metadata.ok_or(Refusal::RegionMissing("metadata"))?;
    Ok(Regions { bat, metadata, reserved, unknown })
}

/// One region table, ready to be written at both offsets.
pub fn build(bat: ByteRange, metadata: ByteRange) -> Vec<u8> {
    let mut table = vec![0; REGION_TABLE_BYTES];
    let entry = |guid: Uuid, range: ByteRange| RawRegionEntry {
        guid: guid.to_bytes_le(),
        file_offset: range.start.into(),
        length: (range.len as u32).into(),
        required: 1.into(),
    };
    let header = RawRegionTableHeader {
        signature: REGION_TABLE_SIGNATURE,
        checksum: 0.into(),
        entry_count: 2.into(),
        reserved: 0.into(),
    };
    table[..16].copy_from_slice(header.as_bytes());
    table[16..48].copy_from_slice(entry(REGION_BAT, bat).as_bytes());
    table[48..80].copy_from_slice(entry(REGION_METADATA, metadata).as_bytes());
    seal(&mut table);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: ByteRange = ByteRange::new(MIB, MIB);

    fn entry(guid: Uuid, offset: u64, length: u64, required: bool) -> Entry {
        Entry { guid, offset, length, required }
    }

    fn both() -> Vec<Entry> {
        vec![entry(REGION_BAT, 3 * MIB, MIB, true), entry(REGION_METADATA, 2 * MIB, MIB, true)]
    }

    #[test]
    fn what_is_built_is_parsed_and_every_reserved_range_is_known() {
        let table = build(ByteRange::new(3 * MIB, MIB), ByteRange::new(2 * MIB, MIB));
        let entries = parse(&table).unwrap().unwrap();
        let regions = judge(&entries, 4 * MIB, LOG).unwrap();
        assert_eq!(regions.bat, ByteRange::new(3 * MIB, MIB));
        assert_eq!(regions.reserved.iter().map(|r| r.start / MIB).collect::<Vec<_>>(), [0, 1, 2, 3]);
    }

    #[test]
    fn a_copy_with_a_wrong_checksum_does_not_exist() {
        let mut table = build(ByteRange::new(3 * MIB, MIB), ByteRange::new(2 * MIB, MIB));
        table[70] ^= 4;
        assert_eq!(parse(&table), Ok(None));
    }

    #[test]
    fn an_unknown_region_is_refused_when_required_and_kept_when_not() {
        let unknown = Uuid::from_u128(5);
        let mut entries = both();
        entries.push(entry(unknown, 4 * MIB, MIB, true));
        assert_eq!(judge(&entries, 8 * MIB, LOG), Err(Refusal::UnknownRegion(unknown)));
        entries[2].required = false;
        assert!(judge(&entries, 8 * MIB, LOG).unwrap().reserved.contains(&ByteRange::new(4 * MIB, MIB)));
    }

    #[test]
    fn overlaps_misplacement_and_missing_regions_are_refused() {
        let mut entries = both();
        entries[0].offset = 2 * MIB;
        assert_eq!(judge(&entries, 8 * MIB, LOG), Err(Refusal::RegionsOverlap(2 * MIB)));
        entries[0].offset = MIB;
        assert_eq!(judge(&entries, 8 * MIB, LOG), Err(Refusal::RegionsOverlap(MIB)));
        entries[0].offset = 0;
        assert!(matches!(judge(&entries, 8 * MIB, LOG), Err(Refusal::RegionPlacement { .. })));
        entries[0].offset = 8 * MIB;
        assert!(matches!(judge(&entries, 8 * MIB, LOG), Err(Refusal::RegionBeyondEnd { .. })));
        assert_eq!(judge(&both()[..1], 8 * MIB, LOG), Err(Refusal::RegionMissing("metadata")));
        let twice = [both()[0], both()[0]];
        assert_eq!(judge(&twice, 8 * MIB, LOG), Err(Refusal::RegionTwice(REGION_BAT)));
    }
}
