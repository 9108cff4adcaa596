//! The loop of the reactor thread. No lock is taken and, after warm-up, nothing is allocated.
//!
//! ```text
//!   ┌─► rings polled ─► one system call ─► completions to their owners ─► calls ─► tick ─► pass on ─► exports publish ─┐
//!   └───────────────────────── the next turn does not sleep while anything is left over ◄────────────────────────────┘
//! ```
//! Every step of a turn takes from the turn's budget (`budget.rs`): operations that finish at once (holes, cached metadata) start the
//! next ones, and without a bound no ring, tick, call or system call would come between.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::budget::{Budget, Part};
use super::clock::now_us;
use super::cx::Cx;
use super::disk::Disk;
use super::owner::{Owner, Purpose, untag};
use super::turn::Service;
use crate::exports::Export;
use crate::mirror::Event;
use crate::reactor::{Completion, Op, Token, Wait};
use crate::vital_thread::die;

/// With nothing to do the thread sleeps; it is woken by descriptors. The limit only bounds a lost wake-up.
const IDLE_SLEEP: Duration = Duration::from_millis(500);
/// The machine's limits are checked by ticks; its contract asks for one at least every 25 ms.
const TICK_US: u64 = 10_000;
/// How long the end of the thread waits for an image that serves no disk.
const IDLE_CLOSE_US: u64 = 1_000_000;

impl Service {
    pub(super) fn run(&mut self) {
        self.arm_wake();
        loop {
            self.budget = Budget::default();
            self.meter.begin();
            let spin = self.poll_exports() || self.window.is_open(Instant::now());
            if self.turn(spin).is_err() {
                // The ring itself failed: nothing can be served any more. The process ends and its successor takes over;
                // the guest waits meanwhile and sees no error.
                die();
            }
            self.dispatch_completions();
            self.take_calls();
            self.tick();
            self.pass_on();
            self.end_turn();
            self.measure_turn();
            if self.shutting_down && self.try_finish() {
                return;
            }
        }
    }

    /// The one system call of a turn.
    fn turn(&mut self, spin: bool) -> std::io::Result<()> {
        let wait = if spin || self.has_left_over() { Wait::No } else { Wait::AtMost(self.sleep_limit()) };
        let before = self.completions.len();
        let since = now_us();
        self.images.turn(wait, &mut self.completions)?;
        if matches!(wait, Wait::AtMost(_)) {
            self.meter.slept(since);
        }
        if self.completions.len() > before {
            let now = Instant::now();
            if matches!(wait, Wait::No) { self.window.activity(now) } else { self.window.woken(now) }
        }
        Ok(())
    }

    /// Something waits for the next turn that no descriptor will wake it for.
    fn has_left_over(&self) -> bool {
        self.calls_wait
            || !self.completions.is_empty()
            || !self.incoming.is_empty()
            || !self.answers.is_empty()
            || !self.finished.is_empty()
            || !self.guest_finished.is_empty()
            || !self.move_finished.is_empty()
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

    fn dispatch_completions(&mut self) {
        let mut completions = std::mem::take(&mut self.completions);
        let count = completions.iter().take_while(|_| self.budget.take(Part::Completion)).count();
        for completion in completions.drain(..count) {
            self.dispatch(completion);
        }
        // Nothing that a completion causes appends to the list: only the reactor's turn does.
        self.completions = completions;
    }

    fn dispatch(&mut self, completion: Completion) {
        match Owner::from_u32(completion.token.owner) {
            Owner::Wake => {
                let mut count = [0u8; 8];
                // The calls are taken whatever the counter says; the read only clears it.
                let cleared = rustix::io::read(&*self.wake, &mut count);
                debug_assert!(cleared.is_ok() || cleared == Err(rustix::io::Errno::AGAIN));
                self.calls_wait = true;
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

    fn take_calls(&mut self) {
        while self.calls_wait && self.budget.take(Part::Call) {
            match self.calls.try_recv() {
                Ok(call) => call(self),
                Err(_) => self.calls_wait = false,
            }
        }
    }

    /// Passes answers to exports, finished operations to requests, requests to disks, and steps of moves to their drivers, in this order,
    /// until all is still or the turn's part is used up.
    pub(super) fn pass_on(&mut self) {
        loop {
            self.drive_deferred();
            self.sort_finished();
            if !(self.pass_on_guests() || self.pass_on_moves()) {
                return;
            }
        }
    }

    /// Operations that finish at once (holes read, nothing to zero) are in the list as soon as they were started.
    fn sort_finished(&mut self) {
        for done in self.finished.drain(..) {
            match untag(done.tag).0 {
                Purpose::CopyRead | Purpose::CopyWrite | Purpose::VerifySource | Purpose::VerifyTarget => {
                    self.move_finished.push_back(done);
                }
                _ => self.guest_finished.push_back(done),
            }
        }
    }

    /// One step of guests.
    fn pass_on_guests(&mut self) -> bool {
        if self.answers.is_empty() && self.guest_finished.is_empty() && self.incoming.is_empty() {
            return false;
        }
        if !self.budget.take(Part::Guest) {
            return false;
        }
        if let Some((export, tag, result)) = self.answers.pop_front() {
            self.with_export(export, |slot, cx| slot.on_done(tag, result, cx));
        } else if let Some(done) = self.guest_finished.pop_front() {
            self.on_finished(done);
        } else if let Some((export, request)) = self.incoming.pop_front() {
            self.budget.guest_bytes(request.len);
            self.accept(export, request);
        }
        true
    }

    fn pass_on_moves(&mut self) -> bool {
        if self.move_finished.is_empty() || !self.budget.take(Part::Move) {
            return false;
        }
        if let Some(done) = self.move_finished.pop_front() {
            self.on_finished(done);
        }
        true
    }

    fn end_turn(&mut self) {
        for number in 0..self.exports.len() as u32 {
            self.with_export(number, |slot, cx| slot.end_turn(cx));
        }
        for slot in &mut self.exports {
            if slot.as_ref().is_some_and(|s| s.close && s.pending_io == 0 && s.export.in_flight() == 0) {
                *slot = None;
            }
        }
    }

    fn measure_turn(&mut self) {
        let turn = self.meter.end(self.budget.operations());
        self.drivers.note_turn(turn);
    }

    fn poll_exports(&mut self) -> bool {
        let mut busy = false;
        let before = self.incoming.len();
        for number in 0..self.exports.len() as u32 {
            self.with_export(number, |slot, cx| busy |= slot.poll(cx));
        }
        if self.incoming.len() > before {
            self.window.activity(Instant::now());
        }
        self.pass_on();
        busy
    }

    /// Runs `call` with the export taken out of its slot, so that it and the service can be borrowed side by side.
    pub(super) fn with_export(&mut self, number: u32, call: impl FnOnce(&mut dyn Export, &mut Cx<'_>)) {
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

    /// Images are closed only when every request is answered: a write still waiting for space would be answered with an error. A move that
    /// is under way is left as a death would leave it, for the next worker to go on with: its machine hears nothing more, least of all
    /// that its images are closed. A side that serves nobody may hang, and a guest waits for the next worker: it has [`IDLE_CLOSE_US`].
    fn try_finish(&mut self) -> bool {
        // What a turn left over was not begun, or is answered and not told.
        let waits = !self.incoming.is_empty() || !self.answers.is_empty();
        if waits || self.disks.iter().flatten().any(Disk::has_unanswered) {
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
}
