//! The images at work, each with the reactor that runs its operations: the main one, or the lane of its file system.
//!
//! ```text
//!   a guest's own disk ──────────────────────────► main reactor
//!   the target of a move, on another file system ► lane, until COMMITTED makes it the guest's own
//!   the source that lost, on another file system ► lane, from COMMITTED on
//! ```
//! An operation ends where it was begun: an image may change its reactor while some are under way, for a completion is told by its
//! token, wherever it comes from.

use std::io;

use super::owner::Owner;
use crate::disk::{ByteRange, Errno};
use crate::image::{Finished, Image, ImageOp};
use crate::reactor::{Completion, Lane, LaneId, Reactor, Reactors, Wait};

struct Slot {
    image: Image,
    /// `None`: the main reactor.
    lane: Option<LaneId>,
}

pub(super) struct Images {
    reactors: Reactors,
    slots: Vec<Option<Slot>>,
}

impl Images {
    pub(super) fn new(main: Box<dyn Reactor>) -> Self {
        Self { reactors: Reactors::new(main), slots: Vec::new() }
    }

    pub(super) fn reactors(&mut self) -> &mut Reactors {
        &mut self.reactors
    }

    pub(super) fn turn(&mut self, wait: Wait, out: &mut Vec<Completion>) -> io::Result<()> {
        self.reactors.turn(wait, out)
    }

    /// The image's number, which its completions carry from now on.
    pub(super) fn add(&mut self, mut image: Image, lane: Option<LaneId>) -> u32 {
        let number = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        image.set_owner(Owner::Image(number as u32).to_u32());
        if number == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[number] = Some(Slot { image, lane });
        number as u32
    }

    pub(super) fn get(&self, number: u32) -> Option<&Image> {
        self.slots.get(number as usize)?.as_ref().map(|slot| &slot.image)
    }

    fn slot(&mut self, number: u32) -> Option<(&mut Slot, &mut Reactors)> {
        let slot = self.slots.get_mut(number as usize)?.as_mut()?;
        Some((slot, &mut self.reactors))
    }

    /// The main reactor and an image, for an export.
    pub(super) fn main_and(&mut self, number: u32) -> (&mut dyn Reactor, Option<&mut Image>) {
        let slot = self.slots.get_mut(number as usize).and_then(Option::as_mut);
        (self.reactors.main(), slot.map(|slot| &mut slot.image))
    }

    /// What is submitted from now on goes to `lane`; what is under way ends where it is.
    pub(super) fn route(&mut self, number: u32, lane: Option<LaneId>) {
        if let Some((slot, _)) = self.slot(number) {
            slot.lane = lane;
        }
    }

    pub(super) fn lane_count(&self) -> usize {
        self.reactors.lane_count()
    }

    /// Takes out the lanes that no image has and `is_reserved` does not want.
    pub(super) fn take_unused_lanes(&mut self, is_reserved: impl Fn(LaneId) -> bool) -> Vec<Lane> {
        let slots = &self.slots;
        let is_used = |lane| slots.iter().flatten().any(|slot| slot.lane == Some(lane)) || is_reserved(lane);
        self.reactors.take_unused(is_used)
    }

    /// Starts `op` on that image; false when it is not there (any more). What finishes at once is in `finished`.
    ///
    /// # Safety
    /// As for [`Image::start`].
    pub(super) unsafe fn start(
        &mut self,
        number: u32,
        op: ImageOp,
        range: ByteRange,
        iov: &[libc::iovec],
        tag: u64,
        finished: &mut Vec<Finished>,
    ) -> bool {
        let Some((slot, reactors)) = self.slot(number) else { return false };
        // SAFETY: the caller promised the same to us.
        unsafe { slot.image.start(op, range, iov, tag, reactors.of(slot.lane)) };
        slot.image.take_finished(finished);
        true
    }

    /// A completion whose token carries this image's number.
    pub(super) fn on_io(&mut self, number: u32, part: u32, result: Result<u32, Errno>, finished: &mut Vec<Finished>) {
        let Some((slot, reactors)) = self.slot(number) else { return };
        slot.image.on_io(part, result, reactors.of(slot.lane));
        slot.image.take_finished(finished);
    }

    /// A guest's write is about to start, on this image or on the one it is a copy of.
    pub(super) fn content_changes(&mut self, number: u32) {
        if let Some((slot, reactors)) = self.slot(number) {
            slot.image.content_changes(reactors.of(slot.lane));
        }
    }

    pub(super) fn begin_close(&mut self, number: u32) {
        if let Some((slot, reactors)) = self.slot(number) {
            slot.image.begin_close(reactors.of(slot.lane));
        }
    }

    pub(super) fn begin_close_all(&mut self) {
        (0..self.slots.len() as u32).for_each(|number| self.begin_close(number));
    }

    /// Whether all that `is_awaited` are.
    pub(super) fn are_clean(&self, is_awaited: impl Fn(u32) -> bool) -> bool {
        let mut numbered = self.slots.iter().zip(0..);
        numbered.all(|(slot, number)| slot.as_ref().is_none_or(|slot| slot.image.is_clean() || !is_awaited(number)))
    }

    /// Whether any of them has an operation under way.
    pub(super) fn are_busy(&self) -> bool {
        self.slots.iter().flatten().any(|slot| slot.image.busy() > 0)
    }

    /// Takes an image with nothing under way out. Dropping it closes its file, which may wait for a file system that hangs: not on
    /// the reactor's thread, if it can be helped.
    pub(super) fn take(&mut self, number: u32) -> Option<Image> {
        Some(self.slots.get_mut(number as usize)?.take()?.image)
    }
}
