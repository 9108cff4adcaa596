//! Raw images and block devices: guest offset = file offset.

use std::borrow::Cow;

use super::image_map::{Extent, ImageMap, MapError, Mapping, MetaIo};
use crate::disk::{ByteRange, Errno, Geometry};

pub struct RawMap {
    geometry: Geometry,
    writable: bool,
}

impl RawMap {
    pub fn new(geometry: Geometry, writable: bool) -> Self {
        Self { geometry, writable }
    }
}

impl ImageMap for RawMap {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn map_read(&self, range: ByteRange, out: &mut Vec<Extent>) {
        out.push(Extent::Data { file_offset: range.start, len: range.len });
    }

    fn map_write(&mut self, range: ByteRange, _waiter: u64, out: &mut Vec<Extent>) -> Result<Mapping, MapError> {
        if !self.writable {
            return Err(MapError(libc::EROFS));
        }
        out.push(Extent::Data { file_offset: range.start, len: range.len });
        Ok(Mapping::Ready)
    }

    fn next_io(&mut self) -> Option<MetaIo> {
        None
    }

    fn io_done(&mut self, _id: u32, _result: Result<(), Errno>) {}

    fn take_ready(&mut self, _out: &mut Vec<(u64, Result<(), Errno>)>) {}

    fn begin_close(&mut self) {}

    fn is_clean(&self) -> bool {
        true
    }

    fn growth_bytes(&self) -> u64 {
        0
    }

    fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed("raw")
    }
}
