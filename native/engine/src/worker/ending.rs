//! The end of a move: its targets deleted, or its sources let go, and its journal removed.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::moving::{Moving, lock};
use super::outcome::{describe, displaced_target, failed, not_written};
use super::receipt;
use super::status::OutcomeStatus;
use super::targets::{at_destination, descriptors_of};
use crate::disk::{DiskError, ErrorKind};
use crate::file::{Place, delete_gradually};
use crate::kill_point::kill_point;
use crate::mirror::{EndReason, Journal, JournalPhase, RecordResult};
use crate::thread_apart::leave_table;
use crate::vital_thread::block_signals;

/// How long closing the images of a finished move may take before it is left to the end of the process.
const RETIRE_PATIENCE: Duration = Duration::from_secs(30);
/// Behind the outcome of a move whose destination hangs.
const HANGS: &str = " The destination does not let go of its files; they are deleted when it does.";
/// How long the file systems of the targets may take to say that these are at their places.
const PLACES_PATIENCE: Duration = Duration::from_secs(1);
const RETIRE_POLL: Duration = Duration::from_millis(5);

impl Moving {
    pub(super) fn finish_committed(&self) {
        self.keep_figures();
        let driver = self.driver();
        if self.engine.call(move |s| s.bypass_move(driver)).is_err() {
            return;
        }
        // The receipt of PREPARED exists already; this one adds the time of the switch and the latest writes.
        let note = match self.save_receipts() {
            Ok(()) => String::new(),
            Err(e) => format!(" The receipt could not be brought up to date: {e}."),
        };
        self.set_outcome(OutcomeStatus::switched(&note));
    }

    /// Why the move has ended, for whoever asked for it.
    pub(super) fn failed(&self, reason: EndReason) -> OutcomeStatus {
        let (error, displaced) = {
            let state = lock(&self.state);
            (state.journal_error.clone(), state.displaced)
        };
        if let Some(place) = displaced {
            return displaced_target(&self.plan.disks[place]);
        }
        failed(reason, &self.plan, (self.journal_path(), error.as_ref()))
    }

    /// That a record could not be written, and why.
    pub(super) fn journal_failed(&self) -> String {
        not_written(self.journal_path(), lock(&self.state).journal_error.as_ref())
    }

    /// Deletes the targets and tells the outcome; `patience` from now it is told all the same.
    pub(super) fn finish_ended(self: &Arc<Self>, reason: EndReason, patience: Duration) {
        self.keep_figures();
        let outcome = self.failed(reason);
        // Before the outcome is told: whoever hears it may begin the next move.
        let driver = self.driver();
        if self.engine.call(move |s| s.bypass_move(driver)).is_err() {
            return;
        }
        self.clean_up(outcome, patience, |this| this.remove_targets());
    }

    /// Tells `outcome` when `delete` has cleaned the destination. One that hangs holds up neither the outcome, which is told when
    /// `patience` is over, nor the caller: the deletion goes on behind it, on a thread of its own.
    pub(super) fn clean_up(
        self: &Arc<Self>,
        mut outcome: OutcomeStatus,
        patience: Duration,
        delete: impl FnOnce(&Self) -> Result<(), DiskError> + Send + 'static,
    ) {
        let mut untold = outcome.clone();
        untold.message.push_str(HANGS);
        let spawned = self.spawn(move |this| {
            if let Err(error) = delete(this) {
                outcome.message.push_str(&format!(" The destination could not be cleaned: {}.", describe(&error)));
            }
            this.set_outcome(outcome);
            this.notify();
        });
        match spawned {
            Ok(()) => self.wait_for_outcome(patience),
            Err(error) => untold.message.push_str(&format!(" {error}.")),
        }
        self.tell_unless_told(untold);
    }

    /// The destination does not let go: the guest is on the source, and the rest is done when it does.
    pub(super) fn tell_that_it_hangs(&self, reason: EndReason) {
        let mut outcome = self.failed(reason);
        outcome.message.push_str(HANGS);
        self.tell_unless_told(outcome);
    }

    /// By the time a destination lets go that hung, the move's end has been told, and another one may have its target at that path:
    /// each is deleted by what it is.
    fn remove_targets(&self) -> Result<(), DiskError> {
        let places = std::mem::take(&mut *lock(&self.targets));
        self.retire(false)?;
        self.delete_targets(&places)
    }

    /// Durable when it returns; the space comes back behind it.
    pub(super) fn delete_targets(&self, targets: &[Arc<Place>]) -> Result<(), DiskError> {
        let delete = || Ok(delete_gradually(targets.iter().map(Arc::as_ref)));
        let (space, deleted) = at_destination(&descriptors_of(targets), delete, self.journal_path())?;
        *lock(&self.space) = space;
        deleted
    }

    /// Whether a target is not at its path any more, by which everybody will look for it: said before the switch, when failing is free.
    /// Of a file system that does not answer in time nothing is known, and the machine sees by itself that it hangs.
    pub(super) fn is_displaced(&self) -> bool {
        let places = lock(&self.targets).clone();
        let (say, said) = channel();
        // On a thread apart, as all that may stand still in the destination's file system.
        let asked = std::thread::Builder::new().name("places".to_owned()).spawn(move || {
            block_signals();
            leave_table(&descriptors_of(&places));
            let displaced = places.iter().position(|place| matches!(place.is_held(), Ok(false)));
            // Nobody may be waiting any more.
            say.send(displaced).ok();
        });
        let displaced = asked.ok().and_then(|_| said.recv_timeout(PLACES_PATIENCE).ok()).flatten();
        lock(&self.state).displaced = displaced;
        displaced.is_some()
    }

    fn retire(&self, clean: bool) -> Result<(), DiskError> {
        let deadline = Instant::now() + RETIRE_PATIENCE;
        let driver = self.driver();
        loop {
            if let Some(remains) = self.engine.call(move |s| s.retire_move(driver, clean))? {
                // One that is not closed by then is closed when its file system lets go; there is nothing else to do about it.
                remains.close(RETIRE_PATIENCE);
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(DiskError::new(ErrorKind::Io, "the files of the finished move are still in use"));
            }
            std::thread::sleep(RETIRE_POLL);
        }
    }

    pub fn release(&self) -> Result<(), DiskError> {
        let (outcome, phase) = {
            let state = lock(&self.state);
            (state.outcome.clone(), state.journal_phase)
        };
        if !outcome.is_some_and(|o| o.ok) {
            return Err(DiskError::new(ErrorKind::InvalidState, "the move has not switched to the destination yet"));
        }
        if phase >= JournalPhase::Released && phase != JournalPhase::Cancelled {
            return Ok(());
        }
        kill_point("before:released");
        self.retire(true)?;
        match self.write_record(JournalPhase::Released) {
            RecordResult::Durable => {
                lock(&self.state).journal_phase = JournalPhase::Released;
                kill_point("after:released");
                Ok(())
            }
            RecordResult::Failed | RecordResult::Unknown => {
                Err(DiskError::new(ErrorKind::Io, self.journal_failed()).at(self.journal_path()))
            }
        }
    }

    /// Removes the journal. The space of deleted targets is back before: the next move is refused if what it needs is not free, and
    /// the worker of a VM that is off ends behind this, which would free the rest all at once.
    pub fn end(&self) -> Result<(), DiskError> {
        if lock(&self.state).outcome.is_none() {
            return Err(DiskError::new(ErrorKind::InvalidState, "the move is still under way"));
        }
        let space = std::mem::take(&mut *lock(&self.space));
        space.wait();
        kill_point("before:end");
        Journal::remove(self.place())?;
        kill_point("after:end");
        receipt::remove(self.journal_path())
    }
}
