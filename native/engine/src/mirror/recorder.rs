//! Journal records: one at a time, in order, tried again at a bounded rate where giving up is not an answer.

use std::collections::VecDeque;

use super::limits::CANCEL_RECORD_TRIES;
use super::machine::{Move, small_queue};
use super::stage::{Stage, SwitchStep};
use super::vocabulary::*;

#[derive(Clone, Copy, Debug)]
struct Wanted {
    phase: JournalPhase,
    /// The attempt to switch it belongs to.
    attempt: u32,
}

pub(super) struct Recorder {
    queue: VecDeque<Wanted>,
    under_way: Option<Wanted>,
    /// The last phase asked for, so that a phase that comes again is not recorded twice in a row.
    last: JournalPhase,
    not_before_us: u64,
    failures: u32,
}

impl Recorder {
    pub(super) fn new() -> Self {
        Self { queue: small_queue(), under_way: None, last: JournalPhase::Started, not_before_us: 0, failures: 0 }
    }

    /// What the journal holds already.
    pub(super) fn found(&mut self, phase: JournalPhase) {
        self.last = phase;
    }

    pub(super) fn want(&mut self, phase: JournalPhase, attempt: u32) {
        if phase != self.last || phase == JournalPhase::Prepared {
            self.last = phase;
            self.queue.push_back(Wanted { phase, attempt });
        }
    }

    fn again(&mut self, wanted: Wanted, now_us: u64, pause_us: u64) {
        self.not_before_us = now_us + (pause_us << self.failures.min(4));
        self.failures += 1;
        self.last = wanted.phase;
        self.queue.push_front(wanted);
    }

    /// Drops what has not been started.
    pub(super) fn forget_queue(&mut self) {
        if !self.queue.is_empty() {
            self.queue.clear();
            // `Started` is never asked for, so whatever is wanted next will be written.
            self.last = self.under_way.map_or(JournalPhase::Started, |wanted| wanted.phase);
        }
        self.failures = 0;
        self.not_before_us = 0;
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.under_way.is_none()
    }

    pub(super) fn is_writing(&self) -> bool {
        self.under_way.is_some()
    }

    pub(super) fn pump(&mut self, now_us: u64, out: &mut Vec<Action>) {
        if self.under_way.is_none() && now_us >= self.not_before_us {
            self.under_way = self.queue.pop_front();
            if let Some(Wanted { phase, .. }) = self.under_way {
                out.push(Action::Record { phase });
            }
        }
    }
}

impl Move {
    pub(super) fn record_done(
        &mut self,
        phase: JournalPhase,
        result: RecordResult,
        now_us: u64,
        out: &mut Vec<Action>,
    ) {
        let Some(done) = self.recorder.under_way.take_if(|wanted| wanted.phase == phase) else {
            debug_assert!(false, "no record {phase:?} is under way");
            return;
        };
        let durable = result == RecordResult::Durable;
        if durable {
            self.recorder.failures = 0;
            self.recorder.not_before_us = 0;
        }
        let pause_us = self.limits.record_pause_us;
        match (self.stage, phase) {
            (Stage::Committing, JournalPhase::Committed) => match result {
                RecordResult::Durable => self.committed(now_us, out),
                RecordResult::Failed if !self.committed_may_be_seen => {
                    self.revert(Some(EndReason::JournalFailed { phase }), false, now_us, out);
                    self.leave_revert(now_us, out);
                }
                RecordResult::Failed | RecordResult::Unknown => {
                    self.committed_may_be_seen |= result == RecordResult::Unknown;
                    self.recorder.again(done, now_us, pause_us);
                }
            },
            (Stage::Reverting, JournalPhase::Committed) => {
                self.committed_may_be_seen |= result != RecordResult::Failed;
                self.un_commit(now_us, out);
            }
            (Stage::Reverting, _) if durable => self.leave_revert(now_us, out),
            // No flush may be answered before the journal has forgotten COMMITTED.
            (Stage::Reverting, _) => self.recorder.again(done, now_us, pause_us),
            (Stage::Ending, JournalPhase::Cancelled) if !durable => {
                if self.recorder.failures < CANCEL_RECORD_TRIES {
                    self.recorder.again(done, now_us, pause_us);
                } else {
                    // The journal still says that the move goes on. Whoever resumes it must trust nothing.
                    for disk in &mut self.disks {
                        disk.distrusted_from = Some(0);
                    }
                    self.distrust_some();
                }
            }
            (stage, _) if stage.tracks() && !durable => {
                self.fail(EndReason::JournalFailed { phase }, now_us, out);
            }
            (Stage::Switch(SwitchStep::Record), JournalPhase::Prepared) if done.attempt == self.attempt => {
                self.ready_since_us = now_us;
                self.enter(Stage::Switch(SwitchStep::Ready), out);
            }
            _ => {}
        }
    }
}
