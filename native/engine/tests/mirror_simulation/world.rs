//! The world around one move: a guest with a queue, two sides, a journal, a clock, and everything that may go wrong.
//! It is the smallest correct driver: it carries out actions as `vocabulary.rs` asks, and complains when the machine
//! breaks its word.

use std::ops::Range;

use vmstorage_engine::disk::ByteRange;
use vmstorage_engine::mirror::*;

use crate::disks::{GRAIN, SimDisk};
use crate::oracle::{Issued, Oracle};
use crate::plan::Plan;
use crate::random::Random;
use crate::work::{Op, Pair, Superblock, Work};

const TICK_US: u64 = 2_000;
/// A run that needs more steps than this is stuck.
const STEPS_MAX: u64 = 600_000;
/// Steps the guest goes on after the end of the move.
const AFTERMATH_STEPS: u64 = 200;

/// In so many attempts to switch target and journal hang; else a run would have no end.
const HANGING_ATTEMPTS: u64 = 3;
/// Steps for which a move that ends bears a silent target.
const ENDING_STEPS: u64 = 3_000;

pub type Check<T = ()> = Result<T, String>;

#[derive(Clone, Debug)]
pub struct GuestWrite {
    pub grains: Range<u64>,
    pub value: u32,
    pub issued: Issued,
    pub since_us: u64,
    pub answered: bool,
    pub source_failed: bool,
    /// The target failed it when the target alone counted already.
    pub target_failed: bool,
    pub open: u32,
}

#[derive(Clone, Debug)]
pub struct GuestFlush {
    pub issued: Issued,
    pub since_us: u64,
    pub answered: bool,
    pub target_failed: bool,
    pub open: u32,
}

pub struct Disk {
    pub grains: u64,
    pub setup: (SharedWords, SharedWords),
    pub oracle: Oracle,
    pub writes: Vec<Option<GuestWrite>>,
    pub flushes: Vec<Option<GuestFlush>>,
    pub unanswered: u64,
    pub scan: Option<u64>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Committed,
    Ended(EndReason),
    PowerCut(Side),
    KilledAfterCommit,
    KilledAfterCancel,
}

pub struct World {
    pub plan: Plan,
    pub random: Random,
    pub machine: Move,
    pub pairs: Vec<Pair>,
    pub disks: Vec<Disk>,
    pub ops: Vec<Op>,
    pub superblock: Superblock,
    /// In memory that outlives a kill, but no power cut.
    pub revocation: Revocation,
    pub out: Vec<Action>,
    pub now_us: u64,
    pub last_tick_us: u64,
    pub steps: u64,
    pub next_value: u32,
    pub read_side: Side,
    pub released: bool,
    pub ending: bool,
    pub outcome: Option<Outcome>,
    pub stop_answered: bool,
    pub ending_steps: u64,
    pub steps_since_commit: u64,
    /// When COMMITTED was last asked for.
    pub committing_since_us: u64,
    /// How often.
    pub attempts: u64,
    pub bound: Option<u64>,
    pub copied_since_bound: u64,
    /// Of a write, and of a flush, which has to wait for records too.
    pub longest_wait_us: u64,
    pub longest_flush_us: u64,
    pub kills: u64,
    pub phases: Vec<Phase>,
    pub progress: Option<Progress>,
}

impl World {
    pub fn new(plan: Plan) -> Check<Self> {
        let mut random = Random::new(plan.seed ^ 0xA5A5);
        let mut pairs = Vec::new();
        let mut disks = Vec::new();
        let mut next_value = 1;
        for grains in plan.disks.iter().copied() {
            let mut content = vec![0; grains as usize];
            for chunk in content.chunks_mut(16) {
                if random.permille(plan.allocated_permille) {
                    for grain in chunk {
                        next_value += 1;
                        *grain = next_value;
                    }
                }
            }
            let chunks = grains.div_ceil(16);
            disks.push(Disk {
                grains,
                setup: (SharedWords::in_memory(chunks), SharedWords::in_memory(chunks)),
                oracle: Oracle::new(&content, plan.power_cut.is_some()),
                writes: Vec::new(),
                flushes: Vec::new(),
                unanswered: 0,
                scan: Some(0),
            });
            pairs.push(Pair { source: SimDisk::new(content), target: SimDisk::new(vec![0; grains as usize]) });
        }
        let revocation = Revocation::in_memory();
        let machine =
            Move::new(plan.limits(), revocation.clone(), setups(&disks)).map_err(|error| error.to_string())?;
        let mut world = Self {
            plan,
            random,
            machine,
            pairs,
            disks,
            ops: Vec::new(),
            superblock: Superblock { visible: JournalPhase::Started, durable: JournalPhase::Started },
            revocation,
            out: Vec::new(),
            now_us: 1_000_000,
            last_tick_us: 0,
            steps: 0,
            next_value,
            read_side: Side::Source,
            released: false,
            ending: false,
            outcome: None,
            stop_answered: false,
            ending_steps: 0,
            steps_since_commit: 0,
            committing_since_us: 0,
            attempts: 0,
            bound: None,
            copied_since_bound: 0,
            longest_wait_us: 0,
            longest_flush_us: 0,
            kills: 0,
            phases: Vec::new(),
            progress: None,
        };
        for _ in 0..world.plan.adopted {
            world.adopt()?;
        }
        Ok(world)
    }

    /// Runs to the end of the move, or to the power cut.
    pub fn run(&mut self) -> Check<End> {
        let mut aftermath = 0;
        loop {
            self.steps += 1;
            if self.steps > STEPS_MAX {
                return Err(format!("stuck: {:?}, {} operations under way", self.machine.progress(), self.ops.len()));
            }
            if self.must_cut_power() {
                return self.power_cut();
            }
            if self.outcome.is_none()
                && self.must_kill()
                && let Some(end) = self.kill()?
            {
                return Ok(end);
            }
            if self.plan.stop_after.is_some_and(|at| self.steps == at) {
                self.give(Event::Stop)?;
            }
            if aftermath < AFTERMATH_STEPS {
                self.guest_acts()?;
            }
            self.scan()?;
            self.time_passes()?;
            self.io_happens()?;
            if let Some(outcome) = self.outcome {
                aftermath += 1;
                if aftermath > AFTERMATH_STEPS && self.machine.is_idle() && self.ops.is_empty() {
                    return self.finish(outcome);
                }
            }
        }
    }

    // Time and I/O.

    pub fn time_passes(&mut self) -> Check {
        self.now_us += self.random.below(2 * self.plan.step_us + 1);
        if self.now_us >= self.last_tick_us + TICK_US {
            self.last_tick_us = self.now_us;
            self.give(Event::Tick)?;
        }
        Ok(())
    }

    pub fn target_hangs(&self) -> bool {
        // Once it is authoritative the guest waits for it as for any disk.
        if self.released {
            return false;
        }
        let since = self.now_us - 1_000_000;
        let in_window = self.in_window()
            && self.attempts <= HANGING_ATTEMPTS
            && self.now_us < self.committing_since_us + self.plan.window_hang_us;
        in_window || self.plan.hangs.iter().any(|(from, to)| (*from..*to).contains(&since))
    }

    /// COMMITTED was asked for or may be in the journal, and nobody knows for certain.
    pub fn in_window(&self) -> bool {
        let asked = self.ops.iter().any(|op| matches!(op.work, Work::Record { phase: JournalPhase::Committed, .. }));
        !self.released && (asked || self.superblock.visible == JournalPhase::Committed)
    }

    /// Trouble at the worst moment.
    pub fn trouble_in_window(&mut self) -> Check {
        if !self.in_window() {
            return Ok(());
        }
        if self.plan.window_stop && self.random.permille(20) {
            self.plan.window_stop = false;
            self.give(Event::Stop)?;
        }
        let plan = &self.plan;
        for (side, permille) in
            [(Side::Target, plan.window_target_error_permille), (Side::Source, plan.window_source_error_permille)]
        {
            if self.random.permille(permille) {
                let errno = if self.random.permille(700) { libc::EAGAIN } else { libc::EIO };
                let on_side = |op: &&mut Op| matches!(op.work, Work::Write { side: at, .. } if at == side);
                if let Some(op) = self.ops.iter_mut().find(on_side) {
                    op.error = Some(errno);
                }
            }
        }
        Ok(())
    }

    pub fn io_happens(&mut self) -> Check {
        self.trouble_in_window()?;
        // A target that would never come back does so once the move has given it up long ago, so that the run has an
        // end.
        self.ending_steps += u64::from(self.ending);
        if self.ending_steps > ENDING_STEPS {
            self.plan.hangs.clear();
        }
        let hangs = self.target_hangs();
        let may_run = |op: &Op, now_us: u64| now_us >= op.not_before_us && !(hangs && op.uses_target());
        let start = self.random.below(self.ops.len().max(1) as u64) as usize;
        let order = (start..self.ops.len()).chain(0..start);
        let Some(chosen) = order.into_iter().find(|at| may_run(&self.ops[*at], self.now_us)) else {
            // Everybody waits: let time pass faster.
            self.now_us += 500;
            return Ok(());
        };
        let event = self.ops[chosen].step(&mut self.pairs, &mut self.superblock, &mut self.random);
        let Some(event) = event else { return Ok(()) };
        let done = self.ops.swap_remove(chosen);
        for range in done.holes() {
            self.give(Event::Hole { disk: done.disk, range })?;
        }
        self.note_done(&event)?;
        self.give(event)
    }

    pub fn note_done(&mut self, event: &Event) -> Check {
        match *event {
            Event::SourceWriteDone { disk, id, result } => {
                let write = self.write(disk, id)?;
                write.open -= 1;
                write.source_failed |= result.is_err();
            }
            Event::TargetWriteDone { disk, id, result } => {
                let released = self.released;
                let write = self.write(disk, id)?;
                write.open -= 1;
                write.target_failed |= result.is_err() && released;
            }
            Event::SourceFlushDone { disk, flush: Flush::Guest(id), .. } => self.flush(disk, id)?.open -= 1,
            Event::TargetFlushDone { disk, flush: Flush::Guest(id), result } => {
                let released = self.released;
                let flush = self.flush(disk, id)?;
                flush.open -= 1;
                flush.target_failed |= result.is_err() && released;
            }
            _ => {}
        }
        Ok(())
    }

    pub fn write(&mut self, disk: DiskIndex, id: WriteId) -> Check<&mut GuestWrite> {
        let slot = self.disks[disk as usize].writes.get_mut(id as usize).and_then(Option::as_mut);
        slot.ok_or_else(|| format!("write {id} of disk {disk} is not known"))
    }

    pub fn flush(&mut self, disk: DiskIndex, id: FlushId) -> Check<&mut GuestFlush> {
        let slot = self.disks[disk as usize].flushes.get_mut(id as usize).and_then(Option::as_mut);
        slot.ok_or_else(|| format!("flush {id} of disk {disk} is not known"))
    }

    // The driver.

    pub fn give(&mut self, event: Event) -> Check {
        let mut out = std::mem::take(&mut self.out);
        self.machine.on(event, self.now_us, &mut out);
        let flips = out.iter().filter(|action| matches!(action, Action::SetReadSide { .. })).count();
        if !flips.is_multiple_of(self.disks.len()) {
            return Err(format!("{flips} of {} disks changed sides in one call", self.disks.len()));
        }
        for action in out.drain(..) {
            self.carry_out(action).map_err(|error| format!("{error} (after {event:?}, {action:?})"))?;
        }
        self.out = out;
        if self.machine.read_side() != self.read_side {
            return Err(format!("the machine reads from {:?}", self.machine.read_side()));
        }
        Ok(())
    }

    pub fn start(&mut self, disk: DiskIndex, work: Work) {
        let mut op = Op { disk, work, error: None, error_after: self.random.below(4), rotten: false, not_before_us: 0 };
        let plan = &self.plan;
        let on_source = matches!(op.work, Work::Write { side: Side::Source, .. });
        if on_source && self.random.below(10_000) < plan.source_error_permyriad {
            op.error = Some(libc::EIO);
        }
        if op.uses_target() && !self.released {
            if self.random.below(10_000) < plan.target_fatal_permyriad {
                op.error = Some([libc::ENOSPC, libc::EIO][self.random.below(2) as usize]);
            } else if self.random.below(10_000) < plan.target_transient_permyriad {
                op.error = Some(libc::EAGAIN);
            }
            op.not_before_us = self.now_us + self.random.below(plan.target_delay_us + 1);
            if matches!(op.work, Work::Flush { .. }) {
                op.error = self.random.permille(plan.target_flush_error_permille).then_some(libc::EIO);
            }
        }
        if matches!(op.work, Work::Record { .. }) {
            op.not_before_us = self.now_us + self.random.below(plan.record_delay_us + 1);
        }
        op.rotten = matches!(op.work, Work::Copy { .. }) && self.random.permille(plan.rotten_copy_permille);
        self.ops.push(op);
    }

    pub fn open_write(&mut self, disk: DiskIndex, id: WriteId, side: Side) -> Check {
        let write = self.write(disk, id)?;
        write.open += 1;
        let (grains, value) = (write.grains.clone(), write.value);
        self.start(disk, Work::Write { side, id, grains, value, done: 0 });
        Ok(())
    }

    pub fn touches_target(&mut self) -> Check {
        if self.ending { Err("the target gets work although the move has ended".into()) } else { Ok(()) }
    }

    pub fn touches_source(&mut self) -> Check {
        if self.released { Err("the source gets work although COMMITTED is durable".into()) } else { Ok(()) }
    }

    pub fn carry_out(&mut self, action: Action) -> Check {
        match action {
            Action::WriteSource { disk, id } => {
                self.touches_source()?;
                self.open_write(disk, id, Side::Source)?;
            }
            Action::WriteTarget { disk, id } => {
                self.touches_target()?;
                self.open_write(disk, id, Side::Target)?;
            }
            Action::WriteBoth { disk, id } => {
                self.touches_source()?;
                self.touches_target()?;
                self.open_write(disk, id, Side::Source)?;
                self.open_write(disk, id, Side::Target)?;
            }
            Action::Acknowledge { disk, id, result } => self.answer_write(disk, id, result)?,
            Action::Refuse { .. } => return Err(format!("a write was refused: {action:?}")),
            Action::Retire { disk, id } => {
                let write = self.write(disk, id)?;
                if !write.answered || write.open > 0 {
                    return Err(format!("retired too early: {write:?}"));
                }
                self.disks[disk as usize].writes[id as usize] = None;
            }
            Action::FlushSource { disk, flush } => {
                self.touches_source()?;
                self.open_flush(disk, flush, Side::Source)?;
            }
            Action::FlushTarget { disk, flush } => {
                self.touches_target()?;
                self.open_flush(disk, flush, Side::Target)?;
            }
            Action::AcknowledgeFlush { disk, id, result } => {
                let now_us = self.now_us;
                let flush = self.flush(disk, id)?;
                if flush.answered || result.is_err() != flush.target_failed {
                    return Err(format!("a flush was answered twice, or failed: {flush:?} {result:?}"));
                }
                flush.answered = true;
                let (issued, waited) = (flush.issued, now_us - flush.since_us);
                self.longest_flush_us = self.longest_flush_us.max(waited);
                let state = &mut self.disks[disk as usize];
                state.unanswered -= 1;
                if result.is_ok() {
                    state.oracle.flush_answered(issued);
                }
            }
            Action::RetireFlush { disk, id } => {
                let flush = self.flush(disk, id)?;
                if !flush.answered || flush.open > 0 {
                    return Err(format!("flush retired too early: {flush:?}"));
                }
                self.disks[disk as usize].flushes[id as usize] = None;
            }
            Action::Copy { disk, slot, range, target_fresh } => {
                self.touches_target()?;
                self.copied_since_bound += range.len;
                let grains = grains(range);
                let target = &self.pairs[disk as usize].target.now;
                if target_fresh && target[grains.start as usize..grains.end as usize].iter().any(|value| *value != 0) {
                    return Err("the target is not fresh there".into());
                }
                self.start(disk, Work::Copy { slot, grains, fresh: target_fresh, read: Vec::new(), written: 0 });
            }
            Action::Verify { disk, slot, range, expect: Expect::ReadSource } => {
                self.touches_target()?;
                self.start(disk, Work::Verify { slot, grains: grains(range), done: 0, equal: true });
            }
            Action::FindHoles { disk, from } => {
                let first = from / GRAIN;
                // A part of what is left, or all of it: whole units, so that the next look goes on where this one ended.
                let units = self.random.within(1, 4) * (VERIFY_UNIT_BYTES / GRAIN);
                let grains = first..(first + units).min(self.disks[disk as usize].grains);
                self.start(disk, Work::FindHoles { grains, source: Vec::new(), target: Vec::new() });
            }
            Action::SetReadSide { disk, side } => {
                self.read_side = side;
                if side == Side::Target {
                    if self.superblock.durable != JournalPhase::Committed {
                        return Err("the target is read before COMMITTED is durable".into());
                    }
                    self.check_equal(disk as usize)?;
                }
            }
            Action::Record { phase } => {
                let critical = matches!(phase, JournalPhase::Committed | JournalPhase::Cancelled) || self.in_window();
                let trouble = self.plan.record_trouble_permille / if critical { 1 } else { 20 };
                let result = match self.random.below(1000) {
                    n if n >= trouble => RecordResult::Durable,
                    n if n % 2 == 0 => RecordResult::Unknown,
                    _ => RecordResult::Failed,
                };
                if self.ops.iter().any(|op| matches!(op.work, Work::Record { .. })) {
                    return Err("two records at once".into());
                }
                if self.outcome.is_some()
                    || (self.superblock.visible == JournalPhase::Cancelled && phase != JournalPhase::Cancelled)
                {
                    return Err(format!("{phase:?} is recorded when the move is over"));
                }
                self.start(0, Work::Record { phase, result, steps: 0 });
                if phase == JournalPhase::Committed && self.superblock.visible != JournalPhase::Committed {
                    self.committing_since_us = self.now_us;
                    self.attempts += 1;
                    if let Some(op) = self.ops.last_mut().filter(|_| self.attempts <= HANGING_ATTEMPTS) {
                        op.not_before_us = op.not_before_us.max(self.now_us + self.plan.committed_hangs_us);
                    }
                }
            }
            Action::PhaseChanged { phase, bound_bytes } => {
                self.released |= phase == Phase::Release;
                if phase == Phase::Mirror && bound_bytes.is_some() {
                    (self.bound, self.copied_since_bound) = (bound_bytes, 0);
                }
                if phase == Phase::Copy {
                    self.bound = None;
                }
                self.phases.push(phase);
            }
            Action::TargetFellBehind { .. } => self.bound = None,
            Action::Ending { .. } => self.ending = true,
            Action::StopTooLate => self.stop_answered = true,
            Action::Finished { outcome } => {
                let side = if outcome == Outcome::Committed { Side::Source } else { Side::Target };
                let losing = |op: &Op| match (&op.work, side) {
                    (Work::Write { side: at, .. } | Work::Flush { side: at, .. }, side) => *at == side,
                    (Work::Copy { .. } | Work::Verify { .. } | Work::Record { .. }, _) => true,
                    // It changes nothing, and has descriptors of its own.
                    (Work::FindHoles { .. }, _) => false,
                };
                if self.ops.iter().any(losing) {
                    return Err("finished with I/O in flight to the losing side".into());
                }
                self.outcome = Some(outcome);
                self.progress = Some(self.machine.progress());
            }
        }
        if self.plan.is_without_errors() && self.bound.is_some_and(|bound| self.copied_since_bound > bound) {
            return Err(format!("the bound of {:?} bytes was broken: {}", self.bound, self.copied_since_bound));
        }
        Ok(())
    }

    pub fn open_flush(&mut self, disk: DiskIndex, flush: Flush, side: Side) -> Check {
        if let Flush::Guest(id) = flush {
            self.flush(disk, id)?.open += 1;
        }
        let mark = self.pairs[disk as usize].side(side).flush_mark();
        self.start(disk, Work::Flush { side, flush, mark });
        Ok(())
    }

    pub fn answer_write(&mut self, disk: DiskIndex, id: WriteId, result: Result<(), i32>) -> Check {
        let (now_us, released) = (self.now_us, self.released);
        let write = self.write(disk, id)?;
        if write.answered {
            return Err("answered twice".into());
        }
        if result.is_err() != (write.source_failed && !released || write.target_failed) {
            return Err(format!("answered {result:?}, but {write:?}"));
        }
        write.answered = true;
        let GuestWrite { grains, issued, since_us, .. } = write.clone();
        self.longest_wait_us = self.longest_wait_us.max(now_us - since_us);
        let state = &mut self.disks[disk as usize];
        state.unanswered -= 1;
        state.oracle.write_answered(grains, issued, result.is_ok());
        Ok(())
    }

    /// When reads flip both sides agree wherever no write is under way.
    pub fn check_equal(&mut self, disk: usize) -> Check {
        for grain in 0..self.disks[disk].grains {
            let (source, target) =
                (self.pairs[disk].source.now[grain as usize], self.pairs[disk].target.now[grain as usize]);
            if source != target && self.disks[disk].oracle.is_quiet(grain) {
                return Err(format!("disk {disk} grain {grain} flipped with source {source}, target {target}"));
            }
        }
        Ok(())
    }
}

pub fn setups(disks: &[Disk]) -> Vec<DiskSetup> {
    let setup = |disk: &Disk| DiskSetup {
        size_bytes: disk.grains * GRAIN,
        dirty: disk.setup.0.clone(),
        intent: disk.setup.1.clone(),
    };
    disks.iter().map(setup).collect()
}

pub fn bytes(grains: &Range<u64>) -> ByteRange {
    ByteRange::new(grains.start * GRAIN, (grains.end - grains.start) * GRAIN)
}

pub fn grains(range: ByteRange) -> Range<u64> {
    range.start / GRAIN..range.end() / GRAIN
}
