//! Runs logical operations on one image: asks the map where bytes live, does the file I/O, and the map's own metadata I/O.
//!
//! ```text
//!   start(op) ──► map ──Ready──► file I/O (one part per extent) ──► finished
//!                  │Pending                      ▲
//!                  └──► metadata I/O ──ready─────┘
//! ```
//! Lives on the reactor thread. Exactly one [`Finished`] for each started operation; nothing is dropped while the kernel
//! may still touch its memory.

use std::os::fd::OwnedFd;
use std::os::fd::RawFd;

use uuid::Uuid;

use super::buffer::{AlignedBuffer, BufferPool};
use super::iovecs::{advance_iovecs, aligned, copy_from_iovecs, copy_to_iovecs, fill_zero, slice_iovecs};
use super::pieces::Pieces;
use super::slots::Slots;
use crate::disk::{ByteRange, Errno, Geometry};
use crate::file::HostFile;
use crate::formats::vhdx::Overlay;
use crate::formats::{Extent, ImageMap, Mapping, MetaOp};
use crate::memory_guard;
use crate::reactor::{Op, Reactor, Token};

/// A kernel that keeps answering EAGAIN is not going to do the request: then the guest hears EIO.
const RETRIES_MAX: u8 = 16;
/// The operation of a part that has none: metadata.
const NO_OPERATION: u32 = u32::MAX;
/// Zeros written where a file system cannot punch or zero a range: bytes per request.
const ZERO_WRITE_BYTES: u64 = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageOp {
    Read,
    Write,
    /// The range reads as zeros afterwards; `unmap` gives its space back.
    Zero {
        unmap: bool,
    },
    Flush,
}

#[derive(Clone, Copy, Debug)]
pub struct Finished {
    pub tag: u64,
    pub result: Result<(), Errno>,
}

#[derive(Default)]
struct Running {
    tag: u64,
    op: Option<ImageOp>,
    range: ByteRange,
    /// The caller's memory; stays valid until `Finished`.
    iov: Vec<libc::iovec>,
    /// Where memory was not aligned for direct I/O.
    bounce: Option<AlignedBuffer>,
    parts: u32,
    error: Option<Errno>,
    waits_for_map: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum PartKind {
    #[default]
    Data,
    Punch {
        mode: i32,
    },
    ZeroWrite,
    Sync,
    Meta {
        id: u32,
        what: MetaKind,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum MetaKind {
    Write,
    Flush,
    /// To the length in the part's `offset`.
    Extend,
}

#[derive(Default)]
struct Part {
    /// The operation it belongs to; `NO_OPERATION` for metadata.
    running: u32,
    kind: PartKind,
    write: bool,
    iov: Vec<libc::iovec>,
    offset: u64,
    left: u64,
    retries: u8,
    buffer: Option<AlignedBuffer>,
}

pub struct Image {
    file: HostFile,
    map: Box<dyn ImageMap>,
    geometry: Geometry,
    owner: u32,
    running: Slots<Running>,
    parts: Slots<Part>,
    buffers: BufferPool,
    extents: Vec<Extent>,
    data_extents: Vec<Extent>,
    ready: Vec<(u64, Result<(), Errno>)>,
    finished: Vec<Finished>,
    zeros: Option<AlignedBuffer>,
    /// What a log replayed in memory says of a file that may not be written.
    overlay: Overlay,
    /// Length of the file when it was opened: with an overlay the map may place bytes behind it.
    file_len: u64,
}

// SAFETY: an image is handed to the reactor thread before its first operation and stays there; the iovecs it holds later
// point at memory that its operations' callers keep valid on whatever thread runs the reactor.
unsafe impl Send for Image {}

impl Image {
    pub fn new(file: HostFile, map: Box<dyn ImageMap>, overlay: Overlay) -> Self {
        let geometry = map.geometry();
        let file_len = if overlay.is_empty() { u64::MAX } else { file.len().unwrap_or(u64::MAX) };
        Self {
            file,
            map,
            geometry,
            owner: 0,
            running: Slots::new(),
            parts: Slots::new(),
            buffers: BufferPool::default(),
            extents: Vec::new(),
            data_extents: Vec::new(),
            ready: Vec::new(),
            finished: Vec::new(),
            zeros: None,
            overlay,
            file_len,
        }
    }

    /// The number its completions carry. Set once, before the first operation.
    pub fn set_owner(&mut self, owner: u32) {
        self.owner = owner;
    }

    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    pub fn file(&self) -> &HostFile {
        &self.file
    }

    /// From here on by `descriptor`, which is one of the same open file.
    pub(super) fn adopt(&mut self, descriptor: OwnedFd) {
        self.file.adopt(descriptor);
    }

    pub fn growth_bytes(&self) -> u64 {
        self.map.growth_bytes()
    }

    /// Operations and metadata I/O under way.
    pub fn busy(&self) -> usize {
        self.running.in_use() + self.parts.in_use()
    }

    pub fn begin_close(&mut self, reactor: &mut dyn Reactor) {
        self.map.begin_close();
        self.pump_metadata(reactor);
    }

    /// Nothing is under way, and the file needs no replay (or cannot be spared one: its map has failed).
    pub fn is_clean(&self) -> bool {
        self.busy() == 0 && (self.map.is_clean() || self.map.failure().is_some())
    }

    /// (length, reads as zero) pairs tiling the range, as the map knows it.
    pub fn allocation(&mut self, range: ByteRange, out: &mut Vec<(u64, bool)>) {
        self.extents.clear();
        self.map.map_read(range, &mut self.extents);
        out.extend(self.extents.iter().map(|extent| match *extent {
            Extent::Data { len, .. } => (len, false),
            Extent::Zero { len } => (len, true),
        }));
    }

    /// Where the page of the disk that begins at `from` lies in the file: for the search of holes by a helper thread.
    pub fn pieces(&self, from: u64) -> Pieces {
        Pieces::of(self.map.as_ref(), from, !self.overlay.is_empty())
    }

    /// As [`ImageMap::content_name`].
    pub fn content_name(&self) -> Option<Uuid> {
        self.map.content_name()
    }

    /// For the target of a move, before its first write.
    pub fn keep_content_name(&mut self) {
        self.map.keep_content_name();
    }

    /// Called before a guest's write is started on this image, or on another that this one is a copy of.
    pub fn content_changes(&mut self, reactor: &mut dyn Reactor) {
        if self.map.content_changes() {
            self.pump_metadata(reactor);
        }
    }

    /// Starts `op` on `range`, which lies inside the disk and is whole sectors.
    ///
    /// # Safety
    /// The memory behind `iov` stays valid (and, for reads, is written) until the operation's `Finished` has been taken.
    pub unsafe fn start(
        &mut self,
        op: ImageOp,
        range: ByteRange,
        iov: &[libc::iovec],
        tag: u64,
        reactor: &mut dyn Reactor,
    ) {
        let slot = self.running.take();
        let running = self.running.get(slot);
        running.tag = tag;
        running.op = Some(op);
        running.range = range;
        running.iov.clear();
        running.iov.extend_from_slice(iov);
        running.bounce = None;
        running.parts = 0;
        running.error = None;
        running.waits_for_map = false;
        let patched = op == ImageOp::Read && !self.overlay.is_empty();
        if patched || matches!(op, ImageOp::Read | ImageOp::Write) && !aligned(iov, self.file.memory_align()) {
            let mut buffer = self.buffers.take(range.len as usize);
            let faults = memory_guard::faults();
            if op == ImageOp::Write {
                // SAFETY: readable by this function's contract.
                unsafe { copy_from_iovecs(iov, buffer.as_mut_slice()) };
            }
            self.running.get(slot).bounce = Some(buffer);
            if memory_guard::faults() != faults {
                // As the kernel says it of memory that is not there; what was copied are zeros in its place.
                return self.fail(slot, libc::EFAULT);
            }
        }
        self.proceed(slot, reactor);
        self.pump_metadata(reactor);
    }

    /// A completion whose token carries this image's owner number.
    pub fn on_io(&mut self, slot: u32, result: Result<u32, Errno>, reactor: &mut dyn Reactor) {
        let part = self.parts.get(slot);
        let again = matches!(result, Err(libc::EAGAIN | libc::EINTR));
        if again && part.retries < RETRIES_MAX {
            part.retries += 1;
            self.submit_part(slot, reactor);
            return;
        }
        let outcome = match (part.kind, result) {
            (PartKind::Data | PartKind::ZeroWrite | PartKind::Meta { .. }, Ok(count)) if part.left > 0 => {
                let count = u64::from(count).min(part.left);
                // Nothing moved: a file that ended early. An answer of zeros would be a guess, so the guest hears of it.
                if count == 0 && !part.write && part.offset >= self.file_len {
                    // Only a log replayed in memory makes the file longer than it is: zeros there, then the overlay.
                    // SAFETY: the part's iovecs name the bounce buffer of its operation.
                    unsafe { fill_zero(&part.iov, 0, part.left) };
                    Ok(())
                } else if count == 0 {
                    Err(libc::EIO)
                } else {
                    part.left -= count;
                    part.offset += count;
                    if part.left > 0 {
                        if part.kind != PartKind::ZeroWrite {
                            advance_iovecs(&mut part.iov, count as usize);
                        }
                        self.submit_part(slot, reactor);
                        return;
                    }
                    Ok(())
                }
            }
            (PartKind::Punch { mode }, Err(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL)) => {
                // ZERO_RANGE is refused by some file systems that can punch; what can do neither gets zeros written.
                if mode == punch_mode(false) {
                    part.kind = PartKind::Punch { mode: punch_mode(true) };
                } else {
                    part.kind = PartKind::ZeroWrite;
                }
                self.submit_part(slot, reactor);
                return;
            }
            (_, Ok(_)) => Ok(()),
            (_, Err(errno)) => Err(errno),
        };
        self.end_part(slot, outcome, reactor);
        self.pump_metadata(reactor);
    }

    /// Appends what has finished since the last call.
    pub fn take_finished(&mut self, out: &mut Vec<Finished>) {
        out.append(&mut self.finished);
    }

    fn end_part(&mut self, slot: u32, outcome: Result<(), Errno>, reactor: &mut dyn Reactor) {
        let part = self.parts.get(slot);
        let (kind, running) = (part.kind, part.running);
        if let Some(buffer) = part.buffer.take() {
            self.buffers.put(buffer);
        }
        self.parts.put(slot);
        if let PartKind::Meta { id, .. } = kind {
            self.map.io_done(id, outcome);
            self.resume_waiters(reactor);
            return;
        }
        if let (PartKind::Sync, Err(errno)) = (kind, outcome) {
            self.map.flush_failed(errno);
        }
        let operation = self.running.get(running);
        operation.parts -= 1;
        if let Err(errno) = outcome {
            operation.error.get_or_insert(errno);
        }
        if operation.parts == 0 {
            self.finish(running);
        }
    }

    fn resume_waiters(&mut self, reactor: &mut dyn Reactor) {
        let mut ready = std::mem::take(&mut self.ready);
        self.map.take_ready(&mut ready);
        for (waiter, result) in ready.drain(..) {
            let slot = waiter as u32;
            self.running.get(slot).waits_for_map = false;
            match result {
                Ok(()) => self.proceed(slot, reactor),
                Err(errno) => {
                    self.running.get(slot).error = Some(errno);
                    self.finish(slot);
                }
            }
        }
        self.ready = ready;
    }

    fn pump_metadata(&mut self, reactor: &mut dyn Reactor) {
        while let Some(io) = self.map.next_io() {
            let (what, offset, left) = match &io.op {
                MetaOp::Write { offset, data } => (MetaKind::Write, *offset, data.len() as u64),
                MetaOp::Flush => (MetaKind::Flush, 0, 0),
                MetaOp::Extend { len } => (MetaKind::Extend, *len, 0),
            };
            let slot = self.new_part(NO_OPERATION, PartKind::Meta { id: io.id, what }, offset, left, true);
            if let MetaOp::Write { data, .. } = io.op {
                let mut buffer = self.buffers.take(data.len());
                buffer.as_mut_slice().copy_from_slice(&data);
                let part = self.parts.get(slot);
                part.iov.push(buffer.iovec());
                part.buffer = Some(buffer);
            }
            self.submit_part(slot, reactor);
        }
    }

    /// Maps the operation and starts its parts, or leaves it waiting for the map.
    fn proceed(&mut self, slot: u32, reactor: &mut dyn Reactor) {
        let (op, range) = {
            let running = self.running.get(slot);
            (running.op, running.range)
        };
        let Some(op) = op else { return };
        self.extents.clear();
        match op {
            ImageOp::Read => self.map.map_read(range, &mut self.extents),
            ImageOp::Write => match self.map.map_write(range, u64::from(slot), &mut self.extents) {
                Ok(Mapping::Ready) => {}
                Ok(Mapping::Pending) => {
                    self.running.get(slot).waits_for_map = true;
                    return;
                }
                Err(e) => return self.fail(slot, e.0),
            },
            ImageOp::Zero { .. } => match self.map_zero(slot, range) {
                Ok(true) => {}
                Ok(false) => return,
                Err(errno) => return self.fail(slot, errno),
            },
            ImageOp::Flush => {
                self.running.get(slot).parts = 1;
                let part = self.new_part(slot, PartKind::Sync, 0, 0, false);
                self.submit_part(part, reactor);
                return;
            }
        }
        self.start_parts(slot, op, reactor);
    }

    /// Zeroing touches only what has a place; the map is asked for leave to write there (a VHDX session's first write).
    fn map_zero(&mut self, slot: u32, range: ByteRange) -> Result<bool, Errno> {
        let mut found = std::mem::take(&mut self.data_extents);
        found.clear();
        self.map.map_read(range, &mut found);
        let mut at = range.start;
        let mut answer = Ok(true);
        for extent in &found {
            match *extent {
                Extent::Zero { len } => at += len,
                Extent::Data { len, .. } => {
                    match self.map.map_write(ByteRange::new(at, len), u64::from(slot), &mut self.extents) {
                        Ok(Mapping::Ready) => at += len,
                        Ok(Mapping::Pending) => {
                            self.running.get(slot).waits_for_map = true;
                            answer = Ok(false);
                            break;
                        }
                        Err(e) => {
                            answer = Err(e.0);
                            break;
                        }
                    }
                }
            }
        }
        self.data_extents = found;
        answer
    }

    fn start_parts(&mut self, slot: u32, op: ImageOp, reactor: &mut dyn Reactor) {
        let extents = std::mem::take(&mut self.extents);
        let count = extents.iter().filter(|e| matches!(e, Extent::Data { .. })).count() as u32;
        // Counted before the first is submitted: a part never ends the operation while others are still to start.
        self.running.get(slot).parts = count;
        let mut at = 0u64;
        for extent in &extents {
            match *extent {
                Extent::Zero { len } => {
                    if op == ImageOp::Read {
                        let running = self.running.get(slot);
                        match &mut running.bounce {
                            Some(buffer) => buffer.as_mut_slice()[at as usize..(at + len) as usize].fill(0),
                            // SAFETY: the caller's memory, valid and writable until `Finished`.
                            None => unsafe { fill_zero(&running.iov, at, len) },
                        }
                    }
                    at += len;
                }
                Extent::Data { file_offset, len } => {
                    let kind = match op {
                        ImageOp::Zero { unmap } => PartKind::Punch { mode: punch_mode(unmap) },
                        _ => PartKind::Data,
                    };
                    let part = self.new_part(slot, kind, file_offset, len, op != ImageOp::Read);
                    if kind == PartKind::Data {
                        let running = self.running.get_ref(slot);
                        let target = &mut self.parts.get(part).iov;
                        match &running.bounce {
                            Some(buffer) => slice_iovecs(&[buffer.iovec()], at, len, target),
                            None => slice_iovecs(&running.iov, at, len, target),
                        }
                    }
                    self.submit_part(part, reactor);
                    at += len;
                }
            }
        }
        self.extents = extents;
        if count == 0 {
            self.finish(slot);
        }
    }

    fn new_part(&mut self, running: u32, kind: PartKind, offset: u64, left: u64, write: bool) -> u32 {
        let slot = self.parts.take();
        let part = self.parts.get(slot);
        part.running = running;
        part.kind = kind;
        part.write = write;
        part.iov.clear();
        part.offset = offset;
        part.left = left;
        part.retries = 0;
        part.buffer = None;
        slot
    }

    fn submit_part(&mut self, slot: u32, reactor: &mut dyn Reactor) {
        let fd: RawFd = self.file.fd();
        let token = Token { owner: self.owner, slot };
        if self.parts.get_ref(slot).kind == PartKind::ZeroWrite {
            let zeros = self.zeros.get_or_insert_with(|| AlignedBuffer::new(ZERO_WRITE_BYTES as usize));
            let mut iovec = zeros.iovec();
            let part = self.parts.get(slot);
            iovec.iov_len = part.left.min(ZERO_WRITE_BYTES) as usize;
            part.iov.clear();
            part.iov.push(iovec);
        }
        let part = self.parts.get_ref(slot);
        let (iov, count) = (part.iov.as_ptr(), part.iov.len() as u32);
        let op = match part.kind {
            PartKind::Sync | PartKind::Meta { what: MetaKind::Flush, .. } => Op::Sync { fd, data_only: true },
            PartKind::Meta { what: MetaKind::Extend, .. } => Op::Truncate { fd, len: part.offset },
            PartKind::Punch { mode } => Op::Fallocate { fd, mode, offset: part.offset, len: part.left },
            PartKind::Data | PartKind::ZeroWrite | PartKind::Meta { .. } if part.write => {
                Op::Writev { fd, offset: part.offset, iov, count }
            }
            PartKind::Data | PartKind::ZeroWrite | PartKind::Meta { .. } => {
                Op::Readv { fd, offset: part.offset, iov, count }
            }
        };
        // SAFETY: the iovec array is the part's and stays put until its completion (a slot is not freed before); the memory
        // behind it is the caller's until `Finished`, or a buffer owned by the operation or the part.
        unsafe { reactor.submit(op, token) };
    }

    fn fail(&mut self, slot: u32, errno: Errno) {
        self.running.get(slot).error = Some(errno);
        self.finish(slot);
    }

    fn finish(&mut self, slot: u32) {
        let read = self.running.get_ref(slot).op == Some(ImageOp::Read);
        if read && !self.overlay.is_empty() {
            self.apply_overlay(slot);
        }
        let running = self.running.get(slot);
        let result = match running.error {
            Some(errno) => Err(errno),
            None => Ok(()),
        };
        if let Some(buffer) = running.bounce.take() {
            if read && result.is_ok() {
                // SAFETY: the caller's memory, valid until `Finished` is taken.
                unsafe { copy_to_iovecs(buffer.as_slice(), &running.iov) };
            }
            self.buffers.put(buffer);
        }
        let tag = running.tag;
        running.op = None;
        self.running.put(slot);
        self.finished.push(Finished { tag, result });
    }

    /// Lays replayed log sectors over what was read from a file that may not be written. Such reads always go through a bounce buffer.
    fn apply_overlay(&mut self, slot: u32) {
        let range = self.running.get_ref(slot).range;
        self.extents.clear();
        self.map.map_read(range, &mut self.extents);
        let Some(buffer) = &mut self.running.get(slot).bounce else { return };
        let mut at = 0;
        for extent in &self.extents {
            let len = match *extent {
                Extent::Zero { len } => len as usize,
                Extent::Data { file_offset, len } => {
                    self.overlay.apply(file_offset, &mut buffer.as_mut_slice()[at..at + len as usize]);
                    len as usize
                }
            };
            at += len;
        }
    }
}

fn punch_mode(unmap: bool) -> i32 {
    libc::FALLOC_FL_KEEP_SIZE | if unmap { libc::FALLOC_FL_PUNCH_HOLE } else { libc::FALLOC_FL_ZERO_RANGE }
}
