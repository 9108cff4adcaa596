//! Where a page of a disk lies in its file, and which parts of it hold data: taken from the map on the thread that owns it, looked at with
//! the file on one that may block.

use std::fs::File;
use std::io;

use crate::disk::ByteRange;
use crate::file::next_data;
use crate::formats::{Extent, ImageMap};

pub struct Pieces {
    /// The page, in bytes of the disk.
    pub range: ByteRange,
    /// Parts of it with a place in the file, and that place; in order.
    list: Vec<(ByteRange, u64)>,
    /// The file does not say what is read: all of the page may be data.
    opaque: bool,
}

impl Pieces {
    /// Of the page that begins at `from`, inside the disk.
    pub(super) fn of(map: &dyn ImageMap, from: u64, opaque: bool) -> Self {
        let len = (map.geometry().size_bytes - from).min(map.page_bytes());
        let range = ByteRange::new(from, len);
        let mut extents = Vec::new();
        map.map_read(range, &mut extents);
        let mut at = from;
        let mut list = Vec::new();
        for extent in extents {
            let len = match extent {
                Extent::Data { file_offset, len } => {
                    list.push((ByteRange::new(at, len), file_offset));
                    len
                }
                Extent::Zero { len } => len,
            };
            at += len;
        }
        Self { range, list, opaque }
    }

    /// The next range of the disk at or behind `from` that may hold data; `None` when up to the end of the page there is none. Blocking,
    /// and it moves the offset of `file`.
    pub fn next_data(&self, file: &File, from: u64) -> io::Result<Option<ByteRange>> {
        if self.opaque {
            let left = self.range.end().saturating_sub(from);
            return Ok((left > 0).then(|| ByteRange::new(from, left)));
        }
        let first = self.list.partition_point(|(range, _)| range.end() <= from);
        for (range, file_offset) in &self.list[first..] {
            let start = file_offset + from.saturating_sub(range.start);
            if let Some(data) = next_data(file, start, file_offset + range.len)? {
                return Ok(Some(ByteRange::new(range.start + (data.start - file_offset), data.len)));
            }
        }
        Ok(None)
    }
}
