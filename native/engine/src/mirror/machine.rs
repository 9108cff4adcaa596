//! [`Move`]: one event in, actions out. This file takes events apart and decides which stage comes next; the rest of
//! the machine lives beside it, one concern per file:
//!
//! ```text
//!   machine ─┬─ requests   guest writes and flushes: where they go, when they are answered
//!            ├─ dirtying   the one way a chunk becomes dirty
//!            ├─ copier     picks runs, takes locks          ├─ verifier   compares units, but those in holes (holes)
//!            ├─ switch     PREPARED, COMMITTED, flip, and back   ├─ ending     stop and failure
//!            ├─ recorder   one journal record at a time     └─ deadlines  everything that depends on the clock
//!            └─ tables: disk_state, writes, chunk_map, saved_map
//! ```
//! After warm-up nothing here allocates: `out` is the caller's and reused, tables have their size from the start.

use std::collections::VecDeque;

use super::chunk_map::ChunkMap;
use super::copier::{CopySlot, Lock};
use super::disk_state::{DiskSetup, DiskState};
use super::limits::MoveLimits;
use super::progress::Counters;
use super::recorder::Recorder;
use super::revocation::Revocation;
use super::saved_map::SavedMap;
use super::stage::{Stage, SwitchStep};
use super::switch::OwnFlush;
use super::verifier::VerifySlot;
use super::vocabulary::*;
use super::writes::Owner;
use crate::disk::{DiskError, ErrorKind};

/// The move of all disks of one VM.
pub struct Move {
    pub(super) limits: MoveLimits,
    pub(super) stage: Stage,
    pub(super) disks: Vec<DiskState>,
    /// The first event was taken: adoption is over.
    pub(super) announced: bool,

    pub(super) copies: Vec<CopySlot>,
    pub(super) verifies: Vec<VerifySlot>,
    pub(super) locks: Vec<Lock>,
    /// Entries that waited and may start now, by order of arrival.
    pub(super) ready: Vec<(DiskIndex, u64, Owner)>,
    pub(super) ready_scratch: Vec<(u64, Owner)>,

    /// Bytes of copies and comparisons under way.
    pub(super) bytes_in_flight: u64,
    /// The share as it was given, and as a slow target allows it now.
    pub(super) share_bytes: u64,
    pub(super) share_now_bytes: u64,
    pub(super) contended_until_us: u64,
    pub(super) next_disk: usize,
    /// No copies before this: the target refused something that may pass.
    pub(super) copy_after_us: u64,

    pub(super) own_flushes: Vec<OwnFlush>,
    pub(super) next_own_flush: u32,
    pub(super) recorder: Recorder,
    pub(super) revocation: Revocation,

    /// Number of the attempt to switch; records and flushes of earlier ones count for nothing.
    pub(super) attempt: u32,
    pub(super) switch_failures: u32,
    pub(super) switch_after_us: u64,
    pub(super) ready_since_us: u64,
    /// When the last reading before the switch began, if it is under way.
    pub(super) last_reading_since_us: Option<u64>,
    /// COMMITTED may be found by whoever opens the journal.
    pub(super) committed_may_be_seen: bool,
    /// Reverting: what follows once the journal says so.
    pub(super) end_after_revert: Option<EndReason>,
    pub(super) fell_behind_while_reverting: bool,

    /// The last tick.
    pub(super) ticked_us: Option<u64>,
    pub(super) stop_asked: bool,
    pub(super) end_reason: EndReason,
    pub(super) target_retries: u32,
    pub(super) fallbacks: u32,
    pub(super) fallbacks_forgiven_us: u64,
    pub(super) mirror_after_us: u64,

    pub(super) counters: Counters,
}

impl Move {
    /// A move that begins. The journal holds `Started` and zeroed bitmaps; what is allocated comes as events.
    pub fn new(limits: MoveLimits, revocation: Revocation, disks: Vec<DiskSetup>) -> Result<Self, DiskError> {
        let disks = disks.into_iter().map(DiskState::new).collect::<Result<Vec<_>, _>>()?;
        for disk in &disks {
            disk.saved_dirty.clear_all();
            disk.saved_intent.clear_all();
        }
        Ok(Self::with(limits, revocation, disks))
    }

    /// A move whose process died (kill -9, not a power cut) while its journal was in `phase`. The bitmaps are the
    /// journal's. Requests the dead process had not answered come again as events.
    ///
    /// In `Started` allocation has to be told again. Refused with `InvalidState` when there is nothing to resume:
    /// after `Committed` the target is served without a machine, after `Cancelled` the targets are deleted. A `Committed` that was
    /// revoked has to be replaced by another record first.
    pub fn resume(
        limits: MoveLimits,
        phase: JournalPhase,
        revocation: Revocation,
        disks: Vec<DiskSetup>,
    ) -> Result<Self, DiskError> {
        if phase.authority() == Side::Target || phase == JournalPhase::Cancelled {
            return Err(DiskError::new(ErrorKind::InvalidState, format!("a move in phase {phase:?} is not resumed")));
        }
        let mut disks = disks.into_iter().map(DiskState::new).collect::<Result<Vec<_>, _>>()?;
        for disk in &mut disks {
            adopt_bitmaps(disk);
            let known = phase != JournalPhase::Started;
            disk.allocation_known = known;
            // The first sweep is done when mirroring had begun.
            disk.swept = known && phase != JournalPhase::Copy;
        }
        let mut machine = Self::with(limits, revocation, disks);
        machine.recorder.found(phase);
        Ok(machine)
    }

    /// Chunks of a disk the guest has written to the source since [`Move::resume`] looked at the saved map, in which the service has marked
    /// them: writes that were over before the driver could adopt them. As with `adopt`, before the first event.
    pub fn written_meanwhile(&mut self, disk: DiskIndex, chunks: &ChunkMap) {
        debug_assert!(!self.announced);
        if let Some(state) = self.disks.get_mut(disk as usize) {
            let mut from = 0;
            while let Some((index, bits)) = chunks.next_word(from) {
                state.dirty.set_in_word(index, bits);
                from = index + 1;
            }
        }
    }

    fn with(limits: MoveLimits, revocation: Revocation, disks: Vec<DiskState>) -> Self {
        revocation.clear();
        Self {
            revocation,
            stage: Stage::Copy,
            announced: false,
            copies: vec![CopySlot::default(); limits.copy_slots() as usize],
            verifies: vec![VerifySlot::default(); limits.verify_slots() as usize],
            locks: vec![Lock::default(); limits.locks_max as usize],
            ready: Vec::with_capacity(64),
            ready_scratch: Vec::with_capacity(64),
            bytes_in_flight: 0,
            share_bytes: limits.share_bytes,
            share_now_bytes: limits.share_bytes,
            contended_until_us: 0,
            next_disk: 0,
            copy_after_us: 0,
            own_flushes: Vec::with_capacity(4 * disks.len()),
            next_own_flush: 0,
            recorder: Recorder::new(),
            attempt: 0,
            switch_failures: 0,
            switch_after_us: 0,
            ready_since_us: 0,
            last_reading_since_us: None,
            committed_may_be_seen: false,
            end_after_revert: None,
            fell_behind_while_reverting: false,
            ticked_us: None,
            stop_asked: false,
            end_reason: EndReason::Stopped,
            target_retries: 0,
            fallbacks: 0,
            fallbacks_forgiven_us: 0,
            mirror_after_us: 0,
            counters: Counters::default(),
            limits,
            disks,
        }
    }

    /// Takes one event and appends what has to be done to `out`. `now_us`: microseconds of a monotonic clock.
    /// An event that names what the machine does not know (a disk, an id, a slot) changes nothing: it is a mistake of
    /// the driver.
    pub fn on(&mut self, event: Event, now_us: u64, out: &mut Vec<Action>) {
        if !self.announced {
            self.announced = true;
            self.fallbacks_forgiven_us = now_us;
            for disk in &mut self.disks {
                disk.settled_at_us = now_us;
            }
            out.push(Action::PhaseChanged { phase: self.stage.phase(), bound_bytes: None });
        }
        // A request that only arrives frees nothing the copier could have waited for.
        let is_arrival = matches!(event, Event::GuestWrite { .. } | Event::GuestFlush { .. });
        if self.knows_disk_of(&event) {
            self.take(event, now_us, out);
        } else {
            debug_assert!(false, "unknown disk in {event:?}");
        }
        self.start_ready(now_us, out);
        self.advance(is_arrival, now_us, out);
        // What a new stage lets go.
        self.start_ready(now_us, out);
    }

    fn knows_disk_of(&self, event: &Event) -> bool {
        match *event {
            Event::GuestWrite { disk, .. }
            | Event::SourceWriteDone { disk, .. }
            | Event::TargetWriteDone { disk, .. }
            | Event::GuestFlush { disk, .. }
            | Event::SourceFlushDone { disk, .. }
            | Event::TargetFlushDone { disk, .. }
            | Event::MarkAllocated { disk, .. }
            | Event::AllocationKnown { disk }
            | Event::CopyDone { disk, .. }
            | Event::Hole { disk, .. }
            | Event::HolesKnown { disk, .. }
            | Event::VerifyDone { disk, .. } => (disk as usize) < self.disks.len(),
            Event::RecordDone { .. } | Event::SetShare { .. } | Event::Stop | Event::Tick => true,
        }
    }

    fn take(&mut self, event: Event, now_us: u64, out: &mut Vec<Action>) {
        match event {
            Event::GuestWrite { disk, id, range, kind: _ } => self.guest_write(disk, id, range, now_us, out),
            Event::SourceWriteDone { disk, id, result } => self.write_done(disk, Side::Source, id, result, now_us, out),
            Event::TargetWriteDone { disk, id, result } => self.write_done(disk, Side::Target, id, result, now_us, out),
            Event::GuestFlush { disk, id } => self.guest_flush(disk, id, now_us, out),
            Event::SourceFlushDone { disk, flush, result } => {
                self.flush_done(disk, Side::Source, flush, result, now_us, out)
            }
            Event::TargetFlushDone { disk, flush, result } => {
                self.flush_done(disk, Side::Target, flush, result, now_us, out)
            }
            Event::MarkAllocated { disk, range } => {
                if self.disks[disk as usize].contains(range) && !self.disks[disk as usize].allocation_known {
                    self.mark_dirty(disk, range);
                }
            }
            Event::AllocationKnown { disk } => self.allocation_known(disk),
            Event::CopyDone { disk, slot, outcome } => self.copy_done(disk, slot, outcome, now_us, out),
            Event::VerifyDone { disk, slot, outcome } => self.verify_done(disk, slot, outcome, now_us, out),
            Event::Hole { disk, range } => self.hole(disk, range),
            Event::HolesKnown { disk, until } => self.holes_known(disk, until),
            Event::RecordDone { phase, result } => self.record_done(phase, result, now_us, out),
            Event::SetShare { bytes } => {
                self.share_bytes = bytes.max(CHUNK_BYTES);
                self.share_now_bytes = self.share_now_bytes.min(self.share_bytes);
            }
            Event::Stop => self.stop(now_us, out),
            Event::Tick => self.check_deadlines(now_us, out),
        }
    }

    fn allocation_known(&mut self, disk: DiskIndex) {
        let state = &mut self.disks[disk as usize];
        if !state.allocation_known {
            state.allocation_known = true;
            state.cursor = 0;
            // The scan does not hear of a stop. A record behind Cancelled would have a killed worker resume what is being deleted.
            if self.stage.tracks() && self.disks.iter().all(|disk| disk.allocation_known) {
                self.recorder.want(JournalPhase::Copy, self.attempt);
            }
        }
    }

    /// Moves the stage on where its condition holds, then gives the copier and the verifier work.
    fn advance(&mut self, is_arrival: bool, now_us: u64, out: &mut Vec<Action>) {
        if matches!(self.stage, Stage::Switch(_)) && !self.is_synchronized() {
            self.abort_switch(now_us, out);
        }
        if self.stage.copies() && !is_arrival {
            // In `Copy` this is where the copier finds out that it has been over everything.
            self.fill_copies(now_us, out);
        }
        if self.stage == Stage::Copy && self.may_mirror(now_us) {
            self.begin_mirror(out);
        }
        if self.stage == Stage::Mirror && self.disks.iter().all(|disk| disk.dirty.is_empty() && disk.copying.is_empty())
        {
            self.enter(Stage::Verify, out);
            self.last_reading_since_us = None;
            self.recorder.want(JournalPhase::Verify, self.attempt);
        }
        if self.stage == Stage::Verify
            && now_us >= self.switch_after_us
            && self.is_synchronized()
            && !self.compare_stale_disks_again(now_us)
        {
            self.begin_switch(now_us, out);
        }
        if self.stage == Stage::Switch(SwitchStep::Ready) {
            self.try_commit(now_us, out);
        }
        if self.stage.copies() && !is_arrival {
            if self.stage == Stage::Verify {
                self.look_for_holes(now_us, out);
                self.fill_verifies(now_us, out);
            }
            self.settle_where_due(now_us, out);
        }
        self.recorder.pump(now_us, out);
        self.finish_if_quiet(out);
    }

    /// The only place that changes the stage.
    pub(super) fn enter(&mut self, next: Stage, out: &mut Vec<Action>) {
        debug_assert!(next.may_follow(self.stage), "{next:?} after {:?}", self.stage);
        let before = self.stage.phase();
        self.stage = next;
        if next.phase() != before {
            out.push(Action::PhaseChanged { phase: next.phase(), bound_bytes: None });
        }
    }

    fn may_mirror(&self, now_us: u64) -> bool {
        now_us >= self.mirror_after_us
            && self.disks.iter().all(|disk| disk.allocation_known && disk.swept && disk.abandoned == 0)
    }

    /// From here on the set of dirty chunks only shrinks as long as the target answers: publishes how much work that
    /// is at most.
    pub(super) fn begin_mirror(&mut self, out: &mut Vec<Action>) {
        let bound = self.convergence_bound_bytes();
        self.counters.bound_bytes = Some(bound);
        debug_assert!(Stage::Mirror.may_follow(self.stage));
        self.stage = Stage::Mirror;
        out.push(Action::PhaseChanged { phase: Phase::Mirror, bound_bytes: Some(bound) });
        self.recorder.want(JournalPhase::Mirror, self.attempt);
    }

    /// True when nothing is in flight and nothing waits: the machine may be dropped after `Finished`.
    pub fn is_idle(&self) -> bool {
        self.recorder.is_idle()
            && self.disks.iter().all(|disk| {
                disk.writes.len() == 0 && disk.flushes.is_empty() && disk.source_open == 0 && disk.target_open == 0
            })
    }
}

/// dirty |= intent, in the journal and in memory; nothing is known of the target, so nothing there is fresh.
fn adopt_bitmaps(disk: &mut DiskState) {
    load(&disk.saved_dirty, &mut disk.dirty);
    for (index, bits) in disk.saved_intent.words().filter(|(_, bits)| *bits != 0) {
        disk.dirty.set_in_word(index, bits);
        disk.saved_dirty.set_in_word(index, bits);
    }
    // Only now: a crash between the two must find each bit in at least one of them.
    disk.saved_intent.clear_all();
    disk.all_touched = true;
}

fn load(saved: &SavedMap, into: &mut ChunkMap) {
    for (index, bits) in saved.words().filter(|(_, bits)| *bits != 0) {
        into.set_in_word(index, bits);
    }
}

/// So that no `VecDeque` grows in `recorder`: phases wanted at once are few.
pub(super) fn small_queue<T>() -> VecDeque<T> {
    VecDeque::with_capacity(16)
}

#[cfg(test)]
#[path = "machine_tests/mod.rs"]
mod tests;
