//! The block allocation table (2.5), whole in memory as on disk: one u64 per entry, sector bitmap entries included.
//!
//! ```text
//!   payload 0 .. payload r-1 | bitmap 0 | payload r .. payload 2r-1 | bitmap 1 | ...      r = chunk ratio = 2^23 * sector / block
//! ```
//! A disk without a parent has no bitmap blocks, but their entries keep their places.

use super::error::{Refusal, VhdxError};
use super::layout::*;
use super::metadata::Metadata;
use super::region::Regions;
use crate::file::ReadAt;

/// What one read of the table takes; a table may have 512 MiB.
const READ_BYTES: usize = 1 << 20;

/// Block sizes and counts of one disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatGeometry {
    pub disk_bytes: u64,
    pub block_shift: u32,
    /// log2 of the chunk ratio.
    chunk_shift: u32,
    pub blocks: u64,
}

impl BatGeometry {
    /// `metadata` has been checked.
    pub fn new(metadata: &Metadata) -> Self {
        let block_shift = metadata.block_bytes.trailing_zeros();
        let chunk_ratio = SECTORS_PER_BITMAP * u64::from(metadata.logical_sector_bytes) / metadata.block_bytes;
        Self {
            disk_bytes: metadata.disk_bytes,
            block_shift,
            chunk_shift: chunk_ratio.trailing_zeros(),
            blocks: metadata.disk_bytes.div_ceil(metadata.block_bytes),
        }
    }

    pub const fn block_bytes(&self) -> u64 {
        1 << self.block_shift
    }

    /// Where in the table the entry of a block is.
    pub const fn entry_of(&self, block: u64) -> u64 {
        block + (block >> self.chunk_shift)
    }

    /// Entries the table must hold: up to that of the last block.
    pub const fn entries(&self) -> u64 {
        self.entry_of(self.blocks - 1) + 1
    }

    /// Whether the entry is a sector bitmap's.
    const fn is_bitmap(&self, entry: u64) -> bool {
        entry % ((1 << self.chunk_shift) + 1) == 1 << self.chunk_shift
    }

    /// The block of an entry that is not a bitmap's.
    const fn block_of(&self, entry: u64) -> u64 {
        entry - entry / ((1 << self.chunk_shift) + 1)
    }

    /// Bytes of a block that belong to the disk; less than a block only for the last one.
    pub const fn used_bytes(&self, block: u64) -> u64 {
        let left = self.disk_bytes - (block << self.block_shift);
        if left < self.block_bytes() { left } else { self.block_bytes() }
    }
}

pub struct Bat {
    pub geometry: BatGeometry,
    /// Whole pages, so that a page can be logged and applied as it is.
    entries: Vec<u64>,
    pub allocated_blocks: u64,
    /// Sector bitmap entries that said "zero", as QEMU wrote them until April 2023. In memory they are empty, so the next page written is right.
    pub mended_bitmaps: u64,
    /// Behind every offset an entry names, in any state: space in front of it is not free.
    pub space_end: u64,
}

impl Bat {
    /// Reads and judges the table: states, reserved bits, limits, overlaps.
    pub fn read(file: &impl ReadAt, file_len: u64, regions: &Regions, metadata: &Metadata) -> Result<Bat, VhdxError> {
        let geometry = BatGeometry::new(metadata);
        let held = regions.bat.len / BAT_ENTRY_BYTES;
        if held < geometry.entries() {
            return Err(Refusal::BatTooSmall { held, needed: geometry.entries() }.into());
        }
        let bytes = (geometry.entries() * BAT_ENTRY_BYTES).next_multiple_of(PAGE);
        let mut entries = Vec::with_capacity((bytes / BAT_ENTRY_BYTES) as usize);
        let mut buffer = vec![0; READ_BYTES.min(bytes as usize)];
        let mut at = 0;
        while at < bytes {
            let step = (bytes - at).min(READ_BYTES as u64) as usize;
            file.read_exact_at(&mut buffer[..step], regions.bat.start + at)
                .map_err(VhdxError::io("read the BAT of"))?;
            entries.extend(
                buffer[..step]
                    .chunks_exact(8)
                    .map(|e| u64::from_le_bytes([e[0], e[1], e[2], e[3], e[4], e[5], e[6], e[7]])),
            );
            at += step as u64;
        }
        let mut bat = Bat { geometry, entries, allocated_blocks: 0, mended_bitmaps: 0, space_end: 0 };
        bat.judge(file_len, regions)?;
        Ok(bat)
    }

    fn judge(&mut self, file_len: u64, regions: &Regions) -> Result<(), Refusal> {
        let mut present = Vec::new();
        for index in 0..self.geometry.entries() {
            let entry = self.entries[index as usize];
            if entry == 0 {
                continue;
            }
            let (state, offset) = (entry & BAT_STATE_MASK, entry & BAT_OFFSET_MASK);
            if entry & BAT_RESERVED_MASK != 0 {
                return Err(Refusal::BatReserved { index, entry });
            }
            if self.geometry.is_bitmap(index) {
                // QEMU until April 2023 moved the entries of a page by one when it changed its first: a block's "zero" came to stand
                // here. It places nothing. An entry that does place something is a block that was lost, and no such file is opened.
                if state != BLOCK_ZERO || offset != 0 {
                    return Err(Refusal::BatState { index, state });
                }
                self.entries[index as usize] = BLOCK_NOT_PRESENT;
                self.mended_bitmaps += 1;
                continue;
            }
            match state {
                BLOCK_FULLY_PRESENT => {
                    // The part of the last block behind the end of the disk is never read, so it need not be there.
                    let used = self.geometry.used_bytes(self.geometry.block_of(index));
                    let end = offset.saturating_add(used);
                    if offset < HEADER_SECTION_BYTES {
                        return Err(Refusal::BatMisplaced { index, offset });
                    }
                    if end > file_len {
                        return Err(Refusal::BatBeyondEnd { index, end, len: file_len });
                    }
                    present.push(offset);
                    self.allocated_blocks += 1;
                }
                // Not present. An offset left there is a soft anchor: it holds nothing for us, but another writer may
                // come back to it, so the space is not free.
                BLOCK_UNDEFINED | BLOCK_UNMAPPED => {}
                // Here the offset field is reserved and means nothing.
                BLOCK_NOT_PRESENT | BLOCK_ZERO => continue,
                _ => return Err(Refusal::BatState { index, state }),
            }
            let end = offset.saturating_add(self.geometry.block_bytes());
            if end > FILE_BYTES_MAX {
                return Err(Refusal::BatBeyondEnd { index, end, len: FILE_BYTES_MAX });
            }
            if offset != 0 {
                self.space_end = self.space_end.max(end);
            }
        }
        present.sort_unstable();
        if let Some(pair) = present.windows(2).find(|pair| pair[1] - pair[0] < self.geometry.block_bytes()) {
            return Err(Refusal::BatOverlap(pair[1]));
        }
        for range in &regions.reserved {
            let below = present.partition_point(|&offset| offset < range.end());
            if below > 0 && present[below - 1] + self.geometry.block_bytes() > range.start {
                return Err(Refusal::BatOverlap(present[below - 1]));
            }
        }
        Ok(())
    }

    /// Where a block lies in the file, or `None` where it reads as zeros.
    #[inline]
    pub fn offset_of(&self, block: u64) -> Option<u64> {
        let entry = self.entries[self.geometry.entry_of(block) as usize];
        (entry & BAT_STATE_MASK == BLOCK_FULLY_PRESENT).then_some(entry & BAT_OFFSET_MASK)
    }

    /// Records that a block, not present until now, is at `offset` (aligned to 1 MiB).
    pub fn set_present(&mut self, block: u64, offset: u64) {
        self.entries[self.geometry.entry_of(block) as usize] = offset | BLOCK_FULLY_PRESENT;
        self.allocated_blocks += 1;
        self.space_end = self.space_end.max(offset + self.geometry.block_bytes());
    }

    /// The page of the table an entry lies in, counted from the start of the region.
    pub fn page_of(&self, block: u64) -> u64 {
        self.geometry.entry_of(block) / BAT_ENTRIES_PER_PAGE as u64
    }

    /// A page as it is to be on disk, with `changes` (block, offset) on top of what is in memory.
    pub fn page_image(&self, page: u64, changes: &[(u64, u64)]) -> [u8; PAGE_BYTES] {
        let first = page as usize * BAT_ENTRIES_PER_PAGE;
        let mut image = [0; PAGE_BYTES];
        for (slot, entry) in image.chunks_exact_mut(8).zip(&self.entries[first..first + BAT_ENTRIES_PER_PAGE]) {
            slot.copy_from_slice(&entry.to_le_bytes());
        }
        for &(block, offset) in changes.iter().filter(|change| self.page_of(change.0) == page) {
            let at = (self.geometry.entry_of(block) as usize - first) * 8;
            image[at..at + 8].copy_from_slice(&(offset | BLOCK_FULLY_PRESENT).to_le_bytes());
        }
        image
    }

    /// Pages the table takes.
    pub fn pages(&self) -> usize {
        self.entries.len() / BAT_ENTRIES_PER_PAGE
    }

    pub fn unallocated_blocks(&self) -> u64 {
        self.geometry.blocks - self.allocated_blocks
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::disk::ByteRange;

    fn metadata(disk_bytes: u64, block_bytes: u64, sector: u32) -> Metadata {
        Metadata {
            block_bytes,
            fixed: false,
            disk_bytes,
            disk_id: Uuid::nil(),
            logical_sector_bytes: sector,
            physical_sector_bytes: 4096,
        }
    }

    fn entry_at(mib: u64, state: u64) -> u64 {
        mib << 20 | state
    }

    fn table(entries: &[(usize, u64)], file_len: u64) -> Result<Bat, Refusal> {
        let geometry = BatGeometry::new(&metadata(10 * MIB + 512, MIB, 512));
        let entries_of_one_page = vec![0; BAT_ENTRIES_PER_PAGE];
        let mut bat =
            Bat { geometry, entries: entries_of_one_page, allocated_blocks: 0, mended_bitmaps: 0, space_end: 0 };
        for &(index, entry) in entries {
            bat.entries[index] = entry;
        }
        let reserved = vec![ByteRange::new(0, 4 * MIB), ByteRange::new(20 * MIB, MIB)];
        let regions = Regions { bat: reserved[0], metadata: reserved[0], reserved, unknown: vec![] };
        bat.judge(file_len, &regions).map(|()| bat)
    }

    #[test]
    fn bitmap_entries_are_interleaved_after_every_chunk() {
        // Block 256 MiB, 512-byte sectors: 4 GiB per bitmap, so 16 blocks per chunk.
        let geometry = BatGeometry::new(&metadata(64 * TIB, 256 * MIB, 512));
        assert_eq!([0, 15, 16, 31, 32].map(|block| geometry.entry_of(block)), [0, 15, 17, 32, 34]);
        assert!(geometry.is_bitmap(16) && geometry.is_bitmap(33) && !geometry.is_bitmap(17));
        for block in [0, 15, 16, 31, 32, 1000] {
            assert_eq!(geometry.block_of(geometry.entry_of(block)), block);
        }
        // The bitmap entry behind the last block of the last chunk is not needed without a parent.
        assert_eq!(BatGeometry::new(&metadata(16 * 256 * MIB, 256 * MIB, 512)).entries(), 16);
        // 4096-byte sectors: 32 GiB per bitmap.
        assert_eq!(BatGeometry::new(&metadata(TIB, MIB, 4096)).entry_of(32768), 32769);
    }

    #[test]
    fn the_last_block_may_end_early_in_the_file() {
        let last = 10;
        assert!(table(&[(last, entry_at(4, 6))], 4 * MIB + 512).is_ok());
        assert!(matches!(table(&[(last, entry_at(4, 6))], 4 * MIB), Err(Refusal::BatBeyondEnd { index: 10, .. })));
        assert!(matches!(table(&[(0, entry_at(4, 6))], 4 * MIB + 512), Err(Refusal::BatBeyondEnd { index: 0, .. })));
    }

    #[test]
    fn blocks_that_share_space_are_refused() {
        let len = 64 * MIB;
        assert_eq!(table(&[(0, entry_at(5, 6)), (3, entry_at(5, 6))], len).err(), Some(Refusal::BatOverlap(5 * MIB)));
        assert_eq!(table(&[(0, entry_at(3, 6))], len).err(), Some(Refusal::BatOverlap(3 * MIB)));
        assert_eq!(
            table(&[(0, entry_at(20, 6)), (1, entry_at(30, 6))], len).err(),
            Some(Refusal::BatOverlap(20 * MIB))
        );
        assert_eq!(table(&[(0, 6)], len).err(), Some(Refusal::BatMisplaced { index: 0, offset: 0 }));
    }

    #[test]
    fn states_without_content_read_as_zeros_and_keep_their_space() {
        let bat = table(&[(0, 1), (1, entry_at(40, 1)), (2, 2), (3, entry_at(50, 3))], 64 * MIB).unwrap();
        assert!((0..11).all(|block| bat.offset_of(block).is_none()));
        assert_eq!((bat.allocated_blocks, bat.space_end), (0, 51 * MIB));
    }

    #[test]
    fn reserved_bits_and_states_are_refused() {
        assert!(matches!(table(&[(0, entry_at(5, 6) | 8)], 64 * MIB), Err(Refusal::BatReserved { .. })));
        for state in [4, 5, 7] {
            assert_eq!(table(&[(2, entry_at(5, state))], 64 * MIB).err(), Some(Refusal::BatState { index: 2, state }));
        }
        assert!(matches!(table(&[(0, (1 << 62) | 3)], 64 * MIB), Err(Refusal::BatBeyondEnd { .. })));
    }

    #[test]
    fn a_bitmap_entry_that_says_zero_is_mended_and_one_that_places_something_is_refused() {
        let geometry = BatGeometry::new(&metadata(40 * 256 * MIB, 256 * MIB, 512));
        let with = |entry: u64| {
            let mut entries = vec![0; BAT_ENTRIES_PER_PAGE];
            (entries[16], entries[17]) = (entry, entry_at(300, 6));
            let mut bat = Bat { geometry, entries, allocated_blocks: 0, mended_bitmaps: 0, space_end: 0 };
            let somewhere = ByteRange::new(2 * MIB, MIB);
            let regions = Regions { bat: somewhere, metadata: somewhere, reserved: vec![], unknown: vec![] };
            bat.judge(TIB, &regions).map(|()| bat)
        };
        let bat = with(BLOCK_ZERO).unwrap();
        assert_eq!((bat.mended_bitmaps, bat.allocated_blocks), (1, 1));
        let image = bat.page_image(0, &[]);
        assert_eq!(image[16 * 8..17 * 8], [0; 8]);
        assert_eq!(with(entry_at(7, 6)).err(), Some(Refusal::BatState { index: 16, state: 6 }));
        assert_eq!(with(entry_at(7, 2)).err(), Some(Refusal::BatState { index: 16, state: 2 }));
    }

    #[test]
    fn a_page_image_holds_memory_and_changes() {
        let mut bat = table(&[(0, entry_at(5, 6))], 64 * MIB).unwrap();
        bat.set_present(2, 7 * MIB);
        let image = bat.page_image(0, &[(1, 6 * MIB)]);
        let entry = |index: usize| u64::from_le_bytes(image[index * 8..index * 8 + 8].try_into().unwrap());
        assert_eq!([entry(0), entry(1), entry(2), entry(3)], [entry_at(5, 6), entry_at(6, 6), entry_at(7, 6), 0]);
    }
}
