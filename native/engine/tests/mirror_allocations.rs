//! The warm machine allocates nothing: counted by the allocator itself.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use vmstorage_engine::disk::ByteRange;
use vmstorage_engine::mirror::*;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: hands everything to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const DISK_BYTES: u64 = 1 << 40;
const QUEUE_DEPTH: u32 = 64;

/// One round of a guest: a full queue of writes, one flush, everything answered, copies and comparisons included.
fn round(machine: &mut Move, out: &mut Vec<Action>, again: &mut Vec<Action>, turn: u64, now_us: u64) {
    for id in 0..QUEUE_DEPTH {
        let offset = (turn * 7919 + u64::from(id) * 104_729) % (DISK_BYTES / 4096 / 64) * 4096;
        let range = ByteRange::new(offset, 8192);
        machine.on(Event::GuestWrite { disk: 0, id, range, kind: WriteKind::Data }, now_us, out);
    }
    machine.on(Event::GuestFlush { disk: 0, id: 0 }, now_us, out);
    machine.on(Event::Tick, now_us, out);
    // Nothing is asked twice, so this ends when the machine has nothing to do; verification of a TiB is cut short.
    for _ in 0..8 {
        std::mem::swap(out, again);
        for action in again.drain(..) {
            let (ok, mut answer) = (Ok(()), |event| machine.on(event, now_us, out));
            match action {
                Action::WriteSource { disk, id } => answer(Event::SourceWriteDone { disk, id, result: ok }),
                Action::WriteBoth { disk, id } => {
                    answer(Event::TargetWriteDone { disk, id, result: ok });
                    answer(Event::SourceWriteDone { disk, id, result: ok });
                }
                Action::FlushSource { disk, flush } => answer(Event::SourceFlushDone { disk, flush, result: ok }),
                Action::FlushTarget { disk, flush } => answer(Event::TargetFlushDone { disk, flush, result: ok }),
                Action::Record { phase } => answer(Event::RecordDone { phase, result: RecordResult::Durable }),
                Action::FindHoles { disk, .. } => answer(Event::HolesKnown { disk, until: DISK_BYTES }),
                Action::Copy { disk, slot, .. } => {
                    answer(Event::CopyDone { disk, slot, outcome: CopyOutcome::Copied { was_zero: false } });
                }
                _ => {}
            }
        }
    }
    out.clear();
}

#[test]
fn a_warm_mirror_of_a_tib_allocates_nothing_in_copy_and_in_mirror() {
    let chunks = DISK_BYTES / CHUNK_BYTES;
    let words = || SharedWords::in_memory(chunks);
    let setup = DiskSetup { size_bytes: DISK_BYTES, dirty: words(), intent: words() };
    let mut machine = Move::new(MoveLimits::default(), Revocation::in_memory(), vec![setup]).expect("a machine");
    let (mut out, mut again) = (Vec::with_capacity(4096), Vec::with_capacity(4096));
    let mut now_us = 1_000_000;
    for phase in [Phase::Copy, Phase::Verify] {
        if phase == Phase::Verify {
            machine.on(Event::AllocationKnown { disk: 0 }, now_us, &mut out);
        }
        let mut before = 0;
        let mut spent = std::time::Duration::ZERO;
        for turn in 0..3_000 {
            if turn == 500 {
                before = ALLOCATIONS.load(Ordering::Relaxed);
            }
            now_us += 2_000;
            let start = std::time::Instant::now();
            round(&mut machine, &mut out, &mut again, turn, now_us);
            spent += start.elapsed();
        }
        assert_eq!(machine.progress().phase, phase);
        assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0, "in {phase:?}");
        println!("{phase:?}: {:?} per guest write, everything it causes included", spent / (3_000 * QUEUE_DEPTH));
    }
}
