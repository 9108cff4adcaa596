//! Where a move is, and what that means for a write of the guest.
//!
//! ```text
//!                    target fell behind                           (dirty again, or no moment found)
//!              ┌───────────────┬──────────────────┐            ┌──────────────┐
//!              ▼               │                  │            ▼              │
//!   start ──▶ Copy ──────▶ Mirror ──────────▶ Verify ─────▶ Switch(Flush ▶ Record ▶ Ready)
//!              ▲   swept       ▲    all clean        all verified             │ equal, still: COMMITTED is asked for
//!              │               │                                              ▼
//!              │               └───── un-committed ─── Reverting ◀──────── Committing ── COMMITTED durable, reads flip ──▶ Release ──▶ Done
//!              └────── fell behind ───────┘      target error, late
//!
//!   Copy, Mirror, Verify, Switch, Reverting ── stop or failure ──▶ Ending ── target quiet ──▶ Done
//! ```
//! | stage      | guest write                          | guest is answered by       | guest flush  |
//! | ---------- | ------------------------------------ | -------------------------- | ------------ |
//! | Copy       | source, chunk dirty                  | source                     | source       |
//! | Mirror, Verify | both; source alone if all dirty or copying | source, target may make it wait 250 ms | source |
//! | Switch     | as Mirror                            | as Mirror                  | both         |
//! | Committing | both                                 | both with success, else held | both       |
//! | Reverting  | source, chunk dirty                  | source                     | source, held until un-committed |
//! | Release    | target                               | target                     | target       |
//! | Ending     | source                               | source                     | source       |
//!
//! Reads are the source's in every stage but Release and Done(Target).

use super::vocabulary::{Phase, Side};
use crate::disk::Errno;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SwitchStep {
    /// Flushes of both sides of all disks are under way.
    Flush,
    /// PREPARED is being written.
    Record,
    /// PREPARED is durable; the next moment without obstacle flips.
    Ready,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Copy,
    Mirror,
    Verify,
    Switch(SwitchStep),
    /// COMMITTED is on its way to the journal.
    Committing,
    /// COMMITTED was revoked ([`super::revocation::Revocation`]), and the journal has not forgotten it yet.
    Reverting,
    Release,
    Ending,
    /// `Finished` was reported; the side says who answers what is still in flight.
    Done(Side),
}

impl Stage {
    /// Which stage may follow. Drawn above; `Move::enter` refuses anything else.
    pub(super) fn may_follow(self, before: Stage) -> bool {
        use Stage::{Committing, Copy, Done, Ending, Mirror, Release, Reverting, Switch, Verify};
        matches!(
            (before, self),
            (Copy, Mirror | Ending)
                | (Mirror, Copy | Verify | Ending)
                | (Verify, Copy | Switch(SwitchStep::Flush) | Ending)
                | (Switch(SwitchStep::Flush), Switch(SwitchStep::Record))
                | (Switch(SwitchStep::Record), Switch(SwitchStep::Ready))
                | (Switch(SwitchStep::Ready), Committing)
                | (Switch(_), Copy | Verify | Ending)
                | (Committing, Release | Reverting)
                | (Reverting, Copy | Mirror | Ending)
                | (Release, Done(Side::Target))
                | (Ending, Done(Side::Source))
        )
    }

    /// The source alone decides, and what the target lacks is kept in the bitmaps.
    pub(super) fn tracks(self) -> bool {
        matches!(self, Stage::Copy | Stage::Mirror | Stage::Verify | Stage::Switch(_))
    }

    /// Writes go to both sides, and overlapping ones one after the other.
    pub(super) fn mirrors(self) -> bool {
        matches!(self, Stage::Mirror | Stage::Verify | Stage::Switch(_)) || self.needs_both()
    }

    /// A restart may choose either side: nothing is answered that only one of them holds.
    pub(super) fn needs_both(self) -> bool {
        self == Stage::Committing
    }

    /// What is asked for may still be taken back, and what the target lacks is kept in the bitmaps.
    pub(super) fn source_decides(self) -> bool {
        self.tracks() || self == Stage::Reverting
    }

    pub(super) fn flushes_both(self) -> bool {
        matches!(self, Stage::Switch(_)) || self.needs_both()
    }

    pub(super) fn copies(self) -> bool {
        matches!(self, Stage::Copy | Stage::Mirror | Stage::Verify)
    }

    /// Locks make sense only where a chunk stays clean once it has been copied.
    pub(super) fn locks(self) -> bool {
        matches!(self, Stage::Mirror | Stage::Verify)
    }

    pub(super) fn target_alone(self) -> bool {
        matches!(self, Stage::Release | Stage::Done(Side::Target))
    }

    pub(super) fn phase(self) -> Phase {
        match self {
            Stage::Copy => Phase::Copy,
            Stage::Mirror => Phase::Mirror,
            Stage::Verify => Phase::Verify,
            Stage::Switch(_) | Stage::Committing | Stage::Reverting => Phase::Switch,
            Stage::Release | Stage::Done(Side::Target) => Phase::Release,
            Stage::Ending | Stage::Done(Side::Source) => Phase::Ending,
        }
    }

    /// What the guest may be told of a request whose halves stand like this, or `None`: not yet.
    pub(super) fn verdict(self, halves: &Halves) -> Option<Result<(), Errno>> {
        use Half::{Absent, Done, Open};
        let Halves { source, target, abandoned } = *halves;
        if self.target_alone() {
            // A request that went to the source only is a flush from before PREPARED began: that target flush covered
            // it.
            return match target {
                Done(result) => Some(result),
                Open => None,
                Absent => Some(Ok(())),
            };
        }
        if self.needs_both() {
            let held = |half: Half| !matches!(half, Absent | Done(Ok(())));
            return if held(source) || held(target) { None } else { Some(Ok(())) };
        }
        match source {
            Done(result) if !self.source_decides() || target != Open || abandoned => Some(result),
            _ => None,
        }
    }

    /// The same for a flush of the guest. Only a write may be answered on the word of a revocation: that does not survive a power cut,
    /// and what was flushed has to.
    pub(super) fn flush_verdict(self, halves: &Halves) -> Option<Result<(), Errno>> {
        if self == Stage::Reverting { None } else { self.verdict(halves) }
    }

    /// True when nothing of the request can still change a side that matters: requests it overlaps may start.
    pub(super) fn is_complete(self, halves: &Halves) -> bool {
        let Halves { source, target, abandoned } = *halves;
        if self.target_alone() {
            target != Half::Open && (target != Half::Absent || source != Half::Open)
        } else if self.source_decides() {
            source != Half::Open && (target != Half::Open || abandoned)
        } else if self.needs_both() {
            source != Half::Open && target != Half::Open
        } else {
            source != Half::Open
        }
    }
}

/// One side's part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    /// Never submitted to this side.
    Absent,
    Open,
    Done(Result<(), Errno>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Halves {
    pub source: Half,
    pub target: Half,
    /// The target half was given up; it is still open, or completed afterwards.
    pub abandoned: bool,
}

impl Halves {
    pub(super) const UNSUBMITTED: Halves = Halves { source: Half::Absent, target: Half::Absent, abandoned: false };

    pub(super) fn at(&self, side: Side) -> Half {
        match side {
            Side::Source => self.source,
            Side::Target => self.target,
        }
    }

    pub(super) fn set(&mut self, side: Side, half: Half) {
        match side {
            Side::Source => self.source = half,
            Side::Target => self.target = half,
        }
    }

    pub(super) fn any_open(&self) -> bool {
        self.source == Half::Open || self.target == Half::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: Half = Half::Done(Ok(()));
    const BAD: Half = Half::Done(Err(5));

    fn halves(source: Half, target: Half) -> Halves {
        Halves { source, target, abandoned: false }
    }

    #[test]
    fn the_target_never_makes_a_guest_request_fail_before_the_switch() {
        for stage in [Stage::Mirror, Stage::Verify, Stage::Switch(SwitchStep::Ready)] {
            assert_eq!(stage.verdict(&halves(OK, BAD)), Some(Ok(())));
            assert_eq!(stage.verdict(&halves(BAD, OK)), Some(Err(5)));
            assert_eq!(stage.verdict(&halves(OK, Half::Open)), None);
            assert_eq!(stage.verdict(&Halves { abandoned: true, ..halves(OK, Half::Open) }), Some(Ok(())));
        }
    }

    #[test]
    fn until_the_record_is_durable_an_error_of_either_side_is_held() {
        for (source, target) in [(OK, BAD), (BAD, OK), (BAD, BAD), (OK, Half::Open), (Half::Open, OK)] {
            assert_eq!(Stage::Committing.verdict(&halves(source, target)), None);
        }
        assert_eq!(Stage::Committing.verdict(&halves(OK, OK)), Some(Ok(())));
        assert_eq!(Stage::Release.verdict(&halves(BAD, OK)), Some(Ok(())));
        assert_eq!(Stage::Release.verdict(&halves(OK, BAD)), Some(Err(5)));
    }

    #[test]
    fn a_move_that_ends_waits_for_the_source_alone() {
        assert_eq!(Stage::Ending.verdict(&halves(OK, Half::Open)), Some(Ok(())));
        assert_eq!(Stage::Ending.verdict(&halves(Half::Open, OK)), None);
    }

    #[test]
    fn once_committed_is_revoked_the_source_answers_writes_and_flushes_are_held() {
        for (source, target, write) in [(OK, BAD, Some(Ok(()))), (BAD, OK, Some(Err(5))), (OK, Half::Open, None)] {
            assert_eq!(Stage::Reverting.verdict(&halves(source, target)), write);
            assert_eq!(Stage::Reverting.flush_verdict(&halves(source, target)), None);
        }
        let given_up = Halves { abandoned: true, ..halves(OK, Half::Open) };
        assert_eq!(Stage::Reverting.verdict(&given_up), Some(Ok(())));
        assert_eq!(Stage::Reverting.flush_verdict(&halves(OK, Half::Absent)), None);
    }

    #[test]
    fn committed_is_asked_for_only_from_ready_and_reached_only_from_committing() {
        let all = [
            Stage::Copy,
            Stage::Mirror,
            Stage::Verify,
            Stage::Switch(SwitchStep::Flush),
            Stage::Switch(SwitchStep::Record),
            Stage::Switch(SwitchStep::Ready),
            Stage::Committing,
            Stage::Reverting,
            Stage::Release,
            Stage::Ending,
        ];
        for before in all {
            assert_eq!(Stage::Committing.may_follow(before), before == Stage::Switch(SwitchStep::Ready));
            assert_eq!(Stage::Release.may_follow(before), before == Stage::Committing);
            assert!(!before.may_follow(Stage::Done(Side::Source)) && !before.may_follow(Stage::Done(Side::Target)));
            assert!(!Stage::Ending.may_follow(Stage::Release), "a committed move never ends on the source");
        }
    }
}
