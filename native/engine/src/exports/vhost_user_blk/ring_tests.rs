use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;

use rustix::event::{EventfdFlags, eventfd};

use super::*;
use crate::exports::vhost_user_blk::inflight::{InflightRegion, create_region, region_bytes};
use crate::exports::vhost_user_blk::memory::RegionPlace;

const SIZE: u16 = 8;
const AVAILABLE: u64 = 0x100;
const USED: u64 = 0x200;
const MEMORY_BYTES: u64 = 0x1000;

/// The driver's side: memory with a ring of eight in it.
struct Driver {
    memory: File,
    map: MemoryMap,
    call: File,
}

impl Driver {
    fn new() -> Self {
        let memory = tempfile::tempfile().unwrap();
        memory.set_len(MEMORY_BYTES).unwrap();
        let place = RegionPlace { guest: 0, len: MEMORY_BYTES, user: 0, file_offset: 0 };
        let map = MemoryMap::from_table([(place, memory.try_clone().unwrap())]).unwrap();
        let call = eventfd(0, EventfdFlags::NONBLOCK).unwrap().into();
        Self { memory, map, call }
    }

    fn make_available(&self, heads: &[u16]) {
        for (index, head) in heads.iter().enumerate() {
            self.memory.write_at(&head.to_le_bytes(), AVAILABLE + 4 + 2 * index as u64).unwrap();
        }
        self.set_available_index(heads.len() as u16);
    }

    fn set_available_index(&self, index: u16) {
        self.memory.write_at(&index.to_le_bytes(), AVAILABLE + 2).unwrap();
    }

    fn set_used_event(&self, index: u16) {
        self.memory.write_at(&index.to_le_bytes(), AVAILABLE + 4 + 2 * u64::from(SIZE)).unwrap();
    }

    fn ring(&self, event_idx: bool, inflight: Option<InflightRing>) -> (Ring, Vec<u16>) {
        let mut ring = Ring::new();
        ring.set_size(SIZE.into()).unwrap();
        ring.set_addresses(RingAddresses { descriptors: 0, available: AVAILABLE, used: USED }).unwrap();
        if inflight.is_some() {
            ring.set_inflight(inflight);
        }
        ring.kick = Kick::Polled;
        ring.set_enabled(true);
        let again = ring.start_if_ready(&self.map, event_idx).unwrap();
        ring.set_call(Some(self.call.try_clone().unwrap()));
        self.was_called();
        (ring, again)
    }

    fn was_called(&self) -> bool {
        rustix::io::read(&self.call, &mut [0; 8]).is_ok()
    }
}

fn take(ring: &mut Ring, map: &MemoryMap) -> Option<u16> {
    let head = ring.next_head(map)?;
    ring.accept(head);
    Some(head)
}

#[test]
fn a_batch_is_told_by_one_call_and_only_when_the_driver_wants_one() {
    let driver = Driver::new();
    let (mut ring, _) = driver.ring(true, None);
    driver.make_available(&[2, 5, 7]);
    while take(&mut ring, &driver.map).is_some() {}
    assert_eq!(ring.in_flight(), 3);
    driver.set_used_event(1); // call me when the second is used
    ring.complete(5, 1);
    assert_eq!(ring.publish(&driver.map), 1);
    assert!(!driver.was_called());
    ring.complete(2, 513);
    ring.complete(7, 1);
    assert_eq!(ring.publish(&driver.map), 2);
    assert!(driver.was_called());
    assert_eq!((ring.in_flight(), ring.publish(&driver.map)), (0, 0));
    let mut used = [0; 28];
    driver.memory.read_exact_at(&mut used, USED).unwrap();
    let expected = [[5u32, 1], [2, 513], [7, 1]].concat().iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>();
    assert_eq!((&used[2..4], &used[4..]), (&[3, 0][..], &expected[..]));

    let (mut ring, _) = driver.ring(false, None);
    driver.memory.write_at(&1u16.to_le_bytes(), AVAILABLE).unwrap(); // VRING_AVAIL_F_NO_INTERRUPT
    ring.set_base(0).unwrap_err();
    let _ = take(&mut ring, &driver.map);
    ring.complete(2, 1);
    ring.publish(&driver.map);
    assert!(!driver.was_called(), "without EVENT_IDX the flag says so");
}

#[test]
fn every_start_interrupts_the_guest_because_a_dead_back_end_may_not_have() {
    let driver = Driver::new();
    let (mut ring, _) = driver.ring(true, None);
    ring.stop();
    ring.kick = Kick::Polled;
    ring.start_if_ready(&driver.map, true).unwrap();
    assert!(driver.was_called());
    ring.set_call(Some(driver.call.try_clone().unwrap()));
    assert!(driver.was_called(), "also when the front end says afterwards where to");
}

#[test]
fn a_driver_that_breaks_the_rules_breaks_its_ring_and_nothing_more_is_taken() {
    type Breakage = fn(&Driver, &mut Ring);
    let breakages: [(&str, Breakage); 3] = [
        ("a head that is in flight already", |driver, ring| {
            driver.make_available(&[3, 3]);
            assert_eq!(take(ring, &driver.map), Some(3));
        }),
        ("a head beyond the ring", |driver, _| driver.make_available(&[SIZE])),
        ("more requests than the ring has entries", |driver, _| driver.set_available_index(SIZE + 1)),
    ];
    for (what, breakage) in breakages {
        let driver = Driver::new();
        let (mut ring, _) = driver.ring(true, None);
        breakage(&driver, &mut ring);
        let before = ring.in_flight();
        assert_eq!(take(&mut ring, &driver.map), None, "{what}");
        assert!(ring.last_error().is_some() && !ring.takes_requests(), "{what}");
        driver.make_available(&[1]);
        assert_eq!(take(&mut ring, &driver.map), None, "{what}");
        assert_eq!(ring.in_flight(), before, "{what}: what was in flight still completes");
        ring.stop();
        ring.reset();
        assert_eq!(ring.next_available(), 0, "{what}: a reset makes it new");
    }
}

#[test]
fn a_ring_outside_memory_does_not_start() {
    let driver = Driver::new();
    let mut ring = Ring::new();
    ring.set_size(SIZE.into()).unwrap();
    let addresses = RingAddresses { descriptors: 0, available: AVAILABLE, used: MEMORY_BYTES - 8 };
    ring.set_addresses(addresses).unwrap();
    ring.kick = Kick::Polled;
    ring.set_enabled(true);
    assert!(ring.start_if_ready(&driver.map, true).is_err());
    for size in [0, 3, 2048, 70000] {
        assert!(ring.set_size(size).is_err(), "{size}");
    }
}

#[test]
fn a_stopped_ring_goes_on_where_it_stopped() {
    let driver = Driver::new();
    let (mut ring, _) = driver.ring(true, None);
    driver.make_available(&[2, 5, 7]);
    let _ = take(&mut ring, &driver.map);
    ring.complete(2, 1);
    ring.publish(&driver.map);
    ring.stop();
    assert_eq!((ring.next_available(), take(&mut ring, &driver.map)), (1, None));
    ring.set_base(1).unwrap();
    ring.kick = Kick::Polled;
    ring.start_if_ready(&driver.map, true).unwrap();
    assert_eq!(take(&mut ring, &driver.map), Some(5));
}

/// The proof of the module's claim: a process takes three requests and reports two of them, one machine instruction at a time.
/// After every instruction that changed shared memory, what a successor finds there must account for each request exactly
/// once: told to the guest, or to be executed again, or not yet read.
#[test]
fn killed_after_any_instruction_every_request_is_told_or_repeated_or_unread_exactly_once() {
    let driver = Driver::new();
    driver.make_available(&[3, 6, 1]);
    let region_file = create_region(1, SIZE).unwrap();
    let attach = |file: &File| InflightRegion::attach(file, 0, region_bytes(1, SIZE), 1, SIZE).unwrap();
    let region = attach(&region_file);
    let (mut ring, again) = driver.ring(true, InflightRing::new(&region, 0));
    assert!(again.is_empty());
    ring.set_base(0).unwrap_err();

    let traced = Traced::start(|| {
        while take(&mut ring, &driver.map).is_some() {}
        ring.complete(1, 1);
        ring.complete(3, 1);
        ring.publish(&driver.map);
    });
    let contents = |file: &File, len: u64| {
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    };
    let (mut seen, mut last) = (BTreeSet::new(), Vec::new());
    let mut steps = 0u64;
    for _ in traced {
        steps += 1;
        let shared = [contents(&driver.memory, MEMORY_BYTES), contents(&region_file, region_bytes(1, SIZE))].concat();
        if shared == last {
            continue;
        }
        let (memory, inflight) = shared.split_at(MEMORY_BYTES as usize);
        let word = |at: u64| u16::from_le_bytes([memory[at as usize], memory[at as usize + 1]]);
        let copy = tempfile::tempfile().unwrap();
        copy.write_at(inflight, 0).unwrap();
        let used = word(USED + 2);
        let again = InflightRing::new(&attach(&copy), 0).unwrap().recover(used, SIZE);
        let told = (0..used).map(|i| word(USED + 4 + 8 * u64::from(i)));
        let unread = (used + again.len() as u16..3).map(|i| word(AVAILABLE + 4 + 2 * u64::from(i)));
        let (told, unread): (Vec<_>, Vec<_>) = (told.collect(), unread.collect());
        let mut all = [told.clone(), again.clone(), unread.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, [1, 3, 6], "after {steps} instructions: told {told:?}, again {again:?}, unread {unread:?}");
        seen.insert((told, again, unread));
        last = shared;
    }
    let states: Vec<_> = seen.into_iter().collect();
    let expected: Vec<(Vec<u16>, Vec<u16>, Vec<u16>)> = vec![
        (vec![], vec![], vec![3, 6, 1]),
        (vec![], vec![3], vec![6, 1]),
        (vec![], vec![3, 6], vec![1]),
        (vec![], vec![3, 6, 1], vec![]),
        (vec![1, 3], vec![6], vec![]),
    ];
    assert_eq!(states, expected, "{steps} instructions");
}

/// A child process that runs `work` one instruction per `next`. `work` must not allocate or lock: it runs after a fork of a
/// process with threads.
struct Traced(libc::pid_t);

impl Traced {
    fn start(work: impl FnOnce()) -> Self {
        // SAFETY: the child calls only async-signal-safe functions, `work` (see above) and `_exit`.
        unsafe {
            let child = libc::fork();
            assert!(child >= 0);
            if child == 0 {
                libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
                libc::raise(libc::SIGSTOP);
                work();
                libc::_exit(0);
            }
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
            assert!(libc::WIFSTOPPED(status));
            Self(child)
        }
    }
}

impl Iterator for Traced {
    type Item = ();

    fn next(&mut self) -> Option<()> {
        let mut status = 0;
        // SAFETY: steps and waits for our own stopped child; no memory but `status` is touched.
        unsafe {
            assert_eq!(libc::ptrace(libc::PTRACE_SINGLESTEP, self.0, 0, 0), 0, "ptrace of a child is needed");
            assert_eq!(libc::waitpid(self.0, &raw mut status, 0), self.0);
        }
        if libc::WIFEXITED(status) {
            assert_eq!(libc::WEXITSTATUS(status), 0);
            return None;
        }
        assert!(libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == libc::SIGTRAP, "{status:#x}");
        Some(())
    }
}
