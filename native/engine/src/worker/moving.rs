//! One move of this worker's VM, from the first record to the last: the journal's thread, the scan, the cleaning up.
//!
//! ```text
//!   begin ─► journal `started` ─► targets made ─► machine in place ─► scan ─► ... the machine decides, `follow` carries out
//!                                                                             │
//!            outcome failed ◄── targets deleted ◄── Finished(Ended) ◄─────────┤
//!            outcome ok ◄────── receipt saved ◄──── Finished(Committed) ◄─────┘
//!   release: sources closed, `released` recorded         end: journal removed
//! ```
//! The thread `move` owns the journal's superblock: the reactor never waits for a disk to record something.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::boot_id::boot_id;
use super::outcome::{describe, failed};
use super::plan::{Plan, PlannedDisk, parse_plan};
use super::receipt::{self, DiskReceipt, ReceiptFile, iso_time};
use super::scan::scan;
use super::serve::OnNotice;
use super::status::{MoveStatus, OutcomeStatus};
use super::targets::make_targets;
use crate::disk::{DiskError, ErrorKind};
use crate::file::{FileIdentity, SpaceReturn, delete_gradually};
use crate::image::Image;
use crate::kill_point::kill_point;
use crate::mirror::{
    EndReason, Event, Journal, JournalPhase, JournalWriter, Move, MoveLimits, Outcome, Phase, RecordResult,
};
use crate::service::{DiskId, Engine, MoveFigures, Notice};
use crate::vital_thread::spawn_vital;

/// A destination that does not let go: the move is reported as failed after this long, cleaning up goes on behind it.
const CLEAN_UP_PATIENCE: Duration = Duration::from_secs(5);
/// How long closing the images of a finished move may take before it is left to the end of the process.
const RETIRE_PATIENCE: Duration = Duration::from_secs(30);
const RETIRE_POLL: Duration = Duration::from_millis(5);
/// Names no driver: calls about it find nothing.
const NO_DRIVER: u32 = u32::MAX;

pub(super) struct State {
    pub(super) journal_phase: JournalPhase,
    outcome: Option<OutcomeStatus>,
    pub(super) receipts: Option<Vec<DiskReceipt>>,
    percent: f64,
    journal_error: Option<String>,
    stop_too_late: bool,
    /// The machine ends or has ended on the source; what is left is cleaning up.
    ending: Option<EndReason>,
    verified_at: Option<SystemTime>,
    speed: Speed,
    /// The last figures seen: they stay to be asked for when the machine is gone.
    last: Option<MoveFigures>,
}

/// Bytes per second over the last second or so.
pub(super) struct Speed {
    at: Instant,
    bytes: u64,
    per_second: u64,
}

pub struct Moving {
    pub(super) engine: Engine,
    pub(super) plan: Plan,
    plan_json: String,
    journal_path: PathBuf,
    /// The reactor's number of this move; `NO_DRIVER` while a resumed move waits for its targets, and when nothing is left to drive.
    driver: AtomicU32,
    /// A stop that came before there was a machine to stop.
    stop_early: AtomicBool,
    pub(super) state: Mutex<State>,
    changed: Condvar,
    pub(super) writer: Mutex<JournalWriter>,
    /// Of the targets, in the plan's order; empty while a resumed move waits for them.
    targets: Mutex<Vec<FileIdentity>>,
    /// Of targets that were deleted: `end` waits for it.
    space: Mutex<SpaceReturn>,
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
        journal_path: &Path,
        on_notice: OnNotice,
    ) -> Result<Arc<Self>, DiskError> {
        let plan = parse_plan(plan_json.as_bytes())?;
        let mut sizes = Vec::with_capacity(plan.disks.len());
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
        }
        let (journal, writer) = Journal::create(journal_path, plan_json.as_bytes(), &sizes, boot_id()?)?;
        kill_point("after:started");
        let mut made = Vec::new();
        let started = make_targets(&plan, &mut made).and_then(|targets| {
            kill_point("targets");
            let machine = Move::new(MoveLimits::default(), journal.setups())?;
            let moving =
                Arc::new(Self::assemble(engine, plan.clone(), plan_json.to_owned(), journal_path, writer, on_notice));
            let notices = moving.install(machine, targets)?;
            moving.spawn(move |this| this.follow(&notices))?;
            Ok(moving)
        });
        if started.is_err() {
            let (space, deleted) = delete_gradually(made.iter().map(PathBuf::as_path));
            space.wait();
            deleted?;
            Journal::remove(journal_path)?;
        }
        let moving = started?;
        moving.scan();
        Ok(moving)
    }

    pub(super) fn assemble(
        engine: &Engine,
        plan: Plan,
        plan_json: String,
        journal_path: &Path,
        writer: JournalWriter,
        on_notice: OnNotice,
    ) -> Self {
        let journal_phase = writer.phase();
        Self {
            engine: engine.clone(),
            plan,
            plan_json,
            journal_path: journal_path.to_owned(),
            driver: AtomicU32::new(NO_DRIVER),
            stop_early: AtomicBool::new(false),
            state: Mutex::new(State {
                journal_phase,
                outcome: None,
                receipts: None,
                percent: 0.0,
                journal_error: None,
                stop_too_late: false,
                ending: None,
                verified_at: None,
                speed: Speed { at: Instant::now(), bytes: 0, per_second: 0 },
                last: None,
            }),
            changed: Condvar::new(),
            writer: Mutex::new(writer),
            targets: Mutex::default(),
            space: Mutex::default(),
            on_notice,
        }
    }

    fn driver(&self) -> u32 {
        self.driver.load(Ordering::SeqCst)
    }

    /// Set by a stop; the one who waits before there is a machine looks at it.
    pub(super) fn stop_early(&self) -> &AtomicBool {
        &self.stop_early
    }

    /// Puts the machine in place; what it says from now on comes out of the receiver.
    pub(super) fn install(&self, machine: Move, targets: Vec<(DiskId, Image)>) -> Result<Receiver<Notice>, DiskError> {
        let identities = targets.iter().map(|(_, image)| image.file().identity());
        *lock(&self.targets) = identities.collect::<Result<_, _>>()?;
        let limits = MoveLimits::default();
        let slots = (limits.copy_slots() as usize, limits.verify_slots() as usize);
        let (sink, receive) = channel();
        // The reactor only queues the notice; a gone receiver means that the worker is ending.
        let notify = Box::new(move |notice: &Notice| drop(sink.send(notice.clone())));
        let driver = self.engine.call(move |s| s.begin_move(machine, targets, slots, notify))??;
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
        spawned.map(drop).map_err(|e| DiskError::io("start a thread for the move in", &self.journal_path, e))
    }

    /// Tells the machine which parts of the sources hold data. A hole is never copied: a new target reads as zeros.
    pub(super) fn scan(self: &Arc<Self>) {
        let driver = self.driver();
        let Ok(tasks) = self.engine.call(move |s| s.scan_tasks(driver)) else { return };
        let engine = self.engine.clone();
        let spawned = spawn_vital("scan", move || scan(&engine, driver, tasks));
        if spawned.is_err() {
            self.request_stop();
        }
    }

    /// The thread of the move: records, outcomes, cleaning up.
    pub(super) fn follow(&self, notices: &Receiver<Notice>) {
        let mut deadline: Option<Instant> = None;
        loop {
            let notice = match deadline {
                None => notices.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => notices.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match notice {
                Ok(Notice::Record(phase)) => self.record(phase),
                Ok(Notice::Phase(phase)) => {
                    if phase == Phase::Synchronized {
                        lock(&self.state).verified_at = Some(SystemTime::now());
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
                    (self.on_notice)();
                    return;
                }
                Ok(Notice::Finished(Outcome::Ended(reason))) => {
                    self.finish_ended(reason);
                    (self.on_notice)();
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
                        let mut outcome = failed(reason, &self.plan);
                        outcome
                            .message
                            .push_str(" The destination does not let go of its files; they are deleted when it does.");
                        self.set_outcome(outcome);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            (self.on_notice)();
        }
    }

    fn record(&self, phase: JournalPhase) {
        kill_point(&format!("before:{}", record_name(phase)));
        let result = if phase == JournalPhase::Prepared && self.save_receipts().is_err() {
            RecordResult::Failed
        } else {
            self.write_record(phase)
        };
        if result == RecordResult::Durable {
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
            lock(&self.state).journal_error = Some(describe(&error));
        }
        result
    }

    fn save_receipts(&self) -> Result<(), DiskError> {
        let driver = self.driver();
        let digests = self.engine.call(move |s| s.digests(driver))?;
        let verified_at = lock(&self.state).verified_at.unwrap_or_else(SystemTime::now);
        let receipts: Vec<DiskReceipt> = digests
            .into_iter()
            .map(|d| DiskReceipt {
                disk: d.disk.0,
                bytes: d.bytes.to_string(),
                hash: format!("{:032x}", d.digest),
                units_written_since: d.written_since,
                source: ReceiptFile::new(&d.source.path, d.source.identity),
                target: ReceiptFile::new(&d.target.path, d.target.identity),
                generation: self.plan.generation,
                verified_at: iso_time(verified_at),
                switched_at: iso_time(d.switched_at.unwrap_or_else(SystemTime::now)),
            })
            .collect();
        receipt::save(&self.journal_path, &receipts)?;
        lock(&self.state).receipts = Some(receipts);
        Ok(())
    }

    fn keep_figures(&self) {
        let driver = self.driver();
        if let Ok(Some(figures)) = self.engine.call(move |s| s.figures(driver)) {
            lock(&self.state).last = Some(figures);
        }
    }

    fn finish_committed(&self) {
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
        self.set_outcome(OutcomeStatus {
            ok: true,
            code: "",
            message: format!("The virtual machine runs on the destination.{note}"),
        });
    }

    fn finish_ended(&self, reason: EndReason) {
        self.keep_figures();
        let mut outcome = failed(reason, &self.plan);
        if let Some(error) = &lock(&self.state).journal_error {
            outcome.message.push_str(&format!(" The journal said: {error}."));
        }
        if let Err(error) = self.remove_targets() {
            outcome.message.push_str(&format!(" The destination could not be cleaned: {}.", describe(&error)));
        }
        self.set_outcome(outcome);
    }

    fn remove_targets(&self) -> Result<(), DiskError> {
        let driver = self.driver();
        self.engine.call(move |s| s.bypass_move(driver))?;
        // Asked while they are open, when nothing else can have their identity; and again when they are closed, which may take a while.
        let ours: Vec<bool> = (0..self.plan.disks.len()).map(|place| self.is_target(place)).collect();
        self.retire(false)?;
        self.delete_targets(|place, _| ours[place] && self.is_target(place))
    }

    /// Whether the file at a target's place is the one this move has made. By the time a destination lets go that hung, the move's end has
    /// been told, and another one may have its target there. Errors are left to the deletion.
    fn is_target(&self, place: usize) -> bool {
        match (lock(&self.targets).get(place), self.plan.disks[place].target.symlink_metadata()) {
            (Some(identity), Ok(there)) => (identity.device, identity.inode) == (there.dev(), there.ino()),
            _ => true,
        }
    }

    /// Durable when it returns; the space comes back behind it.
    pub(super) fn delete_targets(&self, ours: impl Fn(usize, &PlannedDisk) -> bool) -> Result<(), DiskError> {
        let disks = self.plan.disks.iter().enumerate();
        let targets = disks.filter(|(place, disk)| ours(*place, disk)).map(|(_, disk)| disk.target.as_path());
        let (space, deleted) = delete_gradually(targets);
        *lock(&self.space) = space;
        deleted
    }

    fn retire(&self, clean: bool) -> Result<(), DiskError> {
        let deadline = Instant::now() + RETIRE_PATIENCE;
        let driver = self.driver();
        while !self.engine.call(move |s| s.retire_move(driver, clean))? {
            if Instant::now() >= deadline {
                return Err(DiskError::new(ErrorKind::Io, "the files of the finished move are still in use"));
            }
            std::thread::sleep(RETIRE_POLL);
        }
        Ok(())
    }

    pub(super) fn set_outcome(&self, outcome: OutcomeStatus) {
        let mut state = lock(&self.state);
        state.outcome = Some(outcome);
        drop(state);
        self.changed.notify_all();
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
                let message = format!("the journal '{}' could not be written", self.journal_path.display());
                Err(DiskError::new(ErrorKind::Io, message))
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
        Journal::remove(&self.journal_path)?;
        kill_point("after:end");
        receipt::remove(&self.journal_path)
    }

    pub fn plan_json(&self) -> &str {
        &self.plan_json
    }

    pub fn journal_path(&self) -> &Path {
        &self.journal_path
    }

    pub fn journal_phase(&self) -> &'static str {
        record_name(lock(&self.state).journal_phase)
    }

    pub fn status(&self) -> Result<MoveStatus, DiskError> {
        let driver = self.driver();
        let figures = self.engine.call(move |s| s.figures(driver))?;
        let mut state = lock(&self.state);
        state.last = figures.or(state.last);
        let figures = state.last;
        let mut status = MoveStatus {
            move_id: self.plan.move_id.clone(),
            phase: "release",
            percent: 100.0,
            bytes_total: "0".to_owned(),
            bytes_copied: "0".to_owned(),
            bytes_recopied: "0".to_owned(),
            bytes_mirrored: "0".to_owned(),
            bytes_verified: "0".to_owned(),
            bytes_per_second: 0,
            seconds_remaining: None,
            guest_p99_us: None,
            guest_max_us: None,
            blackout_us: None,
            bound_bytes: None,
            outcome: state.outcome.clone(),
            receipt: state.receipts.clone(),
        };
        if let Some(f) = figures {
            state.speed.sample(f.progress.copied_bytes + f.progress.recopied_bytes + f.progress.verified_bytes);
            let speed = state.speed.per_second;
            let p = f.progress;
            let to_copy = p.copied_bytes + p.dirty_bytes;
            let copied = if to_copy == 0 { 0.0 } else { p.copied_bytes as f64 / to_copy as f64 };
            let verified = if p.total_bytes == 0 { 0.0 } else { p.verified_bytes as f64 / p.total_bytes as f64 };
            let left = p.dirty_bytes + (p.total_bytes - p.verified_bytes.min(p.total_bytes));
            status.phase = phase_name(f.phase);
            let percent = match f.phase {
                Phase::Release => 100.0,
                Phase::Synchronized | Phase::Switch => 99.0,
                Phase::Copy | Phase::Mirror | Phase::Verify | Phase::Ending => {
                    (495.0 * (copied + verified)).floor() / 10.0
                }
            };
            // A guest that writes makes work; the bar stands still then instead of going back.
            state.percent = state.percent.max(percent);
            status.percent = state.percent;
            status.bytes_total = p.total_bytes.to_string();
            status.bytes_copied = f.progress.copied_bytes.to_string();
            status.bytes_recopied = f.progress.recopied_bytes.to_string();
            status.bytes_mirrored = f.progress.mirrored_bytes.to_string();
            status.bytes_verified = f.progress.verified_bytes.to_string();
            status.bytes_per_second = speed;
            status.seconds_remaining = (speed > 0).then(|| left.div_ceil(speed));
            status.guest_p99_us = f.guest_p99_us;
            status.guest_max_us = Some(f.guest_max_us);
            status.blackout_us = f.blackout_us;
            status.bound_bytes = f.bound_bytes.map(|b| b.to_string());
        }
        Ok(status)
    }
}

impl Speed {
    fn sample(&mut self, bytes: u64) {
        let elapsed = self.at.elapsed();
        if elapsed >= Duration::from_millis(500) {
            self.per_second = (bytes.saturating_sub(self.bytes) as f64 / elapsed.as_secs_f64()) as u64;
            self.bytes = bytes;
            self.at = Instant::now();
        }
    }
}

/// The name of a record, as src/model/move.ts spells it.
fn record_name(phase: JournalPhase) -> &'static str {
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

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Copy | Phase::Ending => "copy",
        Phase::Mirror => "mirror",
        Phase::Verify => "verify",
        Phase::Synchronized => "synchronized",
        Phase::Switch => "switch",
        Phase::Release => "release",
    }
}
