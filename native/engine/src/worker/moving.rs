//! One move of this worker's VM, from the first record to the last: the journal's thread and the scan. Its end is in `ending.rs`, what
//! it tells of itself in `figures.rs`.
//!
//! ```text
//!   begin ─► journal `started` ─► targets made ─► machine in place ─► scan ─► ... the machine decides, `follow` carries out
//!                                                                             │
//!            outcome failed ◄── targets deleted ◄── Finished(Ended) ◄─────────┤
//!            outcome ok ◄────── receipt saved ◄──── Finished(Committed) ◄─────┘
//!   release: sources closed, `released` recorded         end: journal removed
//! ```
//! The thread `move` owns the journal's superblock: the reactor never waits for a disk to record something.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::boot_id::boot_id;
use super::figures::Speed;
use super::holes::find_holes;
use super::lanes::open_lanes;
use super::outcome::{JournalError, describe};
use super::plan::{Plan, parse_plan};
use super::receipt::{self, DiskReceipt, ReceiptFile, iso_time};
use super::scan::scan;
use super::serve::OnNotice;
use super::status::OutcomeStatus;
use super::targets::{Made, Target, at_destination, descriptors_of, make_target};
use crate::disk::{DiskError, ErrorKind};
use crate::file::{Place, SpaceReturn, delete_gradually};
use crate::image::Image;
use crate::kill_point::kill_point;
use crate::mirror::{
    DiskSetup, EndReason, Event, Journal, JournalPhase, JournalPlace, JournalWriter, Move, MoveLimits, Outcome, Phase,
    RecordResult, Revocation,
};
use crate::service::{DiskId, Engine, MoveFigures, Notice};
use crate::vital_thread::spawn_vital;

/// A destination that does not let go: the move is reported as failed after this long, cleaning up goes on behind it.
pub(super) const CLEAN_UP_PATIENCE: Duration = Duration::from_secs(5);
/// Names no driver: calls about it find nothing.
const NO_DRIVER: u32 = u32::MAX;

pub(super) struct State {
    pub(super) journal_phase: JournalPhase,
    pub(super) outcome: Option<OutcomeStatus>,
    pub(super) receipts: Option<Vec<DiskReceipt>>,
    pub(super) percent: f64,
    pub(super) journal_error: Option<JournalError>,
    /// The place in the plan of a target that is not at its path any more.
    pub(super) displaced: Option<usize>,
    /// For the person who asked for the move; a successor of this worker does not know them.
    pub(super) warnings: Vec<String>,
    stop_too_late: bool,
    /// The machine ends or has ended on the source; what is left is cleaning up.
    ending: Option<EndReason>,
    verified_at: Option<SystemTime>,
    pub(super) speed: Speed,
    /// The last phase the machine was in before it ended.
    pub(super) reached: Phase,
    /// The last figures seen: they stay to be asked for when the machine is gone.
    pub(super) last: Option<MoveFigures>,
}

pub struct Moving {
    pub(super) engine: Engine,
    pub(super) plan: Plan,
    plan_json: String,
    place: JournalPlace,
    /// The reactor's number of this move; `NO_DRIVER` while a resumed move waits for its targets, and when nothing is left to drive.
    driver: AtomicU32,
    /// A stop that came before there was a machine to stop.
    stop_early: AtomicBool,
    pub(super) state: Mutex<State>,
    changed: Condvar,
    pub(super) writer: Mutex<JournalWriter>,
    /// Of the targets, in the plan's order; empty while a resumed move waits for them.
    pub(super) targets: Mutex<Vec<Arc<Place>>>,
    /// Of targets that were deleted: `end` waits for it.
    pub(super) space: Mutex<SpaceReturn>,
    on_notice: OnNotice,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every critical section leaves the state whole; a panic elsewhere must not stop a move's reports.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Moving {
    /// Starts a move: journal first, then the targets (exclusively), then the machine. On failure nothing of it is left.
    pub fn begin(
        engine: &Engine,
        plan_json: &str,
        place: &JournalPlace,
        on_notice: OnNotice,
    ) -> Result<Arc<Self>, DiskError> {
        let plan = parse_plan(plan_json.as_bytes())?;
        let (mut sizes, mut sources) = (Vec::with_capacity(plan.disks.len()), Vec::with_capacity(plan.disks.len()));
        for disk in &plan.disks {
            let id = DiskId(disk.disk);
            let served = engine.call(move |s| s.served(id))?;
            let served = served
                .ok_or_else(|| DiskError::new(ErrorKind::NotFound, format!("disk {} is not served", disk.disk)))?;
            if served.path != disk.source {
                let message = format!(
                    "disk {} is served from '{}', not from '{}'",
                    disk.disk,
                    served.path.display(),
                    disk.source.display()
                );
                return Err(DiskError::new(ErrorKind::InvalidState, message));
            }
            sizes.push(served.size_bytes);
            sources.push(served.identity);
        }
        let (journal, writer) = Journal::create(place, plan_json.as_bytes(), &sizes, boot_id()?)?;
        kill_point("after:started");
        let mut made = Made::default();
        let targets =
            plan.disks.iter().zip(sources).map(|(disk, source)| make_target(disk, source, plan.trust(), &mut made));
        let started = targets.collect::<Result<Vec<_>, _>>().and_then(|targets| {
            kill_point("targets");
            let (revocation, setups) = marks_of(&journal)?;
            let machine = Move::new(MoveLimits::default(), revocation, setups)?;
            let moving = Arc::new(Self::assemble(engine, plan.clone(), plan_json.to_owned(), place, writer, on_notice));
            let notices = moving.install(machine, targets)?;
            moving.spawn(move |this| this.follow(&notices))?;
            Ok(moving)
        });
        match started {
            Ok(moving) => {
                moving.warn(made.warnings);
                moving.scan();
                Ok(moving)
            }
            // Left as it is for the next worker, which finds `started` and begins again.
            Err(error) if engine.is_ending() => Err(error),
            Err(mut error) => {
                let delete = || Ok(delete_gradually(made.places.iter().map(Arc::as_ref)));
                let (space, deleted) = at_destination(&descriptors_of(&made.places), delete, &place.journal)?;
                if let Err(left) = deleted {
                    error
                        .message
                        .push_str(&format!("; what was made before could not be deleted: {}", describe(&left)));
                }
                // Also then: with it the next worker would begin again with what was refused. The host knows what was to be made.
                Journal::remove(place)?;
                space.wait();
                Err(error)
            }
        }
    }

    pub(super) fn assemble(
        engine: &Engine,
        plan: Plan,
        plan_json: String,
        place: &JournalPlace,
        writer: JournalWriter,
        on_notice: OnNotice,
    ) -> Self {
        let journal_phase = writer.phase();
        Self {
            engine: engine.clone(),
            plan,
            plan_json,
            place: place.clone(),
            driver: AtomicU32::new(NO_DRIVER),
            stop_early: AtomicBool::new(false),
            state: Mutex::new(State {
                journal_phase,
                outcome: None,
                receipts: None,
                percent: 0.0,
                journal_error: None,
                displaced: None,
                warnings: Vec::new(),
                stop_too_late: false,
                ending: None,
                verified_at: None,
                speed: Speed::new(),
                reached: Phase::Copy,
                last: None,
            }),
            changed: Condvar::new(),
            writer: Mutex::new(writer),
            targets: Mutex::default(),
            space: Mutex::default(),
            on_notice,
        }
    }

    pub(super) fn driver(&self) -> u32 {
        self.driver.load(Ordering::SeqCst)
    }

    /// Set by a stop; the one who waits before there is a machine looks at it.
    pub(super) fn stop_early(&self) -> &AtomicBool {
        &self.stop_early
    }

    /// Puts the machine in place; what it says from now on comes out of the receiver.
    pub(super) fn install(&self, machine: Move, targets: Vec<Target>) -> Result<Receiver<Notice>, DiskError> {
        *lock(&self.targets) = targets.iter().map(|target| Arc::clone(&target.place)).collect();
        let targets: Vec<(DiskId, Image)> = targets.into_iter().map(|target| (target.disk, target.image)).collect();
        let lanes = open_lanes(&self.engine, &targets)?;
        let limits = MoveLimits::default();
        let slots = (limits.copy_slots() as usize, limits.verify_slots() as usize);
        let (sink, receive) = channel();
        let (ask, asked) = channel();
        let engine = self.engine.clone();
        // It ends when the driver, and with it the last who could ask, is gone.
        spawn_vital("holes", move || find_holes(&engine, &asked))
            .map_err(|e| DiskError::io("start a thread for the move in", self.journal_path(), e))?;
        // The reactor only queues the notice; a gone receiver means that the worker is ending.
        let notify = Box::new(move |notice: &Notice| match notice {
            Notice::FindHoles(holes) => drop(ask.send(*holes)),
            _ => drop(sink.send(notice.clone())),
        });
        let driver = self.engine.call(move |s| s.begin_move(machine, targets, lanes, slots, notify))??;
        // Stored here and loaded there, and in `stop` the other way round: in one order for both, or each could miss the other.
        self.driver.store(driver, Ordering::SeqCst);
        if self.stop_early.load(Ordering::SeqCst) {
            self.request_stop();
        }
        Ok(receive)
    }

    pub(super) fn spawn(self: &Arc<Self>, body: impl FnOnce(&Arc<Self>) + Send + 'static) -> Result<(), DiskError> {
        let this = Arc::clone(self);
        let spawned = spawn_vital("move", move || body(&this));
        spawned.map(drop).map_err(|e| DiskError::io("start a thread for the move in", self.journal_path(), e))
    }

    /// Tells the machine which parts of the sources hold data. A hole is never copied: a new target reads as zeros.
    pub(super) fn scan(self: &Arc<Self>) {
        let driver = self.driver();
        let engine = self.engine.clone();
        let spawned = spawn_vital("scan", move || scan(&engine, driver));
        if spawned.is_err() {
            self.request_stop();
        }
    }

    /// The thread of the move: records, outcomes, cleaning up.
    pub(super) fn follow(self: &Arc<Self>, notices: &Receiver<Notice>) {
        let mut deadline: Option<Instant> = None;
        loop {
            let notice = match deadline {
                None => notices.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => notices.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match notice {
                Ok(Notice::Record(phase)) => self.record(phase),
                // Those go to a thread of their own.
                Ok(Notice::FindHoles(_)) => {}
                Ok(Notice::Phase(phase)) => {
                    let mut state = lock(&self.state);
                    state.reached(phase);
                    match phase {
                        Phase::Synchronized => state.verified_at = Some(SystemTime::now()),
                        Phase::Release => state.journal_phase = JournalPhase::Committed,
                        _ => {}
                    }
                }
                Ok(Notice::Ending(reason)) => {
                    lock(&self.state).ending = Some(reason);
                    self.changed.notify_all();
                    deadline = Some(Instant::now() + CLEAN_UP_PATIENCE);
                }
                Ok(Notice::StopTooLate) => {
                    lock(&self.state).stop_too_late = true;
                    self.changed.notify_all();
                }
                Ok(Notice::Finished(Outcome::Committed)) => {
                    self.finish_committed();
                    self.notify();
                    return;
                }
                Ok(Notice::Finished(Outcome::Ended(reason))) => {
                    let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
                    self.finish_ended(reason, left.unwrap_or_default());
                    self.notify();
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {
                    // The destination hangs. The guest is on the source; say so now and clean up when it lets go.
                    deadline = None;
                    let reason = lock(&self.state).ending;
                    let driver = self.driver();
                    if self.engine.call(move |s| s.bypass_move(driver)).is_err() {
                        return;
                    }
                    if let Some(reason) = reason {
                        self.tell_that_it_hangs(reason);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.notify();
        }
    }

    fn record(&self, phase: JournalPhase) {
        kill_point(&format!("before:{}", record_name(phase)));
        let receipts = if phase == JournalPhase::Prepared { self.save_receipts() } else { Ok(()) };
        let result = match receipts {
            Ok(()) if phase == JournalPhase::Prepared && self.is_displaced() => RecordResult::Failed,
            Ok(()) => self.write_record(phase),
            Err(error) => {
                lock(&self.state).journal_error = Some(JournalError::of(&error));
                RecordResult::Failed
            }
        };
        // COMMITTED may have been revoked meanwhile: the machine says whether it counts.
        if result == RecordResult::Durable && phase != JournalPhase::Committed {
            lock(&self.state).journal_phase = phase;
        }
        kill_point(&format!("after:{}", record_name(phase)));
        let driver = self.driver();
        // A gone service ends the process: its successor reads the journal.
        drop(self.engine.post(move |s| s.move_event(driver, Event::RecordDone { phase, result })));
    }

    /// Blocking; the cause of a failure is kept for the outcome.
    pub(super) fn write_record(&self, phase: JournalPhase) -> RecordResult {
        let (result, error) = lock(&self.writer).record(phase);
        if let Some(error) = error {
            lock(&self.state).journal_error = Some(JournalError::of(&error));
        }
        result
    }

    pub(super) fn save_receipts(&self) -> Result<(), DiskError> {
        let driver = self.driver();
        let digests = self.engine.call(move |s| s.digests(driver))?;
        let verified_at = lock(&self.state).verified_at.unwrap_or_else(SystemTime::now);
        let receipts: Vec<DiskReceipt> = digests
            .into_iter()
            .map(|d| DiskReceipt {
                disk: d.disk.0,
                bytes: d.bytes.to_string(),
                hash: format!("{:032x}", d.units.digest()),
                units_written_since: d.written_since,
                source: ReceiptFile::new(&d.source.path, d.source.identity),
                target: ReceiptFile::new(&d.target.path, d.target.identity),
                generation: self.plan.generation,
                verified_at: iso_time(verified_at),
                switched_at: iso_time(d.switched_at.unwrap_or_else(SystemTime::now)),
            })
            .collect();
        receipt::save(self.journal_path(), &receipts)?;
        lock(&self.state).receipts = Some(receipts);
        Ok(())
    }

    pub(super) fn keep_figures(&self) {
        let driver = self.driver();
        if let Ok(Some(figures)) = self.engine.call(move |s| s.figures(driver)) {
            lock(&self.state).last = Some(figures);
        }
    }

    pub(super) fn set_outcome(&self, outcome: OutcomeStatus) {
        let mut state = lock(&self.state);
        state.outcome = Some(outcome);
        drop(state);
        self.changed.notify_all();
    }

    pub(super) fn tell_unless_told(&self, outcome: OutcomeStatus) {
        let mut state = lock(&self.state);
        if state.outcome.is_none() {
            state.outcome = Some(outcome);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Returns after `patience` without one.
    pub(super) fn wait_for_outcome(&self, patience: Duration) {
        let state = lock(&self.state);
        let waited = self.changed.wait_timeout_while(state, patience, |state| state.outcome.is_none());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn warn(&self, warnings: Vec<String>) {
        lock(&self.state).warnings.extend(warnings);
    }

    /// Somebody may want to look at the figures.
    pub(super) fn notify(&self) {
        (self.on_notice)();
    }

    fn request_stop(&self) {
        let driver = self.driver();
        drop(self.engine.post(move |s| s.move_event(driver, Event::Stop)));
    }

    /// False when the move is past COMMITTED and goes on. Waits until the targets are gone (or are known to hang).
    pub fn stop(&self) -> Result<bool, DiskError> {
        if let Some(outcome) = &lock(&self.state).outcome {
            return Ok(!outcome.ok);
        }
        self.stop_early.store(true, Ordering::SeqCst);
        self.request_stop();
        let mut state = lock(&self.state);
        loop {
            if let Some(outcome) = &state.outcome {
                return Ok(!outcome.ok);
            }
            if state.stop_too_late {
                return Ok(false);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub fn plan_json(&self) -> &str {
        &self.plan_json
    }

    pub fn journal_path(&self) -> &Path {
        &self.place.journal
    }

    pub(super) fn place(&self) -> &JournalPlace {
        &self.place
    }

    pub fn journal_phase(&self) -> &'static str {
        record_name(lock(&self.state).journal_phase)
    }
}

pub(super) fn marks_of(journal: &Journal) -> Result<(Revocation, Vec<DiskSetup>), DiskError> {
    journal.revocation().zip(journal.setups()).ok_or_else(|| {
        let message = format!("the marks of the journal '{}' are not there", journal.path().display());
        DiskError::new(ErrorKind::InvalidState, message)
    })
}

/// The name of a record, as src/model/move.ts spells it.
pub(super) fn record_name(phase: JournalPhase) -> &'static str {
    match phase {
        JournalPhase::Started => "started",
        JournalPhase::Copy => "copy",
        JournalPhase::Mirror => "mirror",
        JournalPhase::Verify => "verify",
        JournalPhase::Prepared => "prepared",
        JournalPhase::Committed => "committed",
        JournalPhase::Released => "released",
        JournalPhase::Deleted => "deleted",
        JournalPhase::Cancelled => "cancelled",
    }
}
