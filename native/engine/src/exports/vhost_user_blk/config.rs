//! The device's configuration space: `struct virtio_blk_config` (virtio 1.2, 5.2.4), made from what is known of the disk.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{Immutable, IntoBytes};

use crate::disk::SECTOR_BYTES;
use crate::exports::DiskFacts;

/// A queue of 128 entries, which is QEMU's default, holds one request of this many segments without indirect
/// descriptors: the header and the status take the other two.
pub const SEG_MAX: u32 = 126;
/// Bytes per segment: a guest page table may hand in segments of any size; 1 MiB keeps one request below 128 MiB.
pub const SIZE_MAX: u32 = 1 << 20;
/// Data of one request that is handed in at once. A longer one (firmware reads a whole file so, whatever is announced) is done piece by
/// piece, one at a time, so that it holds no more memory than any other.
pub const PIECE_BYTES: u64 = 4 << 20;
/// Data of a disk's requests under way at which no further one is taken: the rest waits in the rings. A reader at 4 GB/s has it 16 ms ahead.
pub const BYTES_IN_FLIGHT: u64 = 64 << 20;
/// Bytes of one discard or write-zeroes segment: bounds the range a mirror has to hold for one request.
pub const MAX_ZEROED_BYTES: u64 = 256 << 20;
/// Segments of one discard or write-zeroes request; Linux merges up to this many.
pub const MAX_ZEROED_SEGMENTS: u32 = 16;
/// VHOST_USER_MAX_CONFIG_SIZE of the spec: what a front end may ask for. Beyond the structure it reads zeros.
const SPACE_BYTES: usize = 256;

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct VirtioBlkConfig {
    capacity: U64,
    size_max: U32,
    seg_max: U32,
    geometry: [u8; 4],
    blk_size: U32,
    physical_block_exp: u8,
    alignment_offset: u8,
    min_io_size: U16,
    opt_io_size: U32,
    wce: u8,
    unused0: u8,
    num_queues: U16,
    max_discard_sectors: U32,
    max_discard_seg: U32,
    discard_sector_alignment: U32,
    max_write_zeroes_sectors: U32,
    max_write_zeroes_seg: U32,
    write_zeroes_may_unmap: u8,
    unused1: [u8; 3],
}

/// The configuration space of a disk; fixed from construction.
#[derive(Clone)]
pub struct ConfigSpace([u8; SPACE_BYTES]);

impl ConfigSpace {
    pub fn new(facts: &DiskFacts, queues: u16) -> Self {
        let geometry = &facts.geometry;
        let sectors = |bytes: u64| (bytes / SECTOR_BYTES) as u32;
        let blocks_per_physical = (geometry.physical_sector_bytes / geometry.logical_sector_bytes.max(1)).max(1);
        let config = VirtioBlkConfig {
            capacity: (geometry.size_bytes / SECTOR_BYTES).into(),
            size_max: SIZE_MAX.into(),
            seg_max: SEG_MAX.into(),
            geometry: [0; 4],
            blk_size: geometry.logical_sector_bytes.into(),
            physical_block_exp: blocks_per_physical.ilog2() as u8,
            alignment_offset: 0,
            min_io_size: (blocks_per_physical as u16).into(),
            opt_io_size: 0.into(), // not known
            // Write back: the guest has to flush. qemu-storage-daemon leaves 0 here and its guests never do.
            wce: 1,
            unused0: 0,
            num_queues: queues.into(),
            max_discard_sectors: sectors(MAX_ZEROED_BYTES).into(),
            max_discard_seg: MAX_ZEROED_SEGMENTS.into(),
            discard_sector_alignment: sectors(u64::from(geometry.physical_sector_bytes)).max(1).into(),
            max_write_zeroes_sectors: sectors(MAX_ZEROED_BYTES).into(),
            max_write_zeroes_seg: MAX_ZEROED_SEGMENTS.into(),
            write_zeroes_may_unmap: 1,
            unused1: [0; 3],
        };
        let mut space = [0; SPACE_BYTES];
        space[..size_of::<VirtioBlkConfig>()].copy_from_slice(config.as_bytes());
        Self(space)
    }

    /// `size` bytes from `offset`, or `None` beyond the space.
    pub fn read(&self, offset: u32, size: u32) -> Option<Vec<u8>> {
        let end = offset.checked_add(size)? as usize;
        self.0.get(offset as usize..end).map(<[u8]>::to_vec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Geometry;

    fn space(logical: u32, physical: u32) -> ConfigSpace {
        let geometry = Geometry { size_bytes: 1 << 30, logical_sector_bytes: logical, physical_sector_bytes: physical };
        ConfigSpace::new(&DiskFacts { geometry, read_only: false }, 4)
    }

    fn at<const N: usize>(space: &ConfigSpace, offset: u32) -> [u8; N] {
        space.read(offset, N as u32).unwrap().try_into().unwrap()
    }

    #[test]
    fn fields_are_at_the_offsets_of_virtio_1_2() {
        assert_eq!(size_of::<VirtioBlkConfig>(), 60);
        let space = space(512, 4096);
        assert_eq!(u64::from_le_bytes(at(&space, 0)), (1 << 30) / 512);
        assert_eq!(u32::from_le_bytes(at(&space, 12)), SEG_MAX);
        assert_eq!(u32::from_le_bytes(at(&space, 20)), 512);
        assert_eq!(at(&space, 24), [3u8], "4096 = 512 << 3");
        assert_eq!(at(&space, 32), [1u8], "wce: the guest must know that it has to flush");
        assert_eq!(u16::from_le_bytes(at(&space, 34)), 4);
        assert_eq!(u32::from_le_bytes(at(&space, 36)), (MAX_ZEROED_BYTES / 512) as u32);
        assert_eq!(u32::from_le_bytes(at(&space, 44)), 8);
        assert_eq!(at(&space, 56), [1u8]);
    }

    #[test]
    fn reads_zeros_beyond_the_structure_and_nothing_beyond_the_space() {
        let space = space(4096, 4096);
        assert_eq!(space.read(60, 196), Some(vec![0; 196]));
        assert_eq!(space.read(60, 197), None);
        assert_eq!(space.read(u32::MAX, 2), None);
    }
}
