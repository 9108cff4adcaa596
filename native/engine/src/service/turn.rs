//! The loop of the reactor thread, and what other threads may ask of it.
//!
//! One turn: closures from other threads → one system call → completions to their owners → requests and answers until
//! nothing is left to pass on → every export publishes once. No lock is taken and, after warm-up, nothing is allocated.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant, SystemTime};

use super::clock::now_us;
use super::cx::Cx;
use super::disk::{Disk, DiskStats, GuestError};
use super::drivers::Drivers;
use super::engine::{Call, DiskId, ExportId};
use super::images::Images;
use super::owner::{Owner, Purpose, tag, untag};
use crate::disk::{ByteRange, DiskError, Errno, ErrorKind, IoVecs, Request, RequestKind, SECTOR_BYTES};
use crate::exports::{DiskFacts, Export, ExportCall};
use crate::image::{Finished, Image, ImageOp};
use crate::mirror::{CHUNK_BYTES, Event};
use crate::reactor::{Completion, Op, PollWindow, Reactor, Token, Wait};

/// With nothing to do the thread sleeps; it is woken by descriptors. The limit only bounds a lost wake-up.
const IDLE_SLEEP: Duration = Duration::from_millis(500);
/// The machine's limits are checked by ticks; its contract asks for one at least every 25 ms.
const TICK_US: u64 = 10_000;
/// How long the end of the thread waits for an image that serves no disk.
const IDLE_CLOSE_US: u64 = 1_000_000;
/// Iovec lists kept for reuse: two full rings' worth.
const IOVEC_LISTS_KEPT: usize = 512;

pub(super) struct ExportSlot {
    pub export: Box<dyn Export>,
    pub disk: DiskId,
    /// I/O of the export's own that the kernel still has.
    pub pending_io: u32,
    pub close: bool,
}

pub struct Service {
    calls: Receiver<Call>,
    pub(super) wake: Arc<OwnedFd>,
    pub(super) disks: Vec<Option<Disk>>,
    pub(super) images: Images,
    exports: Vec<Option<ExportSlot>>,
    incoming: Vec<(u32, Request)>,
    taken: Vec<(u32, Request)>,
    pub(super) answers: Vec<(u32, u64, Result<(), Errno>)>,
    delivered: Vec<(u32, u64, Result<(), Errno>)>,
    pub(super) finished: Vec<Finished>,
    completions: Vec<Completion>,
    pub(super) iovecs: Vec<IoVecs>,
    pub(super) drivers: Drivers,
    /// Events that arose while the machine was busy with another; fed in before anything else happens.
    pub(super) deferred: Vec<(u32, Event)>,
    last_tick_us: u64,
    /// How long to look for completions before sleeping.
    window: PollWindow,
    shutting_down: bool,
    /// Set when every request is answered and the images are being closed.
    closing_since_us: Option<u64>,
}

impl Service {
    pub(super) fn new(reactor: Box<dyn Reactor>, calls: Receiver<Call>, wake: Arc<OwnedFd>) -> Self {
        Self {
            calls,
            wake,
            disks: Vec::new(),
            images: Images::new(reactor),
            exports: Vec::new(),
            incoming: Vec::new(),
            taken: Vec::new(),
            answers: Vec::new(),
            delivered: Vec::new(),
            finished: Vec::new(),
            completions: Vec::new(),
            iovecs: Vec::new(),
            drivers: Drivers::default(),
            deferred: Vec::new(),
            last_tick_us: 0,
            window: PollWindow::new(Instant::now()),
            shutting_down: false,
            closing_since_us: None,
        }
    }

    pub(super) fn run(&mut self) {
        self.arm_wake();
        loop {
            let spin = self.poll_exports() || self.window.is_open(Instant::now());
            let wait = if spin { Wait::No } else { Wait::AtMost(self.sleep_limit()) };
            let mut completions = std::mem::take(&mut self.completions);
            if self.images.turn(wait, &mut completions).is_err() {
                // The ring itself failed: nothing can be served any more. The process ends and its successor takes over;
                // the guest waits meanwhile and sees no error.
                std::process::abort();
            }
            if !completions.is_empty() {
                let now = Instant::now();
                if spin { self.window.activity(now) } else { self.window.woken(now) }
            }
            for completion in completions.drain(..) {
                self.dispatch(completion);
            }
            self.completions = completions;
            self.tick();
            self.pass_on();
            self.end_turn();
            if self.shutting_down && self.try_finish() {
                return;
            }
        }
    }

    fn sleep_limit(&self) -> Duration {
        if self.shutting_down {
            Duration::from_millis(5)
        } else if !self.drivers.is_empty() {
            Duration::from_micros(TICK_US)
        } else {
            IDLE_SLEEP
        }
    }

    fn tick(&mut self) {
        let now = now_us();
        if self.drivers.is_empty() || now.saturating_sub(self.last_tick_us) < TICK_US {
            return;
        }
        self.last_tick_us = now;
        for place in 0..self.drivers.len() {
            let Some(driver) = self.drivers.number_at(place) else { continue };
            self.drive(driver, Event::Tick);
            self.govern(driver, now);
        }
    }

    fn arm_wake(&mut self) {
        let token = Token { owner: Owner::Wake.to_u32(), slot: 0 };
        // SAFETY: no memory is involved; the descriptor lives as long as the service.
        unsafe { self.images.reactors().main().submit(Op::PollIn { fd: self.wake.as_raw_fd() }, token) };
    }

    fn dispatch(&mut self, completion: Completion) {
        match Owner::from_u32(completion.token.owner) {
            Owner::Wake => {
                let mut count = [0u8; 8];
                // The calls are taken whatever the counter says; the read only clears it.
                let cleared = rustix::io::read(&*self.wake, &mut count);
                debug_assert!(cleared.is_ok() || cleared == Err(rustix::io::Errno::AGAIN));
                while let Ok(call) = self.calls.try_recv() {
                    call(self);
                }
                self.arm_wake();
            }
            Owner::Export(number) => {
                self.with_export(number, |slot, cx| {
                    *cx.pending_io -= 1;
                    slot.on_io(completion.token.slot, completion.result, cx);
                });
            }
            Owner::Image(number) => {
                self.images.on_io(number, completion.token.slot, completion.result, &mut self.finished);
            }
        }
    }

    /// Passes requests to disks, finished operations to requests, and answers to exports until all is still.
    pub(super) fn pass_on(&mut self) {
        loop {
            self.drive_deferred();
            if self.incoming.is_empty() && self.finished.is_empty() && self.answers.is_empty() {
                return;
            }
            let mut taken = std::mem::take(&mut self.taken);
            std::mem::swap(&mut taken, &mut self.incoming);
            for (export, request) in taken.drain(..) {
                self.accept(export, request);
            }
            self.taken = taken;
            let mut finished = std::mem::take(&mut self.finished);
            for done in finished.drain(..) {
                self.on_finished(done);
            }
            // Operations that finished at once while the list was out (holes read, nothing to zero) are in the new list.
            finished.append(&mut self.finished);
            self.finished = finished;
            let mut answers = std::mem::take(&mut self.delivered);
            std::mem::swap(&mut answers, &mut self.answers);
            for (export, tag, result) in answers.drain(..) {
                self.with_export(export, |slot, cx| slot.on_done(tag, result, cx));
            }
            self.delivered = answers;
        }
    }

    fn end_turn(&mut self) {
        for number in 0..self.exports.len() as u32 {
            self.with_export(number, |slot, cx| slot.end_turn(cx));
        }
        self.pass_on();
        for slot in &mut self.exports {
            if slot.as_ref().is_some_and(|s| s.close && s.pending_io == 0 && s.export.in_flight() == 0) {
                *slot = None;
            }
        }
    }

    fn poll_exports(&mut self) -> bool {
        let mut busy = false;
        for number in 0..self.exports.len() as u32 {
            self.with_export(number, |slot, cx| busy |= slot.poll(cx));
        }
        if !self.incoming.is_empty() {
            self.window.activity(Instant::now());
            self.pass_on();
        }
        busy
    }

    /// Runs `call` with the export taken out of its slot, so that it and the service can be borrowed side by side.
    fn with_export(&mut self, number: u32, call: impl FnOnce(&mut dyn Export, &mut Cx<'_>)) {
        let Some(Some(mut slot)) = self.exports.get_mut(number as usize).map(Option::take) else { return };
        if let Some(Some(disk)) = self.disks.get(slot.disk.0 as usize) {
            let (reactor, image) = self.images.main_and(disk.image);
            let mut cx = Cx {
                export: number,
                owner: Owner::Export(number).to_u32(),
                facts: disk.facts,
                reactor,
                image,
                incoming: &mut self.incoming,
                iovecs: &mut self.iovecs,
                pending_io: &mut slot.pending_io,
                close: &mut slot.close,
            };
            call(slot.export.as_mut(), &mut cx);
        }
        self.exports[number as usize] = Some(slot);
    }

    fn accept(&mut self, export: u32, request: Request) {
        let Some(Some(slot)) = self.exports.get(export as usize) else { return };
        let disk_id = slot.disk.0;
        let Some(Some(disk)) = self.disks.get_mut(disk_id as usize) else { return };
        if let Err(errno) = check(&request, &disk.facts) {
            self.answers.push((export, request.tag, Err(errno)));
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
        if let Some(dirty) = &disk.tracking
            && !matches!(op, ImageOp::Read | ImageOp::Flush)
        {
            dirty.set(entry.range.start / CHUNK_BYTES..entry.range.end().div_ceil(CHUNK_BYTES));
        }
        entry.parts += 1;
        let tag = tag(Purpose::Guest, disk_id, id);
        // SAFETY: the guest's memory is kept mapped by the request's `keep` until `answer` has been called for it.
        if !unsafe { self.images.start(disk.image, op, entry.range, &entry.iov, tag, &mut self.finished) } {
            self.finished.push(Finished { tag, result: Err(libc::EIO) });
        }
    }

    fn on_finished(&mut self, done: Finished) {
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
        self.answers.push((export, tag, result));
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

    /// Stops taking requests; the thread ends when all is still and every image is closed cleanly.
    pub fn begin_shut_down(&mut self) {
        self.shutting_down = true;
        for slot in self.exports.iter_mut().flatten() {
            slot.close = true;
        }
    }

    /// Images are closed only when every request is answered: a write still waiting for space would be answered with an error. A move that
    /// is under way is left as a death would leave it, for the next worker to go on with: its machine hears nothing more, least of all
    /// that its images are closed. A side that serves nobody may hang, and a guest waits for the next worker: it has [`IDLE_CLOSE_US`].
    fn try_finish(&mut self) -> bool {
        if self.disks.iter().flatten().any(Disk::has_unanswered) {
            return false;
        }
        let now = now_us();
        if self.closing_since_us.is_none() {
            self.images.begin_close_all();
        }
        let patient = now.saturating_sub(*self.closing_since_us.get_or_insert(now)) < IDLE_CLOSE_US;
        let disks = &self.disks;
        self.images.are_clean(|number| patient || disks.iter().flatten().any(|disk| disk.image == number))
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
