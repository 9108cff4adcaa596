//! What a new worker makes of a journal it finds.
//!
//! | journal says            | this boot                                   | another boot (power cut, restart)        |
//! | ----------------------- | ------------------------------------------- | ---------------------------------------- |
//! | started                 | targets made anew, move begins again        | rolled back                              |
//! | copy .. prepared        | resumed: dirty and intent bits say what is left; without marks rolled back | rolled back |
//! | committed, revoked      | un-committed, then resumed                  | (the revocation is gone) the targets     |
//! | committed               | the targets are served, the host finishes; without marks refused | the targets       |
//! | released, deleted       | the targets are served, the host finishes   | the same                                 |
//! | cancelled               | targets deleted                             | the same                                 |
//!
//! The source serves at once. Only mirroring waits for the targets' locks: a dead predecessor's writes may still be on their way
//! there. Meanwhile every guest write marks its chunks dirty in the journal's own bitmap.

use std::sync::Arc;
use std::time::Duration;

use super::boot_id::boot_id;
use super::moving::{CLEAN_UP_PATIENCE, Moving, lock, record_name};
use super::outcome::{code_of, describe, disk_at};
use super::plan::{Plan, parse_plan};
use super::receipt;
use super::serve::OnNotice;
use super::status::{JournalStatus, OutcomeStatus};
use super::targets::{Made, at_destination, found, is_ours, open_target, remake_target};
use crate::disk::{DiskError, ErrorKind};
use crate::file::{LockWait, delete_gradually};
use crate::kill_point::kill_point;
use crate::mirror::{
    DiskSetup, EndReason, Journal, JournalPhase, JournalPlace, JournalWriter, Move, MoveLimits, RecordResult,
    Revocation, SavedMap, Side, chunk_count,
};
use crate::service::{DiskId, Engine};

/// The guest waits for its disk meanwhile: a destination that hangs deletes nothing, and the rest is done behind the guest's back.
const ROLL_BACK_PATIENCE: Duration = Duration::from_secs(1);

/// What a journal found at the start says.
pub struct Rolled {
    pub plan: Plan,
    pub plan_json: String,
    pub phase: JournalPhase,
    pub authority: Side,
    place: JournalPlace,
    /// Bitmaps and revocation of this boot; without them nothing is resumed.
    marks: Option<(Revocation, Vec<DiskSetup>)>,
    same_boot: bool,
}

impl Rolled {
    /// Replaces a COMMITTED that was revoked, so that nobody believes it after a power cut: before anything is served.
    pub fn read(journal: &Journal, writer: &mut JournalWriter, place: &JournalPlace) -> Result<Self, DiskError> {
        let plan = parse_plan(journal.plan())?;
        let plan_json = String::from_utf8_lossy(journal.plan()).into_owned();
        let mut phase = journal.phase();
        let same_boot = journal.is_of_boot(boot_id()?);
        let marks = journal.revocation().zip(journal.setups()).filter(|_| same_boot);
        if phase == JournalPhase::Committed && same_boot {
            let Some((revocation, _)) = &marks else {
                let message = format!(
                    "the journal '{}' says that the move has switched to the destination, but '{}', which would say whether that was taken back, is missing or another move's",
                    place.journal.display(),
                    place.marks.display()
                );
                return Err(DiskError::new(ErrorKind::Corrupt, message).at(&place.marks));
            };
            if revocation.is_set() {
                kill_point("before:un-committed");
                un_commit(writer, place)?;
                kill_point("after:un-committed");
                phase = JournalPhase::Mirror;
            }
        }
        Ok(Self { plan, plan_json, phase, authority: phase.authority(), place: place.clone(), marks, same_boot })
    }
}

impl Rolled {
    pub fn status(&self) -> JournalStatus {
        JournalStatus::new(&self.place.journal, record_name(self.phase), &self.plan_json)
    }
}

fn un_commit(writer: &mut JournalWriter, place: &JournalPlace) -> Result<(), DiskError> {
    match writer.record(JournalPhase::Mirror) {
        (RecordResult::Durable, _) => Ok(()),
        (_, Some(error)) => Err(error),
        (_, None) => Err(DiskError::new(
            ErrorKind::Io,
            format!("the journal '{}' could not be written", place.journal.display()),
        )),
    }
}

/// Goes on with what a journal says. The authoritative images are attached, their exports are not open yet.
pub fn recover(
    engine: &Engine,
    writer: JournalWriter,
    rolled: Rolled,
    on_notice: OnNotice,
) -> Result<Arc<Moving>, DiskError> {
    let place = rolled.place;
    let moving = Arc::new(Moving::assemble(engine, rolled.plan, rolled.plan_json, &place, writer, on_notice));
    if rolled.authority == Side::Target {
        lock(&moving.state).receipts = receipt::load(&place.journal);
        moving.set_outcome(OutcomeStatus::switched(""));
        return Ok(moving);
    }
    let resumed = rolled.marks.filter(|_| rolled.phase != JournalPhase::Cancelled);
    let Some((revocation, setups)) = resumed else {
        let mut outcome = moving.failed(EndReason::Stopped);
        if rolled.phase != JournalPhase::Cancelled {
            let why = if rolled.same_boot {
                format!("'{}', which said what was left to copy, is gone", place.marks.display())
            } else {
                "The machine was restarted before the switch".to_owned()
            };
            outcome.code = "OperationFailed";
            outcome.message =
                format!("{why}; the move was rolled back. The virtual machine stays on its source files.");
        }
        moving.spawn(move |this| roll_back(this, outcome))?;
        moving.wait_for_outcome(ROLL_BACK_PATIENCE);
        return Ok(moving);
    };
    for (disk, setup) in moving.plan.disks.iter().zip(&setups) {
        let id = DiskId(disk.disk);
        let full = || DiskError::new(ErrorKind::Corrupt, "the journal's bitmaps are too small for its disks");
        let dirty = SavedMap::new(setup.dirty.clone(), chunk_count(setup.size_bytes)).ok_or_else(full)?;
        engine.call(move |s| s.track(id, dirty))?;
    }
    let phase = rolled.phase;
    moving.spawn(move |this| resume(this, phase, revocation, setups))?;
    Ok(moving)
}

/// On the thread of the move: waits for the targets, puts the machine in place, follows it.
fn resume(moving: &Arc<Moving>, phase: JournalPhase, revocation: Revocation, setups: Vec<DiskSetup>) {
    let mut made = Made::default();
    let trust = moving.plan.trust();
    let targets = moving.plan.disks.iter().map(|disk| {
        if phase != JournalPhase::Started {
            return open_target(disk, LockWait::Until(moving.stop_early()), trust);
        }
        let id = DiskId(disk.disk);
        let served = moving.engine.call(move |s| s.served(id))?;
        let served =
            served.ok_or_else(|| DiskError::new(ErrorKind::NotFound, format!("disk {} is not served", disk.disk)))?;
        remake_target(disk, served.identity, trust, moving.journal_path(), &mut made)
    });
    let installed = targets.collect::<Result<Vec<_>, DiskError>>().and_then(|targets| {
        kill_point("before:resumed");
        let machine = Move::resume(MoveLimits::default(), phase, revocation, setups)?;
        let notices = moving.install(machine, targets);
        kill_point("after:resumed");
        notices
    });
    match installed {
        Ok(notices) => {
            if phase == JournalPhase::Started {
                moving.warn(made.warnings);
                moving.scan();
            }
            moving.follow(&notices);
        }
        // The next worker goes on.
        Err(_) if moving.engine.is_ending() => {}
        // Stopped while it waited, or not to be resumed. What was there before this move stays: only targets that are ours are deleted
        // (see `is_ours`).
        Err(error) => {
            let mut outcome = moving.failed(EndReason::Stopped);
            if error.kind != ErrorKind::Cancelled {
                outcome.code = code_of(&error);
                outcome.disk = disk_at(&moving.plan, error.path.as_deref());
                outcome.path.clone_from(&error.path);
                outcome.message = format!(
                    "The move could not be resumed: {}. The virtual machine stays on its source files.",
                    describe(&error)
                );
            }
            roll_back(moving, outcome);
        }
    }
}

/// Records that the move is over, then deletes its targets: a target without a record could not be told from a file of somebody else.
fn roll_back(moving: &Arc<Moving>, mut outcome: OutcomeStatus) {
    if lock(&moving.state).journal_phase != JournalPhase::Cancelled {
        kill_point("before:cancelled");
        match moving.write_record(JournalPhase::Cancelled) {
            RecordResult::Durable => lock(&moving.state).journal_phase = JournalPhase::Cancelled,
            RecordResult::Failed | RecordResult::Unknown => {
                outcome.message.push_str(&format!(" {}.", moving.journal_failed()))
            }
        }
    }
    kill_point("after:cancelled");
    moving.clean_up(outcome, CLEAN_UP_PATIENCE, move |this| {
        // A journal that was restored from a copy is younger than any disk of the VM. What is not provably ours the host deletes by
        // identity.
        let delete = || {
            let mut unseen = Ok(());
            let mut ours = Vec::new();
            for disk in &this.plan.disks {
                match found(disk, this.plan.trust()) {
                    Ok(place) => {
                        ours.extend(place.filter(|place| is_ours(place, this.journal_path()).unwrap_or(false)))
                    }
                    Err(error) => unseen = Err(error),
                }
            }
            let (space, deleted) = delete_gradually(&ours);
            Ok((space, deleted.and(unseen)))
        };
        let (space, deleted) = at_destination(&[], delete, this.journal_path())?;
        *lock(&this.space) = space;
        deleted
    });
}
