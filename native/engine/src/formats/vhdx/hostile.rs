//! A file somebody wrote to hurt: a good one, patched, its checksums made right again. For the fuzzer (native/fuzz).
#![allow(clippy::panic)] // a finding is told by a panic

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::sync::OnceLock;

use super::create::{CreateOptions, create};
use super::layout::checksum;
use super::open::{VhdxKind, inspect, open};
use crate::disk::ByteRange;
use crate::file::{ReadAt, WriteAt};
use crate::formats::{Extent, ImageMap, Mapping, MetaOp};

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;
const DISK_BYTES: u64 = 64 * MIB;
/// [MS-VHDX] 2.2: two headers, then two region tables, then what they name; `create` puts the log at 1 MiB.
const HEADERS: [u64; 2] = [64 << 10, 128 << 10];
const REGION_TABLES: [u64; 2] = [192 << 10, 256 << 10];
const REGION_TABLE_BYTES: usize = 64 << 10;
const LOG: std::ops::Range<u64> = MIB..2 * MIB;
/// Where patches fall: the structures, not the gaps between them.
const WINDOWS: [(u64, u64); 8] = [
    (HEADERS[0], 128),
    (HEADERS[1], 128),
    (REGION_TABLES[0], 128),
    (REGION_TABLES[1], 128),
    (LOG.start, 32 << 10),
    (2 * MIB, 512),
    (2 * MIB + (64 << 10), 256),
    (3 * MIB, 1024),
];

/// A file in memory: shared content beneath, own pages on top, zeros where there is neither.
struct MemoryFile<'a> {
    below: &'a [u8],
    pages: RefCell<BTreeMap<u64, [u8; PAGE as usize]>>,
    len: Cell<u64>,
}

impl<'a> MemoryFile<'a> {
    fn over(below: &'a [u8]) -> Self {
        Self { below, pages: RefCell::default(), len: Cell::new(below.len() as u64) }
    }

    fn page(&self, number: u64) -> [u8; PAGE as usize] {
        if let Some(page) = self.pages.borrow().get(&number) {
            return *page;
        }
        let mut page = [0; PAGE as usize];
        let start = ((number * PAGE) as usize).min(self.below.len());
        let end = (start + PAGE as usize).min(self.below.len());
        page[..end - start].copy_from_slice(&self.below[start..end]);
        page
    }

    /// (page, offset in it, position in the buffer, length) of every piece.
    fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
        let mut done = 0;
        std::iter::from_fn(move || {
            let at = offset + done as u64;
            let within = (at % PAGE) as usize;
            let here = (PAGE as usize - within).min(len - done);
            let piece = (at / PAGE, within, done, here);
            done += here;
            (here > 0).then_some(piece)
        })
    }
}

impl ReadAt for MemoryFile<'_> {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.len.get()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (page, within, done, here) in Self::pieces(offset, buf.len()) {
            buf[done..done + here].copy_from_slice(&self.page(page)[within..within + here]);
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.len.get())
    }
}

impl WriteAt for MemoryFile<'_> {
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        for (number, within, done, here) in Self::pieces(offset, buf.len()) {
            let mut page = self.page(number);
            page[within..within + here].copy_from_slice(&buf[done..done + here]);
            self.pages.borrow_mut().insert(number, page);
        }
        self.len.set(self.len.get().max(end));
        Ok(())
    }

    fn zero_at(&self, offset: u64, len: u64) -> io::Result<()> {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len.get()), "zeroing stays inside the file");
        assert!(len <= 64 * MIB, "a replay zeroes what its log can name");
        self.write_all_at(&vec![0; len as usize], offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.len.set(len);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A dynamic image with three blocks, the third still only in its log.
fn good() -> &'static [u8] {
    static GOOD: OnceLock<Vec<u8>> = OnceLock::new();
    GOOD.get_or_init(|| {
        let options = CreateOptions { block_bytes: MIB, ..CreateOptions::new(VhdxKind::Dynamic, DISK_BYTES, "fuzz") };
        let Ok(empty) = empty(&options) else { panic!("a good image cannot be made") };
        let file = MemoryFile::over(&empty);
        let Ok(mut image) = open(&file, true) else { panic!("a good image cannot be opened") };
        for block in [1, 3, 5] {
            write(&mut image.map, &file, block * MIB);
        }
        let mut bytes = vec![0; file.len.get() as usize];
        let Ok(()) = file.read_exact_at(&mut bytes, 0) else { panic!("a good image cannot be read") };
        bytes
    })
}

fn empty(options: &CreateOptions) -> io::Result<Vec<u8>> {
    let file = tempfile::tempfile()?;
    create(&file, options).map_err(io::Error::other)?;
    let mut bytes = vec![0; ReadAt::len(&file)? as usize];
    ReadAt::read_exact_at(&file, &mut bytes, 0)?;
    Ok(bytes)
}

/// Pieces of five bytes and up: where (window, offset), how many bytes, the bytes.
pub fn vhdx_file(data: &[u8]) {
    let file = MemoryFile::over(good());
    let mut rest = data;
    while let Some((&[window, low, high, len], tail)) = rest.split_first_chunk::<4>() {
        let (start, size) = WINDOWS[usize::from(window) % WINDOWS.len()];
        let at = start + u64::from(u16::from_le_bytes([low, high])) % size;
        let (patch, tail) = tail.split_at(usize::from(len).min(tail.len()));
        if file.write_all_at(patch, at).is_err() {
            return;
        }
        rest = tail;
    }
    for (at, len) in
        HEADERS.map(|at| (at, PAGE as usize)).into_iter().chain(REGION_TABLES.map(|at| (at, REGION_TABLE_BYTES)))
    {
        mend(&file, at, len);
    }
    for at in LOG.step_by(PAGE as usize) {
        let mut head = [0; 12];
        if file.read_exact_at(&mut head, at).is_ok() && head.starts_with(b"loge") {
            let len = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
            mend(&file, at, (len as usize).clamp(64, (LOG.end - at) as usize));
        }
    }
    let judged = inspect(&file);
    let read_only = open(&file, false);
    assert_eq!(judged.is_ok(), read_only.is_ok(), "what is refused for one is refused for the other");
    if let Ok(image) = read_only {
        let (_, map, _) = image.into_parts();
        read_all(&map);
    }
    let Ok(mut image) = open(&file, true) else { return };
    read_all(&image.map);
    let size = image.map.geometry().size_bytes;
    for at in [0, size / 2, size.saturating_sub(PAGE)] {
        write(&mut image.map, &file, at / PAGE * PAGE);
    }
    image.map.begin_close();
    drain(&mut image.map, &file);
    assert!(image.map.is_clean() || image.map.failure().is_some());
    assert!(open(&file, true).is_ok(), "what we closed, we can open");
}

fn mend(file: &MemoryFile<'_>, at: u64, len: usize) {
    let mut bytes = vec![0; len];
    if file.read_exact_at(&mut bytes, at).is_ok() {
        let sum = checksum(&bytes).to_le_bytes();
        if file.write_all_at(&sum, at + 4).is_err() {
            panic!("a file in memory takes every write");
        }
    }
}

/// The whole disk in pieces: extents tile every one of them.
fn read_all(map: &impl ImageMap) {
    let size = map.geometry().size_bytes;
    let step = (size / 64).max(MIB);
    let mut extents = Vec::new();
    for at in (0..size).step_by(step as usize).take(128) {
        let range = ByteRange::new(at, step.min(size - at));
        extents.clear();
        map.map_read(range, &mut extents);
        let total: u64 = extents
            .iter()
            .map(|extent| match extent {
                Extent::Zero { len } => *len,
                Extent::Data { file_offset, len } => {
                    assert!(file_offset.checked_add(*len).is_some());
                    *len
                }
            })
            .sum();
        assert_eq!(total, range.len, "extents tile the range");
    }
}

fn write(map: &mut impl ImageMap, file: &MemoryFile<'_>, at: u64) {
    let mut extents = Vec::new();
    for _ in 0..4 {
        match map.map_write(ByteRange::new(at, PAGE), 1, &mut extents) {
            Ok(Mapping::Pending) => drain(map, file),
            Ok(Mapping::Ready) | Err(_) => break,
        }
    }
    for extent in extents {
        let Extent::Data { file_offset, len } = extent else { panic!("a written extent is data") };
        // The service writes there; it must not be on top of the headers.
        assert!(file_offset >= MIB && file_offset.checked_add(len).is_some());
    }
}

fn drain(map: &mut impl ImageMap, file: &MemoryFile<'_>) {
    for _ in 0..100_000 {
        let Some(io) = map.next_io() else {
            let mut ready = Vec::new();
            return map.take_ready(&mut ready);
        };
        let result = match &io.op {
            MetaOp::Write { offset, data } => file.write_all_at(data, *offset),
            MetaOp::Flush => file.sync(),
            MetaOp::Extend { len } => file.set_len(*len),
        };
        map.io_done(io.id, result.map_err(|_| libc::EFBIG));
    }
    panic!("metadata I/O without end");
}
