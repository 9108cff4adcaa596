//! A machine and what the tests do to it: a guest that writes, sides that answer, time that passes.

use crate::disk::ByteRange;
use crate::mirror::*;

pub(super) const CHUNK: u64 = CHUNK_BYTES;
pub(super) const MS: u64 = 1000;

/// A machine and the actions it gave since they were last looked at.
pub(super) struct Bench {
    pub(super) machine: Move,
    pub(super) revocation: Revocation,
    pub(super) words: Vec<(SharedWords, SharedWords)>,
    pub(super) now_us: u64,
    pub(super) out: Vec<Action>,
}

pub(super) fn chunks(first: u64, count: u64) -> ByteRange {
    ByteRange::new(first * CHUNK, count * CHUNK)
}

pub(super) fn setups(sizes: &[u64], words: &[(SharedWords, SharedWords)]) -> Vec<DiskSetup> {
    let setup = |(size, words): (&u64, &(SharedWords, SharedWords))| DiskSetup {
        size_bytes: *size,
        dirty: words.0.clone(),
        intent: words.1.clone(),
    };
    sizes.iter().zip(words).map(setup).collect()
}

impl Bench {
    /// Disks of so many chunks, holding nothing.
    pub(super) fn new(disk_chunks: &[u64]) -> Self {
        let sizes: Vec<u64> = disk_chunks.iter().map(|count| count * CHUNK).collect();
        let words: Vec<_> =
            disk_chunks.iter().map(|n| (SharedWords::in_memory(*n), SharedWords::in_memory(*n))).collect();
        let revocation = Revocation::in_memory();
        let machine = Move::new(MoveLimits::default(), revocation.clone(), setups(&sizes, &words)).expect("a machine");
        Self { machine, revocation, words, now_us: 1_000_000, out: Vec::new() }
    }

    pub(super) fn on(&mut self, event: Event) -> &[Action] {
        self.out.clear();
        self.machine.on(event, self.now_us, &mut self.out);
        &self.out
    }

    pub(super) fn later(&mut self, us: u64) -> Vec<Action> {
        self.now_us += us;
        self.on(Event::Tick).to_vec()
    }

    pub(super) fn write(&mut self, disk: u32, id: u32, range: ByteRange) -> Vec<Action> {
        self.on(Event::GuestWrite { disk, id, range, kind: WriteKind::Data }).to_vec()
    }

    pub(super) fn source(&mut self, id: u32) -> Vec<Action> {
        self.on(Event::SourceWriteDone { disk: 0, id, result: Ok(()) }).to_vec()
    }

    pub(super) fn target(&mut self, id: u32) -> Vec<Action> {
        self.on(Event::TargetWriteDone { disk: 0, id, result: Ok(()) }).to_vec()
    }

    pub(super) fn copied(&mut self, slot: u32) -> Vec<Action> {
        self.on(Event::CopyDone { disk: 0, slot, outcome: CopyOutcome::Copied { was_zero: false } }).to_vec()
    }

    pub(super) fn recorded(&mut self, phase: JournalPhase) -> Vec<Action> {
        self.on(Event::RecordDone { phase, result: RecordResult::Durable }).to_vec()
    }

    /// A driver without delays: answers everything in `actions`, and what follows, until nothing is asked or `stop`
    /// says so.
    pub(super) fn obey(&mut self, actions: Vec<Action>, stop: impl Fn(&Action) -> bool) -> Vec<Action> {
        let mut queue = std::collections::VecDeque::from(actions);
        let mut seen = Vec::new();
        self.out.clear();
        while let Some(action) = queue.pop_front() {
            seen.push(action);
            if stop(&action) {
                break;
            }
            let (ok, mut events) = (Ok(()), Vec::new());
            match action {
                Action::Copy { disk, slot, .. } => {
                    events.push(Event::CopyDone { disk, slot, outcome: CopyOutcome::Copied { was_zero: false } });
                }
                Action::Verify { disk, slot, .. } => {
                    events.push(Event::VerifyDone { disk, slot, outcome: VerifyOutcome::Equal });
                }
                Action::FindHoles { disk, .. } => events.push(Event::HolesKnown { disk, until: u64::MAX }),
                Action::FlushSource { disk, flush } => events.push(Event::SourceFlushDone { disk, flush, result: ok }),
                Action::FlushTarget { disk, flush } => events.push(Event::TargetFlushDone { disk, flush, result: ok }),
                Action::Record { phase } => events.push(Event::RecordDone { phase, result: RecordResult::Durable }),
                _ => {}
            }
            for event in events {
                self.machine.on(event, self.now_us, &mut self.out);
                queue.extend(self.out.drain(..));
            }
        }
        seen
    }

    pub(super) fn allocate(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        for disk in 0..self.words.len() as u32 {
            actions.extend_from_slice(self.on(Event::AllocationKnown { disk }));
        }
        actions
    }

    /// Empty disks without known holes, straight to mirroring; verification is not answered, so that the move stays there.
    pub(super) fn mirroring(disk_chunks: &[u64]) -> Self {
        let mut bench = Self::new(disk_chunks);
        let actions = bench.allocate();
        bench.obey(actions.into_iter().filter(|a| matches!(a, Action::Record { .. })).collect(), |_| false);
        assert_eq!(bench.machine.progress().phase, Phase::Verify);
        for disk in 0..disk_chunks.len() as u32 {
            bench.on(Event::HolesKnown { disk, until: u64::MAX });
        }
        bench
    }

    /// COMMITTED is being written.
    pub(super) fn committing(disk_chunks: &[u64]) -> Self {
        let mut bench = Self::new(disk_chunks);
        let actions = bench.allocate();
        let is_commit = |a: &Action| *a == Action::Record { phase: JournalPhase::Committed };
        let seen = bench.obey(actions, is_commit);
        assert!(seen.last().is_some_and(is_commit), "{seen:?}");
        bench.out.clear();
        bench
    }

    pub(super) fn dirty(&self, disk: usize, chunk: u64) -> bool {
        SavedMap::new(self.words[disk].0.clone(), chunk + 1).expect("room").get(chunk)
    }

    pub(super) fn intent(&self, disk: usize, chunk: u64) -> bool {
        SavedMap::new(self.words[disk].1.clone(), chunk + 1).expect("room").get(chunk)
    }
}

pub(super) fn is_copy(action: &Action) -> bool {
    matches!(action, Action::Copy { .. })
}

pub(super) const ACK: Action = Action::Acknowledge { disk: 0, id: 0, result: Ok(()) };
