//! I/O under way: each operation is a row of small steps, and the order of steps of different operations is random.

use std::ops::Range;

use vmstorage_engine::mirror::*;

use vmstorage_engine::disk::ByteRange;

use crate::disks::{GRAIN, SimDisk};
use crate::random::Random;

/// What a rotten copy leaves behind.
pub const RUBBISH: u32 = u32::MAX;

pub struct Pair {
    pub source: SimDisk,
    pub target: SimDisk,
}

impl Pair {
    pub fn side(&mut self, side: Side) -> &mut SimDisk {
        match side {
            Side::Source => &mut self.source,
            Side::Target => &mut self.target,
        }
    }
}

/// The journal's superblock: what the next process finds, and what a power cut leaves.
#[derive(Clone, Copy)]
pub struct Superblock {
    pub visible: JournalPhase,
    pub durable: JournalPhase,
}

pub enum Work {
    Write {
        side: Side,
        id: WriteId,
        grains: Range<u64>,
        value: u32,
        done: u64,
    },
    Copy {
        slot: SlotId,
        grains: Range<u64>,
        fresh: bool,
        read: Vec<u32>,
        written: usize,
    },
    Verify {
        slot: SlotId,
        grains: Range<u64>,
        done: u64,
        equal: bool,
    },
    /// Which grains are zeros: the source's first, then the target's, a few at a time.
    FindHoles {
        grains: Range<u64>,
        source: Vec<bool>,
        target: Vec<bool>,
    },
    Flush {
        side: Side,
        flush: Flush,
        mark: u64,
    },
    Record {
        phase: JournalPhase,
        result: RecordResult,
        steps: u32,
    },
}

pub struct Op {
    pub disk: DiskIndex,
    pub work: Work,
    pub error: Option<i32>,
    /// Steps left until the error strikes.
    pub error_after: u64,
    pub rotten: bool,
    pub not_before_us: u64,
}

impl Op {
    pub fn uses_target(&self) -> bool {
        match &self.work {
            Work::Write { side, .. } | Work::Flush { side, .. } => *side == Side::Target,
            Work::Copy { .. } | Work::Verify { .. } | Work::FindHoles { .. } => true,
            Work::Record { .. } => false,
        }
    }

    /// One step; the event when it was the last.
    pub fn step(&mut self, pairs: &mut [Pair], superblock: &mut Superblock, random: &mut Random) -> Option<Event> {
        let disk = self.disk;
        if let Some(errno) = self.error {
            if self.error_after == 0 {
                return Some(self.failed(errno));
            }
            self.error_after -= 1;
        }
        match &mut self.work {
            Work::Write { side, id, grains, value, done } => {
                let len = grains.end - grains.start;
                let until = (*done + len.div_ceil(3)).min(len);
                for grain in grains.start + *done..grains.start + until {
                    pairs[disk as usize].side(*side).write(grain, *value);
                }
                *done = until;
                let finished = *done == len && (self.error.is_none());
                let (id, result) = (*id, Ok(()));
                finished.then_some(match side {
                    Side::Source => Event::SourceWriteDone { disk, id, result },
                    Side::Target => Event::TargetWriteDone { disk, id, result },
                })
            }
            Work::Copy { slot, grains, fresh, read, written } => {
                let len = (grains.end - grains.start) as usize;
                let pair = &mut pairs[disk as usize];
                if read.len() < len {
                    let from = grains.start as usize + read.len();
                    let count = random.within(8, 40).min((len - read.len()) as u64) as usize;
                    read.extend_from_slice(&pair.source.now[from..from + count]);
                    return None;
                }
                let was_zero = read.iter().all(|value| *value == 0);
                if !(was_zero && *fresh) && *written < len {
                    let count = (random.within(8, 40) as usize).min(len - *written);
                    for (at, value) in read.iter().enumerate().skip(*written).take(count) {
                        pair.target.write(grains.start + at as u64, *value);
                    }
                    *written += count;
                    return None;
                }
                if self.error.is_some() {
                    return None;
                }
                if self.rotten {
                    pair.target.write(grains.start + random.below(len as u64), RUBBISH);
                }
                Some(Event::CopyDone { disk, slot: *slot, outcome: CopyOutcome::Copied { was_zero } })
            }
            Work::Verify { slot, grains, done, equal } => {
                let until = (*done + random.within(20, 120)).min(grains.end - grains.start);
                let span = (grains.start + *done) as usize..(grains.start + until) as usize;
                let pair = &pairs[disk as usize];
                *equal &= pair.source.now[span.clone()] == pair.target.now[span];
                *done = until;
                let outcome = if *equal { VerifyOutcome::Equal } else { VerifyOutcome::Different };
                let finished = grains.start + *done == grains.end && self.error.is_none();
                finished.then_some(Event::VerifyDone { disk, slot: *slot, outcome })
            }
            Work::FindHoles { grains, source, target } => {
                let pair = &pairs[disk as usize];
                let len = (grains.end - grains.start) as usize;
                let (side, seen) =
                    if source.len() < len { (&pair.source.now, source) } else { (&pair.target.now, &mut *target) };
                let count = (random.within(20, 200) as usize).min(len - seen.len());
                let from = grains.start as usize + seen.len();
                seen.extend(side[from..from + count].iter().map(|value| *value == 0));
                let finished = target.len() == len && self.error.is_none();
                finished.then_some(Event::HolesKnown { disk, until: grains.end * GRAIN })
            }
            Work::Flush { side, flush, mark } => {
                if self.error.is_some() {
                    return None;
                }
                let (flush, side, mark) = (*flush, *side, *mark);
                pairs[disk as usize].side(side).flush_done(mark);
                Some(match side {
                    Side::Source => Event::SourceFlushDone { disk, flush, result: Ok(()) },
                    Side::Target => Event::TargetFlushDone { disk, flush, result: Ok(()) },
                })
            }
            Work::Record { phase, result, steps } => {
                *steps += 1;
                let lands = match result {
                    RecordResult::Durable => true,
                    RecordResult::Failed => false,
                    RecordResult::Unknown => random.permille(300),
                };
                match *steps {
                    1 if lands => superblock.visible = *phase,
                    2 if lands => (superblock.visible, superblock.durable) = (*phase, *phase),
                    1 | 2 => {}
                    _ => return Some(Event::RecordDone { phase: *phase, result: *result }),
                }
                None
            }
        }
    }

    fn failed(&self, errno: i32) -> Event {
        let disk = self.disk;
        match &self.work {
            Work::Write { side: Side::Source, id, .. } => Event::SourceWriteDone { disk, id: *id, result: Err(errno) },
            Work::Write { side: Side::Target, id, .. } => Event::TargetWriteDone { disk, id: *id, result: Err(errno) },
            Work::Copy { slot, .. } => Event::CopyDone { disk, slot: *slot, outcome: CopyOutcome::TargetError(errno) },
            Work::Verify { slot, .. } => {
                Event::VerifyDone { disk, slot: *slot, outcome: VerifyOutcome::TargetError(errno) }
            }
            // What cannot be looked at has no holes.
            Work::FindHoles { grains, .. } => Event::HolesKnown { disk, until: grains.end * GRAIN },
            Work::Flush { side: Side::Source, flush, .. } => {
                Event::SourceFlushDone { disk, flush: *flush, result: Err(errno) }
            }
            Work::Flush { side: Side::Target, flush, .. } => {
                Event::TargetFlushDone { disk, flush: *flush, result: Err(errno) }
            }
            Work::Record { phase, .. } => Event::RecordDone { phase: *phase, result: RecordResult::Failed },
        }
    }

    /// Runs of zeros on both sides that a look has seen.
    pub fn holes(&self) -> Vec<ByteRange> {
        let Work::FindHoles { grains, source, target } = &self.work else { return Vec::new() };
        let mut holes: Vec<ByteRange> = Vec::new();
        for (grain, (source, target)) in (grains.start..).zip(source.iter().zip(target)) {
            let start = grain * GRAIN;
            match holes.last_mut().filter(|last| last.end() == start) {
                _ if !(*source && *target) => {}
                Some(last) => last.len += GRAIN,
                None => holes.push(ByteRange::new(start, GRAIN)),
            }
        }
        holes
    }

    /// The process was killed: what the kernel has been given may still land, in part. Nobody hears of it.
    pub fn orphaned(mut self, pairs: &mut [Pair], superblock: &mut Superblock, random: &mut Random) {
        let submitted = match &self.work {
            Work::Write { .. } | Work::Record { .. } => true,
            // Its writes are submitted when all has been read, not before.
            Work::Copy { grains, read, .. } => read.len() as u64 == grains.end - grains.start,
            Work::Verify { .. } | Work::FindHoles { .. } | Work::Flush { .. } => false,
        };
        self.rotten = false;
        if submitted {
            for _ in 0..random.below(6) {
                if self.step(pairs, superblock, random).is_some() {
                    break;
                }
            }
        }
    }
}
