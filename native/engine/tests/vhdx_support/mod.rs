//! What the VHDX tests share: a file that crashes, images made on disk, and reading an image the way a service does.
#![allow(dead_code)] // each test binary uses its part

pub mod crash_file;

use std::fs::File;

use vmstorage_engine::disk::{ByteRange, DiskError};
use vmstorage_engine::file::ReadAt;
use vmstorage_engine::formats::vhdx::{CreateOptions, Overlay, VhdxMap, create};
use vmstorage_engine::formats::{Extent, ImageMap, Mapping, MetaOp};

pub const MIB: u64 = 1 << 20;

/// A new image in an anonymous file.
pub fn new_image(options: &CreateOptions) -> Result<File, DiskError> {
    let file = tempfile::tempfile().unwrap();
    create(&file, options)?;
    Ok(file)
}

/// Reads a range of the disk: extents from the map, bytes from the file (zeros behind its end), the overlay on top.
pub fn read_disk(file: &impl ReadAt, map: &VhdxMap, overlay: &Overlay, range: ByteRange) -> Vec<u8> {
    let mut extents = Vec::new();
    map.map_read(range, &mut extents);
    let real_len = file.len().unwrap();
    let mut out = Vec::with_capacity(range.len as usize);
    for extent in extents {
        match extent {
            Extent::Zero { len } => out.resize(out.len() + len as usize, 0),
            Extent::Data { file_offset, len } => {
                let mut piece = vec![0; len as usize];
                let there = real_len.saturating_sub(file_offset).min(len) as usize;
                file.read_exact_at(&mut piece[..there], file_offset).unwrap();
                overlay.apply(file_offset, &mut piece);
                out.extend_from_slice(&piece);
            }
        }
    }
    assert_eq!(out.len() as u64, range.len, "extents tile the range");
    out
}

/// Does all metadata I/O a map asks for, at once.
pub fn drain(map: &mut VhdxMap, file: &impl vmstorage_engine::file::WriteAt) {
    while let Some(io) = map.next_io() {
        let result = perform(&io.op, file);
        map.io_done(io.id, result);
    }
}

pub fn perform(op: &MetaOp, file: &impl vmstorage_engine::file::WriteAt) -> Result<(), i32> {
    match op {
        MetaOp::Write { offset, data } => {
            assert!(offset % 4096 == 0 && data.len().is_multiple_of(4096), "metadata writes are whole pages");
            file.write_all_at(data, *offset)
        }
        MetaOp::Flush => file.sync(),
        MetaOp::Extend { len } => {
            assert!(*len > file.len().unwrap(), "a file is only ever extended");
            file.set_len(*len)
        }
    }
    .map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
}

/// Writes to the disk as a service does, waiting for the allocation.
pub fn write_disk(map: &mut VhdxMap, file: &impl vmstorage_engine::file::WriteAt, at: u64, bytes: &[u8]) {
    let mut extents = Vec::new();
    let range = ByteRange::new(at, bytes.len() as u64);
    // The gate first, then the blocks: more attempts would be a map that never gets ready.
    for attempt in 0.. {
        match map.map_write(range, 7, &mut extents).unwrap() {
            Mapping::Ready => break,
            Mapping::Pending => {
                assert!(attempt < 3 && extents.is_empty());
                drain(map, file);
                let mut ready = Vec::new();
                map.take_ready(&mut ready);
                assert_eq!(ready, [(7, Ok(()))]);
            }
        }
    }
    let mut done = 0;
    for extent in extents {
        let Extent::Data { file_offset, len } = extent else { panic!("a written extent is data") };
        file.write_all_at(&bytes[done..done + len as usize], file_offset).unwrap();
        done += len as usize;
    }
    assert_eq!(done, bytes.len());
}

pub fn close(map: &mut VhdxMap, file: &impl vmstorage_engine::file::WriteAt) {
    map.begin_close();
    drain(map, file);
    assert!(map.is_clean());
}

/// Deterministic bytes: which ones they are depends on the seed and the position.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out
}

/// A small generator for choices inside a test; seeded by the test's input, so that a failure repeats.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1)
    }

    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides.max(1)
    }
}
