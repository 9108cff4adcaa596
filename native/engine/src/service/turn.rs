//! What the reactor thread owns, what becomes of a guest's request, and what other threads may ask for. Its loop is in `run.rs`.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Instant, SystemTime};

use super::budget::Budget;
use super::clock::now_us;
use super::disk::{Disk, DiskStats, GuestError};
use super::drivers::Drivers;
use super::engine::{Call, DiskId, ExportId};
use super::images::Images;
use super::owner::{Purpose, tag, untag};
use super::turn_length::{TurnLength, TurnMeter};
use crate::disk::{ByteRange, DiskError, Errno, ErrorKind, IoVecs, Request, RequestKind, SECTOR_BYTES};
use crate::exports::{DiskFacts, Export, ExportCall};
use crate::image::{Finished, Image, ImageOp};
use crate::mirror::{CHUNK_BYTES, Event};
use crate::reactor::{Completion, PollWindow, Reactor};

/// Iovec lists kept for reuse: sixteen full rings' worth, four disks with four queues each.
const IOVEC_LISTS_KEPT: usize = 2048;

pub(super) struct ExportSlot {
    pub export: Box<dyn Export>,
    pub disk: DiskId,
    /// I/O of the export's own that the kernel still has.
    pub pending_io: u32,
    pub close: bool,
}

pub struct Service {
    pub(super) calls: Receiver<Call>,
    /// There may be calls to take, though the wake-up for them was taken.
    pub(super) calls_wait: bool,
    pub(super) wake: Arc<OwnedFd>,
    pub(super) disks: Vec<Option<Disk>>,
    pub(super) images: Images,
    pub(super) exports: Vec<Option<ExportSlot>>,
    /// What a turn could not do, oldest first: `run.rs` takes from the front. Bounded by what guests and moves have in flight.
    pub(super) incoming: VecDeque<(u32, Request)>,
    pub(super) answers: VecDeque<(u32, u64, Result<(), Errno>)>,
    pub(super) guest_finished: VecDeque<Finished>,
    pub(super) move_finished: VecDeque<Finished>,
    /// Where images put what has finished, before it is sorted into the two above.
    pub(super) finished: Vec<Finished>,
    pub(super) completions: Vec<Completion>,
    pub(super) iovecs: Vec<IoVecs>,
    pub(super) drivers: Drivers,
    /// Events that arose while the machine was busy with another; fed in before anything else happens.
    pub(super) deferred: Vec<(u32, Event)>,
    pub(super) last_tick_us: u64,
    /// What this turn has done.
    pub(super) budget: Budget,
    pub(super) meter: TurnMeter,
    /// How long to look for completions before sleeping.
    pub(super) window: PollWindow,
    pub(super) shutting_down: bool,
    /// Set when every request is answered and the images are being closed.
    pub(super) closing_since_us: Option<u64>,
}

impl Service {
    pub(super) fn new(reactor: Box<dyn Reactor>, calls: Receiver<Call>, wake: Arc<OwnedFd>) -> Self {
        Self {
            calls,
            calls_wait: false,
            wake,
            disks: Vec::new(),
            images: Images::new(reactor),
            exports: Vec::new(),
            incoming: VecDeque::new(),
            answers: VecDeque::new(),
            guest_finished: VecDeque::new(),
            move_finished: VecDeque::new(),
            finished: Vec::new(),
            completions: Vec::new(),
            iovecs: Vec::new(),
            drivers: Drivers::default(),
            deferred: Vec::new(),
            last_tick_us: 0,
            budget: Budget::default(),
            meter: TurnMeter::default(),
            window: PollWindow::new(Instant::now()),
            shutting_down: false,
            closing_since_us: None,
        }
    }

    pub(super) fn accept(&mut self, export: u32, request: Request) {
        let Some(Some(slot)) = self.exports.get(export as usize) else { return };
        let disk_id = slot.disk.0;
        let Some(Some(disk)) = self.disks.get_mut(disk_id as usize) else { return };
        if let Err(errno) = check(&request, &disk.facts) {
            self.answers.push_back((export, request.tag, Err(errno)));
            self.recycle(request.iov);
            return;
        }
        let moving = disk.moving;
        let id = disk.requests.take();
        let range = ByteRange::new(request.offset, request.len);
        let entry = disk.requests.get(id);
        entry.export = export;
        entry.tag = request.tag;
        entry.kind = Some(request.kind);
        entry.range = range;
        entry.iov = request.iov;
        entry.keep = request.keep;
        entry.fua = request.fua;
        entry.flushing = false;
        entry.started_us = now_us();
        entry.bounce = None;
        entry.parts = 0;
        entry.answered = false;
        entry.adopted = None;
        match moving {
            Some(_) if request.kind != RequestKind::Read => self.moving_request(disk_id, id),
            _ => self.start_guest_op(disk_id, id),
        }
    }

    /// Starts a guest's request on the disk's own image.
    pub(super) fn start_guest_op(&mut self, disk_id: u32, id: u32) {
        let Some(Some(disk)) = self.disks.get_mut(disk_id as usize) else { return };
        let entry = disk.requests.get(id);
        let op = match entry.kind {
            _ if entry.flushing => ImageOp::Flush,
            Some(RequestKind::Read) => ImageOp::Read,
            Some(RequestKind::Write) => ImageOp::Write,
            Some(RequestKind::Flush) | None => ImageOp::Flush,
            Some(RequestKind::Discard) => ImageOp::Zero { unmap: true },
            Some(RequestKind::WriteZeroes { unmap }) => ImageOp::Zero { unmap },
        };
        let writes = !matches!(op, ImageOp::Read | ImageOp::Flush);
        if writes {
            self.images.content_changes(disk.image);
        }
        if let Some(tracking) = &mut disk.tracking
            && writes
        {
            let chunks = entry.range.start / CHUNK_BYTES..entry.range.end().div_ceil(CHUNK_BYTES);
            tracking.saved.set(chunks.clone());
            tracking.chunks.set(chunks);
        }
        entry.parts += 1;
        let tag = tag(Purpose::Guest, disk_id, id);
        // SAFETY: the guest's memory is kept mapped by the request's `keep` until `answer` has been called for it.
        if !unsafe { self.images.start(disk.image, op, entry.range, &entry.iov, tag, &mut self.finished) } {
            self.finished.push(Finished { tag, result: Err(libc::EIO) });
        }
    }

    pub(super) fn on_finished(&mut self, done: Finished) {
        let (purpose, disk_id, slot) = untag(done.tag);
        if purpose != Purpose::Guest {
            self.moving_finished(purpose, disk_id, slot, done.result);
            return;
        }
        let Some(Some(disk)) = self.disks.get_mut(disk_id as usize) else { return };
        let entry = disk.requests.get(slot);
        entry.parts -= 1;
        if let Some((driver, member)) = entry.adopted.take() {
            self.drive(driver, Event::SourceWriteDone { disk: member, id: slot, result: done.result });
            return;
        }
        let Some(Some(disk)) = self.disks.get_mut(disk_id as usize) else { return };
        let entry = disk.requests.get(slot);
        if done.result.is_ok() && entry.fua && !entry.flushing && is_write(entry.kind) {
            entry.flushing = true;
            self.start_guest_op(disk_id, slot);
            return;
        }
        self.answer(disk_id, slot, done.result);
        self.forget_if_over(disk_id, slot);
    }

    /// Queues the guest's answer; the request stays until no operation refers to it.
    pub(super) fn answer(&mut self, disk_id: u32, id: u32, result: Result<(), Errno>) {
        let Some(Some(disk)) = self.disks.get_mut(disk_id as usize) else { return };
        let entry = disk.requests.get(id);
        debug_assert!(!entry.answered, "a request was answered twice");
        entry.answered = true;
        let now = now_us();
        let waited = now.saturating_sub(entry.started_us);
        let (export, tag, kind, range) = (entry.export, entry.tag, entry.kind, entry.range);
        disk.latency.record(now, waited);
        match (kind, result) {
            (_, Err(errno)) => {
                disk.errors += 1;
                disk.last_error = Some(GuestError { errno, kind, range, at: SystemTime::now() });
            }
            (Some(RequestKind::Read), Ok(())) => disk.bytes_read += range.len,
            (_, Ok(())) => disk.bytes_written += range.len,
        }
        self.answers.push_back((export, tag, result));
    }

    /// Frees the request once it is answered and nothing in the kernel refers to its memory.
    pub(super) fn forget_if_over(&mut self, disk_id: u32, id: u32) {
        let Some(Some(disk)) = self.disks.get_mut(disk_id as usize) else { return };
        let entry = disk.requests.get(id);
        if !entry.answered || entry.parts > 0 {
            return;
        }
        entry.keep = None;
        let iov = std::mem::take(&mut entry.iov);
        entry.bounce = None;
        entry.kind = None;
        disk.requests.put(id);
        self.recycle(iov);
    }

    pub(super) fn recycle(&mut self, mut iov: IoVecs) {
        if self.iovecs.len() < IOVEC_LISTS_KEPT {
            iov.clear();
            self.iovecs.push(iov);
        }
    }

    // ---- what other threads ask for -------------------------------------------------------------------------------

    pub fn attach(&mut self, id: DiskId, image: Image, read_only: bool) -> Result<(), DiskError> {
        let index = id.0 as usize;
        if self.disks.get(index).is_some_and(Option::is_some) {
            return Err(DiskError::new(ErrorKind::InvalidState, format!("disk {index} is attached already")));
        }
        let facts = DiskFacts { geometry: image.geometry(), read_only };
        let image = self.images.add(image, None);
        if self.disks.len() <= index {
            self.disks.resize_with(index + 1, || None);
        }
        self.disks[index] = Some(Disk::new(facts, image));
        Ok(())
    }

    /// Takes disks out that no export serves yet, for a start that failed half way.
    pub fn detach_all(&mut self) {
        for disk in self.disks.iter_mut().filter_map(Option::take) {
            drop(self.images.take(disk.image));
        }
    }

    pub fn add_export(&mut self, disk: DiskId, export: Box<dyn Export>) -> Result<ExportId, DiskError> {
        if !self.disks.get(disk.0 as usize).is_some_and(Option::is_some) {
            return Err(DiskError::new(ErrorKind::NotFound, format!("disk {} is not attached", disk.0)));
        }
        let slot = ExportSlot { export, disk, pending_io: 0, close: false };
        let number = self.exports.iter().position(Option::is_none).unwrap_or(self.exports.len());
        if number == self.exports.len() {
            self.exports.push(Some(slot));
        } else {
            self.exports[number] = Some(slot);
        }
        self.with_export(number as u32, |export, cx| export.start(cx));
        self.pass_on();
        Ok(ExportId(number as u32))
    }

    pub fn run_on_export(&mut self, id: ExportId, call: ExportCall) {
        self.with_export(id.0, |export, cx| call(export, cx));
    }

    pub fn facts(&self, id: DiskId) -> Option<DiskFacts> {
        self.disks.get(id.0 as usize)?.as_ref().map(|disk| disk.facts)
    }

    pub fn stats(&self, id: DiskId) -> Option<DiskStats> {
        let disk = self.disks.get(id.0 as usize)?.as_ref()?;
        Some(DiskStats {
            bytes_read: disk.bytes_read,
            bytes_written: disk.bytes_written,
            errors: disk.errors,
            last_error: disk.last_error,
            in_flight: disk.requests.in_use(),
            p99_us: disk.latency.last_p99_us(),
            latency: disk.latency.summary(),
        })
    }

    /// The longest turn of the last minute or two.
    pub fn longest_turn(&self) -> TurnLength {
        self.meter.recent()
    }

    /// Stops taking requests; the thread ends when all is still and every image is closed cleanly.
    pub fn begin_shut_down(&mut self) {
        self.shutting_down = true;
        for slot in self.exports.iter_mut().flatten() {
            slot.close = true;
        }
    }

    /// From here on no move takes another step.
    pub(super) fn is_closing(&self) -> bool {
        self.closing_since_us.is_some()
    }

    /// Whether the kernel may still refer to memory of an image's operations: then nothing of it may be freed.
    pub(super) fn has_io_under_way(&self) -> bool {
        self.images.are_busy()
    }
}

fn is_write(kind: Option<RequestKind>) -> bool {
    !matches!(kind, None | Some(RequestKind::Read | RequestKind::Flush))
}

/// Form and place of a request: whole sectors, inside the disk, and a write only where writing is allowed.
fn check(request: &Request, facts: &DiskFacts) -> Result<(), Errno> {
    let write = !matches!(request.kind, RequestKind::Read | RequestKind::Flush);
    if write && facts.read_only {
        return Err(libc::EROFS);
    }
    if request.kind == RequestKind::Flush {
        return Ok(());
    }
    let range = ByteRange::checked(request.offset, request.len).ok_or(libc::EINVAL)?;
    if range.is_empty()
        || range.end() > facts.geometry.size_bytes
        || !(range.start | range.len).is_multiple_of(SECTOR_BYTES)
    {
        return Err(libc::EINVAL);
    }
    let in_memory: u64 = request.iov.iter().map(|part| part.iov_len as u64).sum();
    let has_data = matches!(request.kind, RequestKind::Read | RequestKind::Write);
    if has_data && in_memory != range.len { Err(libc::EINVAL) } else { Ok(()) }
}
