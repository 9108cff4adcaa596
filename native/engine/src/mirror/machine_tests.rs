//! The rules of a move, one claim per test. Whole moves under random faults are in `tests/mirror_simulation`.

use super::*;
use crate::disk::ByteRange;
use crate::mirror::{SavedMap, SharedWords};

const CHUNK: u64 = CHUNK_BYTES;
const MS: u64 = 1000;

/// A machine and the actions it gave since they were last looked at.
struct Bench {
    machine: Move,
    words: Vec<(SharedWords, SharedWords)>,
    now_us: u64,
    out: Vec<Action>,
}

fn chunks(first: u64, count: u64) -> ByteRange {
    ByteRange::new(first * CHUNK, count * CHUNK)
}

fn setups(sizes: &[u64], words: &[(SharedWords, SharedWords)]) -> Vec<DiskSetup> {
    let setup = |(size, words): (&u64, &(SharedWords, SharedWords))| DiskSetup {
        size_bytes: *size,
        dirty: words.0.clone(),
        intent: words.1.clone(),
    };
    sizes.iter().zip(words).map(setup).collect()
}

impl Bench {
    /// Disks of so many chunks, holding nothing.
    fn new(disk_chunks: &[u64]) -> Self {
        let sizes: Vec<u64> = disk_chunks.iter().map(|count| count * CHUNK).collect();
        let words: Vec<_> =
            disk_chunks.iter().map(|n| (SharedWords::in_memory(*n), SharedWords::in_memory(*n))).collect();
        let machine = Move::new(MoveLimits::default(), setups(&sizes, &words)).expect("a machine");
        Self { machine, words, now_us: 1_000_000, out: Vec::new() }
    }

    fn on(&mut self, event: Event) -> &[Action] {
        self.out.clear();
        self.machine.on(event, self.now_us, &mut self.out);
        &self.out
    }

    fn later(&mut self, us: u64) -> Vec<Action> {
        self.now_us += us;
        self.on(Event::Tick).to_vec()
    }

    fn write(&mut self, disk: u32, id: u32, range: ByteRange) -> Vec<Action> {
        self.on(Event::GuestWrite { disk, id, range, kind: WriteKind::Data }).to_vec()
    }

    fn source(&mut self, id: u32) -> Vec<Action> {
        self.on(Event::SourceWriteDone { disk: 0, id, result: Ok(()) }).to_vec()
    }

    fn target(&mut self, id: u32) -> Vec<Action> {
        self.on(Event::TargetWriteDone { disk: 0, id, result: Ok(()) }).to_vec()
    }

    fn copied(&mut self, slot: u32) -> Vec<Action> {
        self.on(Event::CopyDone { disk: 0, slot, outcome: CopyOutcome::Copied { was_zero: false } }).to_vec()
    }

    fn recorded(&mut self, phase: JournalPhase) -> Vec<Action> {
        self.on(Event::RecordDone { phase, result: RecordResult::Durable }).to_vec()
    }

    /// A driver without delays: answers everything in `actions`, and what follows, until nothing is asked or `stop`
    /// says so.
    fn obey(&mut self, actions: Vec<Action>, stop: impl Fn(&Action) -> bool) -> Vec<Action> {
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

    fn allocate(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        for disk in 0..self.words.len() as u32 {
            actions.extend_from_slice(self.on(Event::AllocationKnown { disk }));
        }
        actions
    }

    /// Empty disks, straight to mirroring; verification is not answered, so that the move stays there.
    fn mirroring(disk_chunks: &[u64]) -> Self {
        let mut bench = Self::new(disk_chunks);
        let actions = bench.allocate();
        bench.obey(actions.into_iter().filter(|a| matches!(a, Action::Record { .. })).collect(), |_| false);
        assert_eq!(bench.machine.progress().phase, Phase::Verify);
        bench
    }

    /// Reads are flipped and COMMITTED is being written.
    fn committing(disk_chunks: &[u64]) -> Self {
        let mut bench = Self::new(disk_chunks);
        let actions = bench.allocate();
        let is_commit = |a: &Action| *a == Action::Record { phase: JournalPhase::Committed };
        let seen = bench.obey(actions, is_commit);
        assert!(seen.last().is_some_and(is_commit), "{seen:?}");
        bench.out.clear();
        bench
    }

    fn dirty(&self, disk: usize, chunk: u64) -> bool {
        SavedMap::new(self.words[disk].0.clone(), chunk + 1).expect("room").get(chunk)
    }

    fn intent(&self, disk: usize, chunk: u64) -> bool {
        SavedMap::new(self.words[disk].1.clone(), chunk + 1).expect("room").get(chunk)
    }
}

fn is_copy(action: &Action) -> bool {
    matches!(action, Action::Copy { .. })
}

const ACK: Action = Action::Acknowledge { disk: 0, id: 0, result: Ok(()) };

#[test]
fn in_copy_a_guest_write_goes_to_the_source_alone_and_is_dirty_before_it_is_submitted() {
    let mut bench = Bench::new(&[64]);
    let actions = bench.write(0, 0, ByteRange::new(CHUNK - 512, 1024));
    assert!(actions.contains(&Action::WriteSource { disk: 0, id: 0 }));
    assert!(bench.dirty(0, 0) && bench.dirty(0, 1) && !bench.dirty(0, 2), "both chunks it touches");
    assert_eq!(bench.source(0)[..2], [ACK, Action::Retire { disk: 0, id: 0 }], "answered with the source");
}

#[test]
fn a_chunk_with_a_source_only_write_in_flight_is_not_copied() {
    let mut bench = Bench::new(&[64]);
    let actions = bench.write(0, 0, chunks(3, 1));
    assert!(!actions.iter().any(is_copy));
    let actions = bench.source(0);
    assert!(actions.iter().any(|a| matches!(a, Action::Copy { range, .. } if *range == chunks(3, 1))), "{actions:?}");
}

#[test]
fn a_run_ends_before_a_chunk_that_is_being_written_and_is_not_longer_than_the_copy_unit() {
    let mut bench = Bench::new(&[64]);
    bench.write(0, 0, chunks(5, 1));
    let actions = bench.on(Event::MarkAllocated { disk: 0, range: chunks(0, 40) }).to_vec();
    let ranges: Vec<ByteRange> =
        actions.iter().filter_map(|a| if let Action::Copy { range, .. } = a { Some(*range) } else { None }).collect();
    assert_eq!(ranges, [chunks(0, 5), chunks(6, 10), chunks(16, 16), chunks(32, 8)]);
}

#[test]
fn holes_are_never_copied() {
    let mut bench = Bench::new(&[64]);
    bench.on(Event::MarkAllocated { disk: 0, range: chunks(10, 1) });
    let actions = bench.allocate();
    bench.obey(actions, |_| false);
    bench.copied(0);
    assert_eq!(bench.machine.progress().copied_bytes, CHUNK);
}

#[test]
fn a_write_that_meets_a_copy_leaves_its_chunk_dirty_and_only_that() {
    let mut bench = Bench::new(&[64]);
    let actions = bench.on(Event::MarkAllocated { disk: 0, range: chunks(0, 4) }).to_vec();
    assert!(actions.iter().any(is_copy));
    bench.write(0, 0, chunks(2, 1));
    bench.source(0);
    let again = bench.copied(0);
    assert!(again.iter().any(|a| matches!(a, Action::Copy { range, .. } if *range == chunks(2, 1))), "{again:?}");
    let progress = bench.machine.progress();
    assert_eq!((progress.copied_bytes, progress.recopied_bytes, progress.dirty_bytes), (4 * CHUNK, 0, CHUNK));
}

#[test]
fn a_persisted_dirty_bit_goes_only_behind_a_target_flush_and_not_if_written_meanwhile() {
    let mut bench = Bench::new(&[64]);
    bench.on(Event::MarkAllocated { disk: 0, range: chunks(0, 2) });
    bench.copied(0);
    assert!(bench.dirty(0, 0) && bench.dirty(0, 1), "copied, not flushed");
    let actions = bench.later(2_000_000);
    let flush = Flush::Own(0);
    assert!(actions.contains(&Action::FlushTarget { disk: 0, flush }), "{actions:?}");
    bench.write(0, 0, chunks(1, 1));
    bench.on(Event::TargetFlushDone { disk: 0, flush, result: Ok(()) });
    assert!(!bench.dirty(0, 0) && bench.dirty(0, 1));
}

#[test]
fn in_mirror_a_write_to_a_clean_chunk_goes_to_both_sides_with_its_intent_first_and_waits_for_both() {
    let mut bench = Bench::mirroring(&[64]);
    let actions = bench.write(0, 0, chunks(7, 1));
    assert!(actions.contains(&Action::WriteBoth { disk: 0, id: 0 }));
    assert!(bench.intent(0, 7) && !bench.dirty(0, 7));
    assert!(!bench.source(0).contains(&ACK));
    assert!(bench.target(0).contains(&ACK));
    assert!(bench.intent(0, 7), "the intent goes behind a flush, not with the write");
}

#[test]
fn in_mirror_a_write_to_a_dirty_chunk_goes_to_the_source_but_one_that_touches_a_clean_chunk_too_goes_to_both() {
    let mut bench = Bench::new(&[64]);
    bench.write(0, 9, chunks(3, 1));
    bench.allocate();
    assert_eq!(bench.machine.progress().phase, Phase::Mirror, "chunk 3 is in use, the rest is equal");
    assert!(bench.write(0, 0, ByteRange::new(3 * CHUNK, 512)).is_empty(), "behind the write it overlaps");
    let actions = bench.write(0, 1, ByteRange::new(4 * CHUNK - 512, 512));
    assert!(actions.is_empty());
    let actions = bench.source(9);
    assert!(
        actions.contains(&Action::WriteSource { disk: 0, id: 0 })
            && actions.contains(&Action::WriteSource { disk: 0, id: 1 })
    );
    let actions = bench.write(0, 2, chunks(4, 1));
    assert!(actions.contains(&Action::WriteBoth { disk: 0, id: 2 }));
    bench.write(0, 3, ByteRange::new(2 * CHUNK, CHUNK + 512));
    assert!(!bench.dirty(0, 2), "the dirty set never grows");
}

#[test]
fn in_mirror_overlapping_writes_are_serialised_in_order_of_arrival() {
    let mut bench = Bench::mirroring(&[64]);
    bench.write(0, 0, ByteRange::new(0, 4096));
    assert!(bench.write(0, 1, ByteRange::new(2048, 4096)).is_empty());
    assert!(bench.write(0, 2, ByteRange::new(4096, 4096)).is_empty(), "also behind one that waits");
    assert!(bench.write(0, 3, ByteRange::new(8192, 512)).contains(&Action::WriteBoth { disk: 0, id: 3 }));
    bench.source(0);
    let actions = bench.target(0);
    assert!(actions.contains(&Action::WriteBoth { disk: 0, id: 1 }));
    assert!(!actions.contains(&Action::WriteBoth { disk: 0, id: 2 }));
}

#[test]
fn a_target_error_marks_dirty_and_never_reaches_the_guest() {
    let mut bench = Bench::mirroring(&[64]);
    bench.write(0, 0, chunks(7, 1));
    bench.on(Event::TargetWriteDone { disk: 0, id: 0, result: Err(libc::EAGAIN) });
    assert!(bench.dirty(0, 7));
    let actions = bench.source(0);
    assert!(actions.contains(&ACK), "{actions:?}");
    assert!(bench.later(20 * MS).iter().any(is_copy), "and is copied again");
}

#[test]
fn a_full_or_broken_target_ends_the_move_at_once_and_others_after_bounded_retries() {
    for errno in [libc::ENOSPC, libc::EIO, libc::EROFS, libc::ENODEV] {
        let mut bench = Bench::mirroring(&[64]);
        bench.write(0, 0, chunks(7, 1));
        let actions = bench.on(Event::TargetWriteDone { disk: 0, id: 0, result: Err(errno) }).to_vec();
        assert!(actions.contains(&Action::Ending { reason: EndReason::TargetFailed(errno) }));
        assert!(bench.source(0).contains(&ACK), "the guest is fine");
    }
    let mut bench = Bench::mirroring(&[64]);
    let mut tries = 0;
    while bench.machine.progress().phase != Phase::Ending {
        tries += 1;
        assert!(tries <= MoveLimits::default().target_retries_max + 1);
        bench.write(0, 0, chunks(u64::from(tries), 1));
        bench.on(Event::TargetWriteDone { disk: 0, id: 0, result: Err(libc::EAGAIN) });
        bench.source(0);
    }
    assert_eq!(tries, MoveLimits::default().target_retries_max + 1);
}

#[test]
fn a_source_error_is_the_guests_and_marks_dirty() {
    let mut bench = Bench::mirroring(&[64]);
    bench.write(0, 0, chunks(7, 1));
    bench.target(0);
    let actions = bench.on(Event::SourceWriteDone { disk: 0, id: 0, result: Err(libc::EIO) }).to_vec();
    assert!(actions.contains(&Action::Acknowledge { disk: 0, id: 0, result: Err(libc::EIO) }));
    assert!(bench.dirty(0, 7));
}

#[test]
fn a_target_half_older_than_250_ms_is_given_up_and_mirroring_waits_for_the_target() {
    let mut bench = Bench::mirroring(&[64]);
    bench.write(0, 0, chunks(7, 1));
    bench.source(0);
    assert!(!bench.later(250 * MS).contains(&ACK), "not a moment too early");
    let actions = bench.later(MS);
    assert!(actions.contains(&Action::TargetFellBehind { disk: 0, id: 0 }) && actions.contains(&ACK));
    assert!(!actions.contains(&Action::Retire { disk: 0, id: 0 }), "its buffer is still in use");
    assert!(bench.dirty(0, 7));
    assert_eq!(bench.machine.progress().phase, Phase::Copy);
    assert!(bench.write(0, 1, chunks(9, 1)).contains(&Action::WriteSource { disk: 0, id: 1 }));
    for _ in 0..40 {
        assert!(!bench.later(100 * MS).iter().any(is_copy), "an abandoned write is in flight: nothing is copied");
    }
    assert_eq!(bench.machine.progress().phase, Phase::Copy);
    bench.source(1);
    let actions = bench.target(0);
    assert!(actions.contains(&Action::Retire { disk: 0, id: 0 }));
    assert!(actions.iter().any(|a| matches!(a, Action::PhaseChanged { phase: Phase::Mirror, bound_bytes: Some(_) })));
}

#[test]
fn a_target_silent_for_30_s_fails_the_move_with_the_guest_unharmed() {
    let mut bench = Bench::mirroring(&[64]);
    bench.write(0, 0, chunks(7, 1));
    assert!(bench.source(0).is_empty());
    let mut ended_after = None;
    for second in 1..=31 {
        if bench.later(1_000_000).iter().any(|a| matches!(a, Action::Ending { reason: EndReason::TargetSilent { .. } }))
        {
            ended_after = Some(second);
            break;
        }
    }
    assert_eq!(ended_after, Some(30));
}

#[test]
fn a_target_that_falls_behind_without_end_fails_the_move() {
    let mut bench = Bench::mirroring(&[64]);
    let mut rounds = 0;
    loop {
        assert!(bench.write(0, 0, chunks(rounds, 1)).contains(&Action::WriteBoth { disk: 0, id: 0 }));
        rounds += 1;
        bench.source(0);
        let actions = bench.later(251 * MS);
        if actions.iter().any(|a| matches!(a, Action::Ending { reason: EndReason::TargetTooSlow { .. } })) {
            break;
        }
        bench.target(0);
        while bench.machine.progress().phase == Phase::Copy {
            bench.later(25 * MS);
        }
    }
    assert_eq!(rounds, u64::from(MoveLimits::default().fallbacks_max) + 1);
}

#[test]
fn guest_flushes_go_to_the_source_until_the_switch_begins_and_then_to_both() {
    let mut bench = Bench::mirroring(&[16]);
    let flush = Flush::Guest(0);
    assert_eq!(bench.on(Event::GuestFlush { disk: 0, id: 0 })[..1], [Action::FlushSource { disk: 0, flush }]);
    bench.on(Event::SourceFlushDone { disk: 0, flush, result: Ok(()) });
    let actions = bench.on(Event::VerifyDone { disk: 0, slot: 0, outcome: VerifyOutcome::Equal }).to_vec();
    assert!(actions.contains(&Action::PhaseChanged { phase: Phase::Switch, bound_bytes: None }), "{actions:?}");
    let actions = bench.on(Event::GuestFlush { disk: 0, id: 0 }).to_vec();
    assert_eq!(actions, [Action::FlushSource { disk: 0, flush }, Action::FlushTarget { disk: 0, flush }]);
    assert!(bench.on(Event::SourceFlushDone { disk: 0, flush, result: Ok(()) }).is_empty(), "waits for both");
    let actions = bench.on(Event::TargetFlushDone { disk: 0, flush, result: Ok(()) }).to_vec();
    assert!(actions.contains(&Action::AcknowledgeFlush { disk: 0, id: 0, result: Ok(()) }));
}

#[test]
fn a_failed_target_flush_fails_the_move_and_not_the_guests_flush() {
    let mut bench = Bench::mirroring(&[16]);
    bench.on(Event::VerifyDone { disk: 0, slot: 0, outcome: VerifyOutcome::Equal });
    bench.on(Event::GuestFlush { disk: 0, id: 0 });
    let flush = Flush::Guest(0);
    let actions = bench.on(Event::TargetFlushDone { disk: 0, flush, result: Err(libc::EIO) }).to_vec();
    assert!(actions.contains(&Action::Ending { reason: EndReason::TargetFlushFailed(libc::EIO) }));
    let actions = bench.on(Event::SourceFlushDone { disk: 0, flush, result: Ok(()) }).to_vec();
    assert!(actions.contains(&Action::AcknowledgeFlush { disk: 0, id: 0, result: Ok(()) }));
}

#[test]
fn the_switch_flushes_both_records_prepared_flips_all_disks_in_one_call_and_then_records_committed() {
    let mut bench = Bench::new(&[16, 5, 40]);
    let actions = bench.allocate();
    let seen = bench.obey(actions, |_| false);
    let at =
        |wanted: Action| seen.iter().position(|a| *a == wanted).unwrap_or_else(|| panic!("no {wanted:?} in {seen:?}"));
    let prepared = at(Action::Record { phase: JournalPhase::Prepared });
    let flip = at(Action::SetReadSide { disk: 0, side: Side::Target });
    assert!(seen[..prepared].iter().filter(|a| matches!(a, Action::FlushTarget { .. })).count() >= 3);
    assert_eq!(
        seen[flip..flip + 4],
        [
            Action::SetReadSide { disk: 0, side: Side::Target },
            Action::SetReadSide { disk: 1, side: Side::Target },
            Action::SetReadSide { disk: 2, side: Side::Target },
            Action::Record { phase: JournalPhase::Committed },
        ]
    );
    assert!(prepared < flip);
    assert_eq!(seen.last(), Some(&Action::Finished { outcome: Outcome::Committed }));
    assert!(bench.machine.is_idle());
    assert_eq!(bench.machine.progress().held_max_us, Some(0));
}

#[test]
fn one_disk_that_is_not_equal_keeps_all_from_switching() {
    let mut bench = Bench::new(&[16, 16]);
    bench.write(1, 0, chunks(3, 1));
    let actions = bench.allocate();
    let seen = bench.obey(actions, |_| false);
    assert!(
        !seen
            .iter()
            .any(|a| matches!(a, Action::SetReadSide { .. } | Action::Record { phase: JournalPhase::Prepared }))
    );
    let actions = bench.on(Event::SourceWriteDone { disk: 1, id: 0, result: Ok(()) }).to_vec();
    let seen = bench.obey(actions, |_| false);
    assert_eq!(seen.last(), Some(&Action::Finished { outcome: Outcome::Committed }));
}

#[test]
fn until_committed_is_durable_writes_go_to_both_and_a_source_error_is_held_and_then_success() {
    let mut bench = Bench::committing(&[16]);
    assert!(bench.write(0, 0, chunks(1, 1)).contains(&Action::WriteBoth { disk: 0, id: 0 }));
    bench.target(0);
    let actions = bench.on(Event::SourceWriteDone { disk: 0, id: 0, result: Err(libc::EIO) }).to_vec();
    assert!(actions.is_empty(), "nobody knows yet which side counts: {actions:?}");
    bench.now_us += 700;
    let actions = bench.recorded(JournalPhase::Committed);
    assert!(actions.contains(&ACK), "the target has it: {actions:?}");
    assert_eq!(bench.machine.progress().held_max_us, Some(700));
    assert!(
        bench.write(0, 0, chunks(1, 1)).contains(&Action::WriteTarget { disk: 0, id: 0 }),
        "the source gets no more"
    );
}

#[test]
fn a_target_error_in_the_window_flips_all_disks_back_in_the_same_call_and_is_held_until_the_journal_says_so() {
    let mut bench = Bench::committing(&[16, 16]);
    bench.write(0, 0, chunks(1, 1));
    bench.source(0);
    let actions = bench.on(Event::TargetWriteDone { disk: 0, id: 0, result: Err(libc::EAGAIN) }).to_vec();
    let back = |disk| Action::SetReadSide { disk, side: Side::Source };
    assert!(actions.contains(&back(0)) && actions.contains(&back(1)) && !actions.contains(&ACK), "{actions:?}");
    assert_eq!(bench.machine.read_side(), Side::Source);
    let actions = bench.recorded(JournalPhase::Committed);
    assert_eq!(
        actions,
        [Action::Record { phase: JournalPhase::Mirror }],
        "COMMITTED may be found: it has to be replaced first"
    );
    assert!(bench.recorded(JournalPhase::Mirror).contains(&ACK));
    let copies = bench.later(20 * MS);
    assert!(copies.iter().any(is_copy), "{copies:?}");
    let seen = bench.obey(copies, |_| false);
    let again = bench.later(20 * MS);
    let rest = bench.obey(again, |_| false);
    let committed = Action::Finished { outcome: Outcome::Committed };
    assert!(seen.iter().chain(&rest).any(|a| *a == committed), "and tries again: {seen:?} {rest:?}");
}

#[test]
fn a_target_that_falls_behind_in_the_window_leads_back_to_copy_without_an_early_answer() {
    let mut bench = Bench::committing(&[16]);
    bench.write(0, 0, chunks(1, 1));
    bench.source(0);
    let actions = bench.later(251 * MS);
    assert!(actions.contains(&Action::SetReadSide { disk: 0, side: Side::Source }) && !actions.contains(&ACK));
    bench.recorded(JournalPhase::Committed);
    bench.recorded(JournalPhase::Mirror);
    assert_eq!(bench.machine.progress().phase, Phase::Copy);
    assert!(bench.later(MS).contains(&ACK), "the journal names the source: now it may be given up");
}

#[test]
fn while_the_fate_of_committed_is_unknown_both_are_written_and_it_is_asked_again_at_a_bounded_rate() {
    let mut bench = Bench::committing(&[16]);
    let unknown = Event::RecordDone { phase: JournalPhase::Committed, result: RecordResult::Unknown };
    let mut pauses = Vec::new();
    for _ in 0..8 {
        assert!(bench.on(unknown).is_empty());
        let mut waited = 0;
        while !bench.later(MS).contains(&Action::Record { phase: JournalPhase::Committed }) {
            waited += 1;
        }
        pauses.push(waited);
        assert!(bench.write(0, 0, chunks(1, 1)).contains(&Action::WriteBoth { disk: 0, id: 0 }));
        bench.source(0);
        assert!(bench.target(0).contains(&ACK));
    }
    assert!(pauses[0] >= 49 && pauses.windows(2).all(|p| p[1] >= p[0]) && pauses[7] <= 800, "{pauses:?}");
    bench.recorded(JournalPhase::Committed);
    assert_eq!(bench.machine.progress().phase, Phase::Release);
}

#[test]
fn committed_that_certainly_failed_ends_the_move_on_the_source_at_once() {
    let mut bench = Bench::committing(&[16]);
    let actions = bench.on(Event::RecordDone { phase: JournalPhase::Committed, result: RecordResult::Failed }).to_vec();
    let phase = JournalPhase::Committed;
    assert!(actions.contains(&Action::SetReadSide { disk: 0, side: Side::Source }));
    assert!(actions.contains(&Action::Ending { reason: EndReason::JournalFailed { phase } }));
    assert!(actions.contains(&Action::Record { phase: JournalPhase::Cancelled }));
    let reason = EndReason::JournalFailed { phase };
    assert!(bench.recorded(JournalPhase::Cancelled).contains(&Action::Finished { outcome: Outcome::Ended(reason) }));
}

#[test]
fn finished_waits_for_what_is_in_flight_to_the_source_but_the_guest_does_not() {
    let mut bench = Bench::committing(&[16]);
    bench.write(0, 0, chunks(1, 1));
    let actions = bench.recorded(JournalPhase::Committed);
    assert!(actions.contains(&Action::PhaseChanged { phase: Phase::Release, bound_bytes: None }));
    assert!(!actions.iter().any(|a| matches!(a, Action::Finished { .. })));
    assert_eq!(bench.target(0), [ACK]);
    assert_eq!(bench.source(0), [Action::Retire { disk: 0, id: 0 }, Action::Finished { outcome: Outcome::Committed }]);
}

#[test]
fn a_stop_before_committed_cancels_and_one_after_it_is_too_late() {
    let mut bench = Bench::mirroring(&[64]);
    bench.write(0, 0, chunks(7, 1));
    let actions = bench.on(Event::Stop).to_vec();
    assert!(actions.contains(&Action::Ending { reason: EndReason::Stopped }));
    assert!(bench.source(0).contains(&ACK), "the target is not waited for");
    assert!(
        bench.write(0, 1, chunks(9, 1)).contains(&Action::WriteSource { disk: 0, id: 1 }),
        "no new work for the target"
    );
    bench.source(1);
    bench.recorded(JournalPhase::Cancelled);
    for slot in 0..4 {
        bench.on(Event::VerifyDone { disk: 0, slot, outcome: VerifyOutcome::Equal });
    }
    assert!(bench.target(0).contains(&Action::Finished { outcome: Outcome::Ended(EndReason::Stopped) }));

    let mut bench = Bench::committing(&[16]);
    assert!(bench.on(Event::Stop).is_empty(), "COMMITTED may be durable: its record decides");
    assert!(bench.recorded(JournalPhase::Committed).contains(&Action::StopTooLate));
    assert_eq!(bench.on(Event::Stop).to_vec(), [Action::StopTooLate]);
}

#[test]
fn what_the_scan_finds_after_a_stop_records_nothing_behind_cancelled() {
    for allocation_known_at in [0, 1] {
        let mut bench = Bench::new(&[16]);
        bench.on(Event::Stop);
        if allocation_known_at == 0 {
            assert_eq!(bench.allocate(), []);
        }
        let ended = bench.recorded(JournalPhase::Cancelled);
        assert_eq!(ended, [Action::Finished { outcome: Outcome::Ended(EndReason::Stopped) }]);
        assert_eq!(bench.allocate(), []);
        assert!(bench.machine.is_idle());
    }
}

#[test]
fn a_stop_in_the_window_wins_if_the_target_fails_there() {
    let mut bench = Bench::committing(&[16]);
    bench.write(0, 0, chunks(1, 1));
    bench.on(Event::Stop);
    bench.source(0);
    bench.on(Event::TargetWriteDone { disk: 0, id: 0, result: Err(libc::EAGAIN) });
    let actions = bench.recorded(JournalPhase::Committed);
    assert_eq!(actions, [Action::Record { phase: JournalPhase::Cancelled }]);
    let actions = bench.recorded(JournalPhase::Cancelled);
    assert!(actions.contains(&ACK) && actions.contains(&Action::Ending { reason: EndReason::Stopped }));
    assert!(actions.contains(&Action::Finished { outcome: Outcome::Ended(EndReason::Stopped) }));
}

#[test]
fn a_unit_that_differs_is_copied_and_compared_once_more_and_then_fails_the_move() {
    let mut bench = Bench::mirroring(&[16]);
    let different = Event::VerifyDone { disk: 0, slot: 0, outcome: VerifyOutcome::Different };
    let actions = bench.on(different).to_vec();
    assert!(actions.iter().any(|a| matches!(a, Action::Copy { range, .. } if *range == chunks(0, 16))), "{actions:?}");
    let actions = bench.copied(0);
    assert!(actions.iter().any(|a| matches!(a, Action::Verify { .. })), "{actions:?}");
    let actions = bench.on(different).to_vec();
    assert!(actions.contains(&Action::Ending { reason: EndReason::VerificationFailed { disk: 0, offset: 0 } }));
}

#[test]
fn a_unit_written_meanwhile_is_compared_again_and_the_third_time_under_a_lock() {
    let mut bench = Bench::mirroring(&[16]);
    let equal = Event::VerifyDone { disk: 0, slot: 0, outcome: VerifyOutcome::Equal };
    for _ in 0..2 {
        assert!(bench.write(0, 0, chunks(1, 1)).contains(&Action::WriteBoth { disk: 0, id: 0 }));
        bench.source(0);
        bench.target(0);
        bench.on(equal);
        assert_eq!(bench.machine.progress().verified_bytes, 0, "met by a write: no proof");
    }
    let slot = MoveLimits::default().verifies_max;
    assert!(bench.write(0, 0, chunks(1, 1)).is_empty(), "the unit is locked: the write waits");
    let actions = bench.on(Event::VerifyDone { disk: 0, slot, outcome: VerifyOutcome::Equal }).to_vec();
    assert!(actions.contains(&Action::WriteBoth { disk: 0, id: 0 }), "{actions:?}");
    assert_eq!(bench.machine.progress().verified_bytes, 16 * CHUNK);
}

#[test]
fn a_unit_that_becomes_dirty_after_it_was_compared_is_compared_again() {
    let mut bench = Bench::mirroring(&[40]);
    bench.on(Event::VerifyDone { disk: 0, slot: 0, outcome: VerifyOutcome::Equal });
    assert_eq!(bench.machine.progress().verified_bytes, 16 * CHUNK);
    bench.write(0, 0, chunks(3, 1));
    bench.source(0);
    let actions = bench.on(Event::TargetWriteDone { disk: 0, id: 0, result: Err(libc::EAGAIN) }).to_vec();
    assert_eq!(bench.machine.progress().verified_bytes, 0);
    assert!(!actions.iter().any(is_copy), "a target that asked for patience gets some");
    assert!(bench.later(20 * MS).iter().any(is_copy));
    let actions = bench.copied(0);
    assert!(
        actions.iter().any(|a| matches!(a, Action::Verify { range, .. } if *range == chunks(0, 16))),
        "{actions:?}"
    );
}

#[test]
fn units_written_after_they_were_compared_are_counted() {
    let mut bench = Bench::mirroring(&[40]);
    bench.on(Event::VerifyDone { disk: 0, slot: 0, outcome: VerifyOutcome::Equal });
    bench.write(0, 0, chunks(3, 1));
    bench.source(0);
    bench.target(0);
    assert_eq!(bench.machine.units_written_since(0), 1);
    assert_eq!(bench.machine.progress().verified_bytes, 16 * CHUNK, "both sides got it: still verified");
}

#[test]
fn a_hot_chunk_is_locked_after_three_strikes_and_writes_to_it_wait_no_longer_than_250_ms() {
    let mut bench = Bench::new(&[64]);
    bench.write(0, 0, chunks(3, 1));
    bench.allocate();
    // Never without a write in flight: as one ends the next is there.
    let mut current = 0;
    let mut next = 1;
    let mut locked = None;
    for _ in 0..10 {
        let actions = bench.write(0, next, ByteRange::new(3 * CHUNK + u64::from(next) * 512, 512));
        if actions.is_empty() && bench.machine.progress().locks > 0 {
            locked = Some(next);
            break;
        }
        bench.source(current);
        (current, next) = (next, next + 1);
    }
    let waiting = locked.expect("a lock");
    let actions = bench.source(current);
    let slot = MoveLimits::default().copies_max;
    let mut copy = actions.iter().filter(|a| is_copy(a));
    assert_eq!(
        copy.next(),
        Some(&Action::Copy { disk: 0, slot, range: chunks(3, 1), target_fresh: true }),
        "{actions:?}"
    );
    assert!(!bench.later(250 * MS).contains(&Action::WriteSource { disk: 0, id: waiting }));
    let actions = bench.later(MS);
    assert!(actions.contains(&Action::WriteSource { disk: 0, id: waiting }), "{actions:?}");
    assert_eq!(bench.machine.progress().locks_broken, 1);
}

#[test]
fn a_write_already_in_flight_when_the_move_began_is_dirty_and_answered() {
    let mut bench = Bench::new(&[64]);
    bench.on(Event::Adopt { disk: 0, id: 0, range: chunks(3, 1) });
    assert!(bench.dirty(0, 3));
    assert!(!bench.allocate().iter().any(is_copy), "not copied while it is in flight");
    assert!(bench.source(0).contains(&ACK));
}

#[test]
fn a_resumed_move_with_nothing_to_copy_adopts_every_write_and_each_is_answered() {
    let sizes = [64 * CHUNK, 64 * CHUNK];
    let words: Vec<_> = sizes.iter().map(|_| (SharedWords::in_memory(64), SharedWords::in_memory(64))).collect();
    let machine = Move::resume(MoveLimits::default(), JournalPhase::Verify, setups(&sizes, &words)).expect("resumed");
    let mut bench = Bench { machine, words, now_us: 1_000_000, out: Vec::new() };
    let writes = [(0, 0), (0, 1), (1, 0), (1, 1)];
    for (disk, id) in writes {
        bench.on(Event::Adopt { disk, id, range: chunks(3, 1) });
        assert_eq!(bench.machine.progress().phase, Phase::Copy, "it waits until all are in");
    }
    bench.on(Event::Tick);
    for (disk, id) in writes {
        let answer = bench.on(Event::SourceWriteDone { disk, id, result: Ok(()) }).to_vec();
        assert!(
            answer.contains(&Action::Acknowledge { disk, id, result: Ok(()) }),
            "write {id} of disk {disk}: {answer:?}"
        );
    }
}

#[test]
fn after_a_kill_intent_becomes_dirty_and_nothing_of_the_target_is_fresh() {
    let words = (SharedWords::in_memory(64), SharedWords::in_memory(64));
    SavedMap::new(words.0.clone(), 64).expect("room").set(1..2);
    SavedMap::new(words.1.clone(), 64).expect("room").set(30..31);
    for phase in [JournalPhase::Copy, JournalPhase::Mirror, JournalPhase::Verify, JournalPhase::Prepared] {
        let sizes = [64 * CHUNK];
        let mut machine =
            Move::resume(MoveLimits::default(), phase, setups(&sizes, std::slice::from_ref(&words))).expect("resumed");
        let mut out = Vec::new();
        machine.on(Event::Tick, 5, &mut out);
        let copies: Vec<Action> = out.iter().copied().filter(is_copy).collect();
        let copy = |slot, chunk| Action::Copy { disk: 0, slot, range: chunks(chunk, 1), target_fresh: false };
        assert_eq!(copies, [copy(0, 1), copy(1, 30)], "in {phase:?}: {out:?}");
        assert_eq!(machine.read_side(), Side::Source);
        assert!(
            SavedMap::new(words.0.clone(), 64).expect("room").get(30),
            "saved as dirty before the intent is forgotten"
        );
    }
}

#[test]
fn nothing_is_resumed_after_committed_or_cancelled() {
    for phase in [JournalPhase::Committed, JournalPhase::Released, JournalPhase::Deleted, JournalPhase::Cancelled] {
        let words = (SharedWords::in_memory(64), SharedWords::in_memory(64));
        let resumed = Move::resume(MoveLimits::default(), phase, setups(&[64 * CHUNK], &[words]));
        assert_eq!(resumed.err().map(|error| error.kind), Some(ErrorKind::InvalidState), "{phase:?}");
    }
}

#[test]
fn if_cancelled_cannot_be_recorded_everything_is_marked_so_that_nothing_stale_is_resumed() {
    let mut bench = Bench::new(&[64]);
    bench.on(Event::Stop);
    for _ in 0..10 {
        bench.later(1_000_000);
        if bench.machine.is_idle() {
            break;
        }
        bench.on(Event::RecordDone { phase: JournalPhase::Cancelled, result: RecordResult::Unknown });
    }
    assert!(bench.machine.is_idle() && (0..64).all(|chunk| bench.dirty(0, chunk)));
}

#[test]
fn a_disk_of_no_bytes_and_a_move_of_no_disks_complete() {
    for sizes in [&[][..], &[0][..], &[0, 3][..]] {
        let mut bench = Bench::new(sizes);
        let mut actions = bench.allocate();
        actions.extend(bench.later(1));
        let seen = bench.obey(actions, |_| false);
        assert_eq!(seen.last(), Some(&Action::Finished { outcome: Outcome::Committed }), "{sizes:?}: {seen:?}");
    }
}

#[test]
fn a_warm_machine_gives_few_actions_and_keeps_its_tables() {
    let mut bench = Bench::mirroring(&[64]);
    for round in 0..10_000u64 {
        bench.write(0, 0, ByteRange::new(round % 64 * CHUNK + round % 100 * 512, 512));
        bench.source(0);
        bench.target(0);
    }
    assert_eq!(bench.machine.progress().mirrored_bytes, 10_000 * 512);
    assert!(bench.machine.disks[0].writes.len() == 0);
}
