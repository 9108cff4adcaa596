//! The guest's writes and flushes: where they go, when the guest is answered, when they are over.
//!
//! ```text
//!   GuestWrite ──▶ waits for earlier overlapping ones (mirroring) ──▶ start ──▶ halves complete ──▶ Acknowledge ──▶ Retire
//! ```

use super::disk_state::GuestFlush;
use super::machine::Move;
use super::stage::{Half, Halves};
use super::vocabulary::*;
use super::writes::{Owner, chunks_of};
use crate::disk::{ByteRange, DiskError, Errno, ErrorKind};

impl Move {
    pub(super) fn guest_write(
        &mut self,
        disk: DiskIndex,
        id: WriteId,
        range: ByteRange,
        now_us: u64,
        out: &mut Vec<Action>,
    ) {
        let state = &mut self.disks[disk as usize];
        if !state.contains(range) {
            debug_assert!(false, "the service checks ranges: {range:?} of {}", state.size_bytes);
            out.push(Action::Refuse { disk, id, errno: libc::EINVAL });
            return;
        }
        match state.writes.add(Owner::Guest(id), range, self.stage.mirrors()) {
            Some(true) => {}
            Some(false) => self.start_write(disk, id, now_us, out),
            // To drop it in silence would leave it without an answer for ever.
            None => out.push(Action::Refuse { disk, id, errno: libc::EIO }),
        }
    }

    /// A write the source got before the move began: dirty, and in flight to the source alone. Its `SourceWriteDone` comes as an
    /// event, like any other.
    ///
    /// Every one has to be in before the first event, and before the driver looks at what is allocated: a resumed move with little left
    /// to copy is mirroring after its first event. An error changes nothing. The machine would not answer that write, so the move must
    /// not begin with it; the guest gets its answer as if there were no move.
    pub fn adopt(&mut self, disk: DiskIndex, id: WriteId, range: ByteRange, now_us: u64) -> Result<(), DiskError> {
        let added = self
            .disks
            .get_mut(disk as usize)
            .filter(|state| !self.announced && state.contains(range))
            .and_then(|state| state.writes.add(Owner::Guest(id), range, false));
        if added.is_none() {
            let message = format!("the move cannot take over write {id} of its disk {disk}, which is under way");
            return Err(DiskError::new(ErrorKind::InvalidState, message));
        }
        self.mark_dirty(disk, range);
        self.open_write(disk, id, Half::Open, Half::Absent, now_us);
        Ok(())
    }

    fn start_write(&mut self, disk: DiskIndex, id: WriteId, now_us: u64, out: &mut Vec<Action>) {
        let Some(place) = self.disks[disk as usize].writes.find(Owner::Guest(id)) else { return };
        let range = self.disks[disk as usize].writes.at(place).range;
        let (source, target) = if self.stage.target_alone() {
            (Half::Absent, Half::Open)
        } else if self.stage.needs_both() || (self.stage.mirrors() && !self.is_dirty_anyway(disk, range)) {
            // A write that touches one clean chunk goes to both sides whole, so that it never makes a clean chunk
            // dirty: that is why the dirty set only shrinks. Chunks of it that are dirty stay so; those being copied
            // become so.
            (Half::Open, Half::Open)
        } else {
            (Half::Open, Half::Absent)
        };
        match (source, target) {
            (Half::Open, Half::Open) => {
                self.mark_intent(disk, range);
                self.counters.mirrored_bytes += range.len;
                out.push(Action::WriteBoth { disk, id });
            }
            (Half::Open, _) => {
                // Also while ending: until the journal says Cancelled, a killed move would be resumed from these bits.
                self.mark_dirty(disk, range);
                out.push(Action::WriteSource { disk, id });
            }
            _ => out.push(Action::WriteTarget { disk, id }),
        }
        self.open_write(disk, id, source, target, now_us);
    }

    fn is_dirty_anyway(&self, disk: DiskIndex, range: ByteRange) -> bool {
        self.disks[disk as usize].all_dirty_or_copying(chunks_of(range))
    }

    fn open_write(&mut self, disk: DiskIndex, id: WriteId, source: Half, target: Half, now_us: u64) {
        let state = &mut self.disks[disk as usize];
        let Some(place) = state.writes.find(Owner::Guest(id)) else { return };
        state.writes.start(place);
        let entry = state.writes.at_mut(place);
        entry.halves = Halves { source, target, abandoned: false };
        entry.submitted_us = now_us;
        state.source_only += u32::from(entry.is_source_only());
        let halves = entry.halves;
        for side in Side::BOTH {
            if halves.at(side) == Half::Open {
                self.opened(disk, side, now_us);
            }
        }
    }

    /// One side has answered a write.
    pub(super) fn write_done(
        &mut self,
        disk: DiskIndex,
        side: Side,
        id: WriteId,
        result: Result<(), Errno>,
        now_us: u64,
        out: &mut Vec<Action>,
    ) {
        let state = &mut self.disks[disk as usize];
        let place = state.writes.find(Owner::Guest(id));
        let Some(place) = place.filter(|place| state.writes.at(*place).halves.at(side) == Half::Open) else {
            debug_assert!(false, "no write {id} of disk {disk} at the {side:?}");
            return;
        };
        let entry = state.writes.at_mut(place);
        match side {
            Side::Source => state.source_only -= u32::from(entry.is_source_only()),
            Side::Target => state.abandoned -= u32::from(entry.halves.abandoned),
        }
        entry.halves.set(side, Half::Done(result));
        let range = entry.range;
        self.answered(disk, side, now_us);
        if let Err(errno) = result
            && !self.stage.target_alone()
        {
            // It may have reached this side in part.
            self.mark_dirty(disk, range);
            match side {
                // The guest's to know, and no reason to end the move.
                Side::Source => {}
                Side::Target => self.target_failed(disk, errno, now_us, out),
            }
        }
        // A failure of the target may have ended the move and this write with it.
        if let Some(place) = self.disks[disk as usize].writes.find(Owner::Guest(id)) {
            self.settle_write(disk, place, now_us, out);
        }
    }

    /// Looks at one write after anything about it, or the stage, has changed.
    pub(super) fn settle_write(&mut self, disk: DiskIndex, place: usize, now_us: u64, out: &mut Vec<Action>) {
        let stage = self.stage;
        let state = &mut self.disks[disk as usize];
        let entry = state.writes.at_mut(place);
        let Owner::Guest(id) = entry.owner else { return };
        if entry.waiting {
            return;
        }
        if !entry.acknowledged {
            match stage.verdict(&entry.halves) {
                Some(result) => {
                    entry.acknowledged = true;
                    if let Some(due_us) = entry.due_us {
                        self.counters.held(now_us.saturating_sub(due_us));
                    }
                    out.push(Action::Acknowledge { disk, id, result });
                }
                None if stage.needs_both() && !entry.halves.any_open() => {
                    entry.due_us.get_or_insert(now_us);
                }
                None => {}
            }
        }
        if !entry.complete && stage.is_complete(&entry.halves) {
            self.complete_entry(disk, place);
        }
        let entry = *self.disks[disk as usize].writes.at(place);
        if entry.acknowledged && entry.complete && !entry.halves.any_open() {
            if entry.halves.source == Half::Done(Ok(())) && entry.halves.target == Half::Done(Ok(())) {
                self.mark_settled(disk, entry.range);
            }
            self.disks[disk as usize].writes.remove(place);
            out.push(Action::Retire { disk, id });
        }
    }

    /// Lets those go that waited for this entry alone.
    pub(super) fn complete_entry(&mut self, disk: DiskIndex, place: usize) {
        self.disks[disk as usize].writes.complete(place, &mut self.ready_scratch);
        self.ready.extend(self.ready_scratch.drain(..).map(|(sequence, owner)| (disk, sequence, owner)));
    }

    /// Starts what waited and may go, oldest first.
    pub(super) fn start_ready(&mut self, now_us: u64, out: &mut Vec<Action>) {
        while !self.ready.is_empty() {
            let mut batch = std::mem::take(&mut self.ready);
            batch.sort_unstable_by_key(|(disk, sequence, _)| (*disk, *sequence));
            for (disk, _, owner) in batch.drain(..) {
                let table = &self.disks[disk as usize].writes;
                let may_start =
                    table.find(owner).map(|place| table.at(place)).is_some_and(|e| e.waiting && e.blockers == 0);
                match owner {
                    _ if !may_start => {}
                    Owner::Guest(id) => self.start_write(disk, id, now_us, out),
                    Owner::Lock(lock) => self.start_locked(lock, now_us, out),
                }
            }
            if self.ready.is_empty() {
                self.ready = batch;
                return;
            }
        }
    }

    /// After a change of stage: every request is looked at again.
    pub(super) fn settle_all(&mut self, now_us: u64, out: &mut Vec<Action>) {
        for disk in 0..self.disks.len() as DiskIndex {
            // Backwards, because a removed entry is replaced by the last.
            for place in (0..self.disks[disk as usize].writes.len()).rev() {
                self.settle_write(disk, place, now_us, out);
            }
            for place in (0..self.disks[disk as usize].flushes.len()).rev() {
                self.settle_flush(disk, place, now_us, out);
            }
        }
    }

    pub(super) fn guest_flush(&mut self, disk: DiskIndex, id: FlushId, now_us: u64, out: &mut Vec<Action>) {
        let flush = Flush::Guest(id);
        let halves = if self.stage.target_alone() {
            Halves { target: Half::Open, ..Halves::UNSUBMITTED }
        } else if self.stage.flushes_both() {
            Halves { source: Half::Open, target: Half::Open, abandoned: false }
        } else {
            Halves { source: Half::Open, ..Halves::UNSUBMITTED }
        };
        let state = &mut self.disks[disk as usize];
        state.flushes.push(GuestFlush {
            id,
            halves,
            acknowledged: false,
            submitted_us: now_us,
            due_us: None,
            source_done_us: None,
        });
        self.submit_flush(disk, flush, halves, now_us, out);
    }

    /// To every side at which it is open.
    pub(super) fn submit_flush(
        &mut self,
        disk: DiskIndex,
        flush: Flush,
        halves: Halves,
        now_us: u64,
        out: &mut Vec<Action>,
    ) {
        for side in Side::BOTH {
            if halves.at(side) == Half::Open {
                self.opened(disk, side, now_us);
                out.push(match side {
                    Side::Source => Action::FlushSource { disk, flush },
                    Side::Target => Action::FlushTarget { disk, flush },
                });
            }
        }
    }

    /// One side has answered a flush, the guest's or one of the machine's own.
    pub(super) fn flush_done(
        &mut self,
        disk: DiskIndex,
        side: Side,
        flush: Flush,
        result: Result<(), Errno>,
        now_us: u64,
        out: &mut Vec<Action>,
    ) {
        let id = match flush {
            Flush::Own(number) => return self.own_flush_done(disk, side, number, result, now_us, out),
            Flush::Guest(id) => id,
        };
        let state = &mut self.disks[disk as usize];
        let place = state.flushes.iter().position(|entry| entry.id == id && entry.halves.at(side) == Half::Open);
        let Some(place) = place else {
            debug_assert!(false, "no flush {id} of disk {disk} at the {side:?}");
            return;
        };
        let entry = &mut state.flushes[place];
        if side == Side::Target {
            state.abandoned -= u32::from(entry.halves.abandoned);
        }
        entry.halves.set(side, Half::Done(result));
        self.answered(disk, side, now_us);
        match (side, result) {
            (Side::Target, Err(errno)) => self.target_flush_failed(disk, errno, now_us, out),
            // The source's error is the guest's to know, and no reason to end the move.
            (Side::Source, Err(_)) | (_, Ok(())) => {}
        }
        // A failure of the target may have ended the move and this flush with it.
        if let Some(place) = self.disks[disk as usize].flushes.iter().position(|entry| entry.id == id) {
            self.settle_flush(disk, place, now_us, out);
        }
    }

    pub(super) fn settle_flush(&mut self, disk: DiskIndex, place: usize, now_us: u64, out: &mut Vec<Action>) {
        let stage = self.stage;
        let state = &mut self.disks[disk as usize];
        let entry = &mut state.flushes[place];
        let id = entry.id;
        if !entry.acknowledged {
            match stage.flush_verdict(&entry.halves) {
                Some(result) => {
                    entry.acknowledged = true;
                    if let Some(due_us) = entry.due_us {
                        self.counters.held(now_us.saturating_sub(due_us));
                    }
                    if let Some(done_us) = entry.source_done_us {
                        self.counters.flush_waited(now_us.saturating_sub(done_us));
                    }
                    out.push(Action::AcknowledgeFlush { disk, id, result });
                }
                None if !entry.halves.any_open() => {
                    entry.due_us.get_or_insert(now_us);
                }
                None if entry.halves.target == Half::Open && entry.halves.source != Half::Open => {
                    entry.source_done_us.get_or_insert(now_us);
                }
                None => {}
            }
        }
        if entry.acknowledged && !entry.halves.any_open() {
            state.flushes.swap_remove(place);
            out.push(Action::RetireFlush { disk, id });
        }
    }

    /// Something is submitted to `side`.
    pub(super) fn opened(&mut self, disk: DiskIndex, side: Side, now_us: u64) {
        let state = &mut self.disks[disk as usize];
        match side {
            Side::Source => state.source_open += 1,
            Side::Target => {
                if state.target_open == 0 {
                    state.target_heard_us = now_us;
                }
                state.target_open += 1;
            }
        }
    }

    /// `side` has answered for something, whatever it said.
    pub(super) fn answered(&mut self, disk: DiskIndex, side: Side, now_us: u64) {
        let state = &mut self.disks[disk as usize];
        match side {
            Side::Source => state.source_open -= 1,
            Side::Target => {
                state.target_open = state.target_open.saturating_sub(1);
                state.target_heard_us = now_us;
            }
        }
    }
}
