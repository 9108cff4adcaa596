//! Carries out what the move's state machine decides: the only place where its actions become I/O.
//!
//! One driver per move, on the reactor thread. Events come from the guest's requests, finished image operations, the
//! journal's thread and the clock; `Service::drive` feeds them in and executes the answer in order.

use super::clock::now_us;
use super::disk::GuestRequest;
use super::governor::Governor;
use super::owner::{Purpose, tag};
use super::transfer::{CopySlot, Stage, VerifySlot};
use super::turn::Service;
use super::turn_length::TurnLength;
use super::units::UnitHashes;
use crate::disk::{ByteRange, Errno, RequestKind};
use crate::image::{BufferPool, ImageOp, copy_from_iovecs};
use crate::memory_guard;
use crate::mirror::{
    Action, CopyOutcome, EndReason, Event, Flush, JournalPhase, Move, Outcome, Phase, Side, WriteKind,
};
use crate::reactor::LaneId;

/// Marks a flush of the machine's own in an operation's slot number (guest flushes are request slots, far below).
const OWN_FLUSH: u32 = 1 << 31;

/// What the driver tells the control side about, on the reactor thread: must not block.
pub type Notify = Box<dyn FnMut(&Notice) + Send>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    Phase(Phase),
    Ending(EndReason),
    StopTooLate,
    Finished(Outcome),
    /// The journal's thread is asked to make `0` durable; it answers through `Service::record_done`.
    Record(JournalPhase),
    FindHoles(HolesAsked),
}

/// A thread that may block is to look for holes of both sides of a member, from a byte on; it answers through `Service::holes_found`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HolesAsked {
    pub driver: u32,
    pub member: u32,
    pub from: u64,
}

pub struct Member {
    /// The service's number of the disk.
    pub disk: u32,
    pub source: u32,
    pub target: u32,
    /// Where the source goes when it has lost.
    pub source_lane: Option<LaneId>,
    pub units: UnitHashes,
    /// The guest's longest wait for this disk before the move, if it asked for anything.
    pub rest_max_us: Option<u64>,
}

pub struct Driver {
    pub machine: Move,
    pub members: Vec<Member>,
    pub copies: Vec<CopySlot>,
    pub verifies: Vec<VerifySlot>,
    pub phase: Phase,
    pub bound_bytes: Option<u64>,
    pub ended: Option<EndReason>,
    pub finished: Option<Outcome>,
    /// Longest single turn in which the read side of all disks was flipped: requests that arrived then waited for it.
    pub flip_us: Option<u64>,
    pub started_us: u64,
    /// Of the reactor, since the move began.
    pub longest_turn: TurnLength,
    governor: Governor,
    pub switched_at: Option<std::time::SystemTime>,
    actions: Vec<Action>,
    buffers: BufferPool,
    notify: Notify,
}

impl Driver {
    pub fn new(machine: Move, members: Vec<Member>, copies: usize, verifies: usize, notify: Notify) -> Self {
        Self {
            machine,
            members,
            copies: (0..copies).map(|_| CopySlot::default()).collect(),
            verifies: (0..verifies).map(|_| VerifySlot::default()).collect(),
            phase: Phase::Copy,
            bound_bytes: None,
            ended: None,
            finished: None,
            flip_us: None,
            started_us: now_us(),
            longest_turn: TurnLength::default(),
            governor: Governor::default(),
            switched_at: None,
            actions: Vec::with_capacity(256),
            buffers: BufferPool::default(),
            notify,
        }
    }
}

/// Driver and member of a moving disk in the disk field of an operation's tag.
pub const fn place(driver: u32, member: u32) -> u32 {
    (driver << 8) | member
}

const fn unplace(place: u32) -> (u32, u32) {
    (place >> 8, place & 0xff)
}

impl Service {
    /// Feeds one event to the machine of `driver` and executes what it answers.
    pub(super) fn drive(&mut self, driver_id: u32, event: Event) {
        if self.is_closing() {
            return;
        }
        let Some(mut driver) = self.drivers.take(driver_id) else { return };
        let mut actions = std::mem::take(&mut driver.actions);
        let before = now_us();
        driver.machine.on(event, before, &mut actions);
        let flips = actions.iter().any(|a| matches!(a, Action::SetReadSide { .. }));
        for action in actions.drain(..) {
            self.execute(driver_id, &mut driver, action);
        }
        if flips {
            let took = now_us().saturating_sub(before);
            driver.flip_us = Some(driver.flip_us.unwrap_or(0).max(took));
        }
        driver.actions = actions;
        self.drivers.put_back(driver_id, driver);
    }

    /// A write, discard, write-zeroes or flush of the guest on a disk that is moving.
    pub(super) fn moving_request(&mut self, disk_id: u32, id: u32) {
        let Some((driver, member)) = self.moving_place(disk_id) else { return self.start_guest_op(disk_id, id) };
        let Some(Some(disk)) = self.disks.get_mut(disk_id as usize) else { return };
        let entry = disk.requests.get(id);
        // The machine's own hold on the request, given back at Retire or RetireFlush.
        entry.parts += 1;
        let range = entry.range;
        let kind = entry.kind;
        if !matches!(kind, Some(RequestKind::Flush) | None) {
            let target = self.drivers.get(driver).map(|driver| driver.members[member as usize].target);
            if let Some(target) = target {
                self.images.content_changes(target);
            }
        }
        let event = match kind {
            Some(RequestKind::Flush) | None => Event::GuestFlush { disk: member, id },
            Some(RequestKind::Write) => Event::GuestWrite { disk: member, id, range, kind: WriteKind::Data },
            Some(_) => Event::GuestWrite { disk: member, id, range, kind: WriteKind::Zeroes },
        };
        self.drive(driver, event);
    }

    fn moving_place(&self, disk_id: u32) -> Option<(u32, u32)> {
        self.disks.get(disk_id as usize)?.as_ref()?.moving
    }

    fn execute(&mut self, driver_id: u32, driver: &mut Driver, action: Action) {
        match action {
            Action::WriteSource { disk, id } => self.write_one(driver_id, driver, disk, id, Side::Source),
            Action::WriteTarget { disk, id } => self.write_one(driver_id, driver, disk, id, Side::Target),
            Action::WriteBoth { disk, id } => self.write_both(driver_id, driver, disk, id),
            Action::Acknowledge { disk, id, result } => self.acknowledge(driver_id, driver, disk, id, result),
            Action::AcknowledgeFlush { disk, id, result } => {
                let disk_id = driver.members[disk as usize].disk;
                self.answer(disk_id, id, result);
            }
            Action::Refuse { disk, id, errno } => {
                self.answer(driver.members[disk as usize].disk, id, Err(errno));
                self.let_go(driver, disk, id);
            }
            Action::Retire { disk, id } | Action::RetireFlush { disk, id } => self.let_go(driver, disk, id),
            Action::FlushSource { disk, flush } => self.flush_side(driver_id, driver, disk, flush, Side::Source),
            Action::FlushTarget { disk, flush } => self.flush_side(driver_id, driver, disk, flush, Side::Target),
            Action::Copy { disk, slot, range, target_fresh } => {
                self.start_copy(driver_id, driver, disk, slot, range, target_fresh)
            }
            Action::Verify { disk, slot, range, .. } => self.start_verify(driver_id, driver, disk, slot, range),
            Action::FindHoles { disk, from } => {
                (driver.notify)(&Notice::FindHoles(HolesAsked { driver: driver_id, member: disk, from }));
            }
            Action::SetReadSide { disk, side } => {
                let member = &driver.members[disk as usize];
                if let Some(Some(served)) = self.disks.get_mut(member.disk as usize) {
                    served.serve_from(if side == Side::Source { member.source } else { member.target });
                }
            }
            Action::Record { phase } => (driver.notify)(&Notice::Record(phase)),
            Action::PhaseChanged { phase, bound_bytes } => {
                driver.phase = phase;
                driver.bound_bytes = bound_bytes.or(driver.bound_bytes);
                if phase == Phase::Verify {
                    // The copier is at rest and the verifier takes as much memory as it had: never both at once.
                    driver.copies.iter_mut().for_each(CopySlot::give_back_memory);
                }
                if phase == Phase::Release {
                    driver.switched_at = Some(std::time::SystemTime::now());
                    for member in &driver.members {
                        self.images.route(member.target, None);
                        self.images.route(member.source, member.source_lane);
                    }
                }
                (driver.notify)(&Notice::Phase(phase));
            }
            Action::TargetFellBehind { .. } => {}
            Action::Ending { reason } => {
                driver.ended = Some(reason);
                (driver.notify)(&Notice::Ending(reason));
            }
            Action::StopTooLate => (driver.notify)(&Notice::StopTooLate),
            Action::Finished { outcome } => {
                driver.finished = Some(outcome);
                (driver.notify)(&Notice::Finished(outcome));
            }
        }
    }

    /// The machine's own hold on a request ends.
    fn let_go(&mut self, driver: &mut Driver, member_id: u32, id: u32) {
        let disk_id = driver.members[member_id as usize].disk;
        if let Some(Some(disk)) = self.disks.get_mut(disk_id as usize) {
            let entry = disk.requests.get(id);
            entry.parts -= 1;
            if entry.parts == 0
                && let Some(buffer) = entry.bounce.take()
            {
                driver.buffers.put(buffer);
            }
        }
        self.forget_if_over(disk_id, id);
    }

    fn write_one(&mut self, driver_id: u32, driver: &mut Driver, member_id: u32, id: u32, side: Side) {
        let member = &driver.members[member_id as usize];
        let (image, purpose) = match side {
            Side::Source => (member.source, Purpose::SourceWrite),
            Side::Target => (member.target, Purpose::TargetWrite),
        };
        let Some(Some(disk)) = self.disks.get_mut(member.disk as usize) else { return };
        let entry = disk.requests.get(id);
        let (op, tag) = (write_op(entry), tag(purpose, place(driver_id, member_id), id));
        // SAFETY: the guest's memory is kept mapped until the request is forgotten, which waits for Retire.
        if !unsafe { self.images.start(image, op, entry.range, &entry.iov, tag, &mut self.finished) } {
            self.deferred.push((driver_id, refused(purpose, member_id, id)));
        }
    }

    fn write_both(&mut self, driver_id: u32, driver: &mut Driver, member_id: u32, id: u32) {
        let member = &driver.members[member_id as usize];
        let Some(Some(disk)) = self.disks.get_mut(member.disk as usize) else { return };
        let entry = disk.requests.get(id);
        let mut iov: [libc::iovec; 1] = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }];
        let mut count = 0;
        if entry.kind == Some(RequestKind::Write) {
            let mut buffer = driver.buffers.take(entry.range.len as usize);
            let faults = memory_guard::faults();
            // SAFETY: guest memory, mapped until the request is forgotten.
            unsafe { copy_from_iovecs(&entry.iov, buffer.as_mut_slice()) };
            iov[0] = buffer.iovec();
            count = 1;
            entry.bounce = Some(buffer);
            if memory_guard::faults() != faults {
                // The front end took the data away: neither side is written, so both are equal as before. It is the guest's error alone.
                let disk = member_id;
                self.deferred.push((driver_id, Event::SourceWriteDone { disk, id, result: Err(libc::EFAULT) }));
                self.deferred.push((driver_id, Event::TargetWriteDone { disk, id, result: Ok(()) }));
                return;
            }
        }
        let (op, range) = (write_op(entry), entry.range);
        let both = [(member.source, Purpose::SourceWrite), (member.target, Purpose::TargetWrite)];
        for (number, purpose) in both {
            let tag = tag(purpose, place(driver_id, member_id), id);
            // SAFETY: the buffer belongs to the request and goes back to the pool at Retire, after both writes ended.
            if !unsafe { self.images.start(number, op, range, &iov[..count], tag, &mut self.finished) } {
                self.deferred.push((driver_id, refused(purpose, member_id, id)));
            }
        }
    }

    fn acknowledge(&mut self, driver_id: u32, driver: &mut Driver, member_id: u32, id: u32, result: Result<(), Errno>) {
        let disk_id = driver.members[member_id as usize].disk;
        let Some(Some(disk)) = self.disks.get_mut(disk_id as usize) else { return };
        let entry = disk.requests.get(id);
        if let Some((later, member)) = entry.adopted.take() {
            // A later move has taken it over: its machine answers, in its next event.
            self.deferred.push((later, Event::SourceWriteDone { disk: member, id, result }));
            return;
        }
        if result.is_ok() && entry.fua && !entry.flushing {
            entry.flushing = true;
            entry.parts += 1;
            // The machine is busy with the present event; the flush is the next one it gets.
            self.deferred.push((driver_id, Event::GuestFlush { disk: member_id, id }));
            return;
        }
        self.answer(disk_id, id, result);
    }

    fn flush_side(&mut self, driver_id: u32, driver: &mut Driver, member_id: u32, flush: Flush, side: Side) {
        let member = &driver.members[member_id as usize];
        let (image, purpose) = match side {
            Side::Source => (member.source, Purpose::SourceFlush),
            Side::Target => (member.target, Purpose::TargetFlush),
        };
        let slot = match flush {
            Flush::Guest(id) => id,
            Flush::Own(number) => number | OWN_FLUSH,
        };
        let tag = tag(purpose, place(driver_id, member_id), slot);
        // SAFETY: a flush has no memory.
        if !unsafe { self.images.start(image, ImageOp::Flush, ByteRange::default(), &[], tag, &mut self.finished) } {
            self.deferred.push((driver_id, refused(purpose, member_id, slot)));
        }
    }

    /// An image operation of a move has finished.
    pub(super) fn moving_finished(&mut self, purpose: Purpose, at: u32, slot: u32, result: Result<(), Errno>) {
        if self.is_closing() {
            return;
        }
        let (driver, disk) = unplace(at);
        let event = match purpose {
            Purpose::SourceWrite | Purpose::TargetWrite | Purpose::SourceFlush | Purpose::TargetFlush => {
                done(purpose, disk, slot, result)
            }
            Purpose::CopyRead | Purpose::CopyWrite => return self.copy_step(driver, disk, slot, purpose, result),
            Purpose::VerifySource | Purpose::VerifyTarget => {
                return self.verify_step(driver, disk, slot, purpose, result);
            }
            // Adopted: it was submitted as an ordinary request before the move began.
            Purpose::Guest | Purpose::Unknown => return,
        };
        self.drive(driver, event);
    }

    /// Gives the move as much as the guest can spare.
    pub(super) fn govern(&mut self, driver_id: u32, now_us: u64) {
        let Some(driver) = self.drivers.get_mut(driver_id) else { return };
        let (mut requests, mut p99_us) = (0, None);
        for member in &driver.members {
            if let Some(Some(disk)) = self.disks.get(member.disk as usize) {
                requests += disk.latency.count();
                p99_us = p99_us.max(disk.latency.last_p99_us());
            }
        }
        if let Some(bytes) = driver.governor.consider(now_us, requests, p99_us) {
            self.drive(driver_id, Event::SetShare { bytes });
        }
    }

    /// All of them: a move must not be retired while one waits. Each is the second half of a step that was taken from the budget (a write
    /// with FUA, a request whose image is gone), and leaves at most one more behind.
    pub(super) fn drive_deferred(&mut self) {
        while let Some((driver, event)) = self.deferred.pop() {
            self.budget.deferred();
            self.drive(driver, event);
        }
    }

    pub(super) fn copy_done(&mut self, driver: u32, disk: u32, slot: u32, outcome: CopyOutcome) {
        if let Some(d) = self.drivers.get_mut(driver) {
            d.copies[slot as usize].stage = Stage::Idle;
        }
        self.drive(driver, Event::CopyDone { disk, slot, outcome });
    }
}

/// What the machine is told of a write or flush that ended.
fn done(purpose: Purpose, disk: u32, slot: u32, result: Result<(), Errno>) -> Event {
    let flush = if slot & OWN_FLUSH != 0 { Flush::Own(slot & !OWN_FLUSH) } else { Flush::Guest(slot) };
    match purpose {
        Purpose::SourceWrite => Event::SourceWriteDone { disk, id: slot, result },
        Purpose::TargetWrite => Event::TargetWriteDone { disk, id: slot, result },
        Purpose::SourceFlush => Event::SourceFlushDone { disk, flush, result },
        _ => Event::TargetFlushDone { disk, flush, result },
    }
}

/// An image that is not there any more cannot be written: an error, for a machine that hears nothing waits for ever.
fn refused(purpose: Purpose, disk: u32, slot: u32) -> Event {
    done(purpose, disk, slot, Err(libc::EIO))
}

fn write_op(entry: &GuestRequest) -> ImageOp {
    match entry.kind {
        Some(RequestKind::Discard) => ImageOp::Zero { unmap: true },
        Some(RequestKind::WriteZeroes { unmap }) => ImageOp::Zero { unmap },
        _ => ImageOp::Write,
    }
}
