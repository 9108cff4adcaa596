//! Byte ranges and what a disk looks like to a guest.

/// The unit of virtio-blk and of every image format here: requests are whole sectors.
pub const SECTOR_BYTES: u64 = 512;

/// A range of bytes, by start and length. `end()` never overflows for a range made by [`ByteRange::checked`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct ByteRange {
    pub start: u64,
    pub len: u64,
}

impl ByteRange {
    pub const fn new(start: u64, len: u64) -> Self {
        Self { start, len }
    }

    /// `None` when the end would not fit in an `i64`, which is what the kernel takes as a file offset.
    pub fn checked(start: u64, len: u64) -> Option<Self> {
        let end = start.checked_add(len)?;
        (end <= i64::MAX as u64).then_some(Self { start, len })
    }

    pub const fn end(&self) -> u64 {
        self.start + self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub const fn overlaps(&self, other: &ByteRange) -> bool {
        self.start < other.end() && other.start < self.end()
    }

    /// The part common to both, or `None`.
    pub fn intersection(&self, other: &ByteRange) -> Option<ByteRange> {
        let start = self.start.max(other.start);
        let end = self.end().min(other.end());
        (start < end).then(|| ByteRange::new(start, end - start))
    }
}

/// What a guest may know of a disk. Fixed from the moment it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes; a multiple of `logical_sector_bytes`.
    pub size_bytes: u64,
    /// 512 or 4096.
    pub logical_sector_bytes: u32,
    /// 512 or 4096.
    pub physical_sector_bytes: u32,
}
