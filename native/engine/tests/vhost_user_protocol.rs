//! The control messages, one by one, by a scripted front end over the `vhost` crate.
#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserInflight};
use vhost::vhost_user::{Frontend, VhostUserFrontend, VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmstorage_engine::exports::vhost_user_blk::{Listener, VhostUserBlk, listen};
use vmstorage_engine::testing::single_disk::{Behaviour, SingleDisk};

const PATIENCE: Duration = Duration::from_secs(20);
const HELD: Duration = Duration::from_millis(200);
const RING_SIZE: u16 = 8;
const VERSION_1: u64 = 1 << 32;
const FLUSH: u64 = 1 << 9;
const GUEST: u64 = 0x10_0000;
const USER: u64 = 0x7f00_0000_0000;
const MEMORY_BYTES: u64 = 0x10000;
// Offsets in memory: ring 0 and its buffers.
const DESCRIPTORS: u64 = 0;
const AVAILABLE: u64 = 0x100;
const USED: u64 = 0x200;
const HEADER: u64 = 0x300;
const STATUS: u64 = 0x400;
const DATA: u64 = 0x1000;
/// A second ring lies so far behind.
const OTHER: u64 = 0x8000;

struct Bench {
    disk: SingleDisk,
    listener: Listener,
    folder: TempDir,
    memory: File,
    kick: EventFd,
    call: EventFd,
}

impl Bench {
    fn new(held_at_most: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = tempfile::tempfile_in(folder.path()).unwrap();
        image.set_len(1 << 20).unwrap();
        let export = Box::new(VhostUserBlk::new(2, "my serial").unwrap());
        let behaviour = Behaviour { held_at_most, seed: 3, ..Behaviour::default() };
        let disk = SingleDisk::start(export, image, false, behaviour).unwrap();
        let listener = listen(&folder.path().join("s"), disk.door(), disk.facts(), 2).unwrap();
        let memory = tempfile::tempfile().unwrap();
        memory.set_len(MEMORY_BYTES).unwrap();
        let event = || EventFd::new(EFD_NONBLOCK).unwrap();
        Self { disk, listener, folder, memory, kick: event(), call: event() }
    }

    /// Connected, features agreed, memory passed.
    fn front_end(&self) -> Frontend {
        let mut front_end = Frontend::connect(self.folder.path().join("s"), 16).unwrap();
        front_end.get_features().unwrap();
        let protocol = front_end.get_protocol_features().unwrap();
        front_end.set_protocol_features(protocol).unwrap();
        front_end.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        front_end.set_owner().unwrap();
        front_end.set_features(VERSION_1 | FLUSH | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()).unwrap();
        front_end.set_mem_table(&[self.region()]).unwrap();
        front_end
    }

    fn region(&self) -> VhostUserMemoryRegionInfo {
        VhostUserMemoryRegionInfo {
            guest_phys_addr: GUEST,
            memory_size: MEMORY_BYTES,
            userspace_addr: USER,
            mmap_offset: 0,
            mmap_handle: self.memory.as_raw_fd(),
        }
    }

    fn prepare_ring(&self, front_end: &mut Frontend, base: u16) {
        front_end.set_vring_num(0, RING_SIZE).unwrap();
        front_end.set_vring_base(0, base).unwrap();
        front_end.set_vring_addr(0, &addresses(DESCRIPTORS)).unwrap();
        front_end.set_vring_call(0, &self.call).unwrap();
    }

    fn start_ring(&self, front_end: &mut Frontend, base: u16) {
        self.prepare_ring(front_end, base);
        front_end.set_vring_kick(0, &self.kick).unwrap();
        front_end.set_vring_enable(0, true).unwrap();
    }

    fn put(&self, at: u64, bytes: &[u8]) {
        self.memory.write_at(bytes, at).unwrap();
    }

    fn descriptor(&self, index: u64, at: u64, len: u32, flags: u16) {
        let next = index as u16 + 1;
        let bytes =
            [&(GUEST + at).to_le_bytes()[..], &len.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()].concat();
        self.put(DESCRIPTORS + 16 * index, &bytes);
    }

    /// Makes request number `number` (from 0) available: `kind` with one data buffer of `len` bytes the device writes.
    fn request(&self, number: u16, kind: u32, len: u32) {
        self.put(HEADER, &kind.to_le_bytes());
        self.put(STATUS, &[0xff]);
        self.descriptor(0, HEADER, 16, 1);
        self.descriptor(1, DATA, len, 3);
        self.descriptor(2, STATUS, 1, 2);
        self.put(AVAILABLE + 4 + 2 * u64::from(number % RING_SIZE), &0u16.to_le_bytes());
        self.put(AVAILABLE + 2, &(number + 1).to_le_bytes());
    }

    fn bytes<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.memory.read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    fn used(&self) -> u16 {
        u16::from_le_bytes(self.bytes(USED + 2))
    }

    fn until_used(&self, count: u16) {
        let started = Instant::now();
        while self.used() != count {
            assert!(started.elapsed() < PATIENCE, "{} used, not {count}", self.used());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn status(&self) -> u8 {
        self.bytes::<1>(STATUS)[0]
    }

    fn close(mut self) {
        self.listener.close();
        self.disk.wait_closed();
    }
}

fn addresses(descriptors: u64) -> VringConfigData {
    VringConfigData { desc_table_addr: USER + descriptors, ..at(0) }
}

/// A ring that lies `offset` behind the bench's.
fn at(offset: u64) -> VringConfigData {
    VringConfigData {
        queue_max_size: RING_SIZE,
        queue_size: RING_SIZE,
        flags: 0,
        desc_table_addr: USER + DESCRIPTORS + offset,
        used_ring_addr: USER + USED + offset,
        avail_ring_addr: USER + AVAILABLE + offset,
        log_addr: None,
    }
}

const READ: u32 = 0;
const GET_ID: u32 = 8;

#[test]
fn get_vring_base_answers_after_everything_in_flight_was_told() {
    let bench = Bench::new(HELD);
    let mut front_end = bench.front_end();
    bench.start_ring(&mut front_end, 0);
    for number in 0..5 {
        bench.request(number, READ, 512);
        bench.kick.write(1).unwrap();
        while bench.disk.counters().reads.load(std::sync::atomic::Ordering::Relaxed) <= u64::from(number) {
            std::thread::yield_now(); // until it is in flight
        }
        assert_eq!(front_end.get_vring_base(0).unwrap(), u32::from(number) + 1);
        assert_eq!((bench.used(), bench.status()), (number + 1, 0), "told before the answer");
        bench.start_ring(&mut front_end, number + 1);
    }
    bench.close();
}

#[test]
fn a_stopped_or_disabled_ring_takes_nothing_and_goes_on_when_it_is_started_again() {
    let bench = Bench::new(Duration::ZERO);
    let mut front_end = bench.front_end();
    bench.start_ring(&mut front_end, 0);
    front_end.set_vring_enable(0, false).unwrap();
    bench.request(0, READ, 512);
    bench.kick.write(1).unwrap();
    assert_eq!(front_end.get_queue_num().unwrap(), 2); // answered behind whatever the kick did
    assert_eq!(bench.used(), 0);
    front_end.set_vring_enable(0, true).unwrap();
    bench.until_used(1);
    assert_eq!(front_end.get_vring_base(0).unwrap(), 1);
    bench.request(1, READ, 512);
    bench.kick.write(1).unwrap();
    front_end.get_queue_num().unwrap();
    assert_eq!(bench.used(), 1);
    bench.start_ring(&mut front_end, 1);
    bench.until_used(2);
    bench.close();
}

#[test]
fn get_id_answers_the_serial_and_counts_what_it_wrote() {
    let bench = Bench::new(Duration::ZERO);
    let mut front_end = bench.front_end();
    bench.start_ring(&mut front_end, 0);
    bench.request(0, GET_ID, 20);
    bench.kick.write(1).unwrap();
    bench.until_used(1);
    assert_eq!((bench.status(), &bench.bytes::<20>(DATA)), (0, b"my serial\0\0\0\0\0\0\0\0\0\0\0"));
    assert_eq!(u32::from_le_bytes(bench.bytes(USED + 8)), 21);
    assert!(bench.call.read().is_ok(), "the guest was told");
    bench.close();
}

#[test]
fn a_reset_device_starts_from_nothing_twice_in_a_row_too() {
    let bench = Bench::new(HELD);
    let mut front_end = bench.front_end();
    bench.start_ring(&mut front_end, 0);
    bench.request(0, READ, 512);
    bench.kick.write(1).unwrap();
    front_end.reset_device().unwrap();
    front_end.reset_device().unwrap();
    bench.put(USED, &[0; 64]);
    bench.request(0, READ, 512);
    bench.start_ring(&mut front_end, 0);
    bench.until_used(1);
    assert_eq!(bench.status(), 0);
    bench.close();
}

#[test]
fn a_ring_without_a_kick_descriptor_is_polled() {
    let bench = Bench::new(Duration::ZERO);
    let mut front_end = bench.front_end();
    bench.prepare_ring(&mut front_end, 0);
    front_end.set_vring_enable(0, true).unwrap();
    // SET_VRING_KICK without a descriptor: the crate's front end cannot say it. Version 1, payload: ring 0, bit 8.
    let message =
        [&12u32.to_le_bytes()[..], &1u32.to_le_bytes(), &8u32.to_le_bytes(), &0x100u64.to_le_bytes()].concat();
    rustix::io::write(rustix_fd(&front_end), &message).unwrap();
    front_end.get_queue_num().unwrap();
    bench.request(0, READ, 512);
    bench.until_used(1);
    bench.close();
}

fn rustix_fd(front_end: &Frontend) -> std::os::fd::BorrowedFd<'_> {
    // SAFETY: the front end keeps its socket open while it is borrowed.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(front_end.as_raw_fd()) }
}

#[test]
fn what_breaks_the_protocol_is_refused_and_the_next_connection_is_served() {
    type Offence = fn(&Bench, &mut Frontend) -> bool;
    let offences: [(&str, Offence); 11] = [
        ("features that were not offered", |_, f| f.set_features(1 << 40).is_err()),
        ("a ring that is not there", |_, f| f.set_vring_num(2, 8).is_err() || f.set_vring_enable(7, true).is_err()),
        ("a ring size that is no power of two", |_, f| f.set_vring_num(0, 12).is_err()),
        ("a ring outside memory", |_, f| f.set_vring_addr(0, &addresses(MEMORY_BYTES)).is_err()),
        ("a crooked ring address", |_, f| f.set_vring_addr(0, &addresses(8)).is_err()),
        ("a file for a kick", |bench, f| {
            // SAFETY: the event owns a descriptor of its own.
            let file = unsafe { <EventFd as std::os::fd::FromRawFd>::from_raw_fd(libc::dup(bench.memory.as_raw_fd())) };
            f.set_vring_kick(0, &file).is_err()
        }),
        ("an inflight region of more rings than there are", |_, f| {
            f.get_inflight_fd(&VhostUserInflight::new(0, 0, 3, 128)).is_err()
        }),
        ("an inflight region under a running ring", |bench, f| {
            let (shape, file) = f.get_inflight_fd(&VhostUserInflight::new(0, 0, 2, 8)).unwrap();
            f.set_inflight_fd(&shape, file.as_raw_fd()).unwrap();
            bench.start_ring(f, 0);
            f.set_inflight_fd(&shape, file.as_raw_fd()).is_err()
        }),
        ("a ring that the inflight region has no part for", |bench, f| {
            let (shape, file) = f.get_inflight_fd(&VhostUserInflight::new(0, 0, 1, 8)).unwrap();
            f.set_inflight_fd(&shape, file.as_raw_fd()).unwrap();
            f.set_vring_num(1, RING_SIZE).unwrap();
            f.set_vring_addr(1, &addresses(DESCRIPTORS)).unwrap();
            f.set_vring_kick(1, &bench.kick).unwrap();
            f.set_vring_enable(1, true).is_err()
        }),
        ("a foreign file as inflight region", |bench, f| {
            f.set_inflight_fd(&VhostUserInflight::new(4096, 1 << 20, 1, 128), bench.memory.as_raw_fd()).is_err()
        }),
        ("writing the configuration", |_, f| f.set_config(32, VhostUserConfigFlags::WRITABLE, &[0]).is_err()),
    ];
    let bench = Bench::new(Duration::ZERO);
    for (what, offence) in offences {
        let mut front_end = bench.front_end();
        assert!(offence(&bench, &mut front_end), "{what}");
        let mut next = bench.front_end();
        assert_eq!(next.get_queue_num().unwrap(), 2, "after {what}");
    }
    bench.close();
}

#[test]
fn a_ring_number_that_is_none_is_refused_in_every_message_that_has_one() {
    type Offence = fn(&Bench, &mut Frontend) -> bool;
    let offences: [(&str, Offence); 7] = [
        ("SET_VRING_NUM", |_, f| f.set_vring_num(2, 8).is_err()),
        ("SET_VRING_BASE", |_, f| f.set_vring_base(15, 0).is_err()),
        ("SET_VRING_ADDR", |_, f| f.set_vring_addr(2, &addresses(DESCRIPTORS)).is_err()),
        ("SET_VRING_KICK", |bench, f| f.set_vring_kick(2, &bench.kick).is_err()),
        ("SET_VRING_CALL", |bench, f| f.set_vring_call(9, &bench.call).is_err()),
        ("GET_VRING_BASE", |_, f| f.get_vring_base(2).is_err()),
        ("SET_VRING_ENABLE", |_, f| f.set_vring_enable(2, true).is_err()),
    ];
    let bench = Bench::new(Duration::ZERO);
    for (message, offence) in offences {
        assert!(offence(&bench, &mut bench.front_end()), "{message}");
    }
    assert_eq!(bench.front_end().get_queue_num().unwrap(), 2, "and the next connection is served");
    bench.close();
}

#[test]
fn a_queue_is_stopped_alone_and_the_other_goes_on() {
    let bench = Bench::new(Duration::ZERO);
    let mut front_end = bench.front_end();
    // Ring 1 in the place of the bench's ring; ring 0 beside it, started and never asked anything.
    front_end.set_vring_num(1, RING_SIZE).unwrap();
    front_end.set_vring_addr(1, &addresses(DESCRIPTORS)).unwrap();
    front_end.set_vring_call(1, &bench.call).unwrap();
    front_end.set_vring_kick(1, &bench.kick).unwrap();
    front_end.set_vring_enable(1, true).unwrap();
    let idle = EventFd::new(EFD_NONBLOCK).unwrap();
    front_end.set_vring_num(0, RING_SIZE).unwrap();
    front_end.set_vring_addr(0, &at(OTHER)).unwrap();
    front_end.set_vring_kick(0, &idle).unwrap();
    front_end.set_vring_enable(0, true).unwrap();
    assert_eq!(front_end.get_vring_base(0).unwrap(), 0);
    bench.request(0, READ, 512);
    bench.kick.write(1).unwrap();
    bench.until_used(1);
    front_end.set_vring_enable(1, false).unwrap();
    bench.request(1, READ, 512);
    bench.kick.write(1).unwrap();
    assert_eq!(front_end.get_queue_num().unwrap(), 2); // answered behind whatever the kick did
    assert_eq!(bench.used(), 1);
    front_end.set_vring_enable(1, true).unwrap();
    bench.until_used(2);
    assert_eq!(front_end.get_vring_base(1).unwrap(), 2);
    bench.close();
}

#[test]
fn the_configuration_says_what_the_disk_is() {
    let bench = Bench::new(Duration::ZERO);
    let mut front_end = bench.front_end();
    let (_, config) = front_end.get_config(0, 60, VhostUserConfigFlags::empty(), &[0; 60]).unwrap();
    assert_eq!(config[..8], 2048u64.to_le_bytes());
    assert_eq!(config[32], 1, "write back");
    let offered = VhostUserProtocolFeatures::INFLIGHT_SHMFD | VhostUserProtocolFeatures::RESET_DEVICE;
    assert!(front_end.get_protocol_features().unwrap().contains(offered));
    bench.close();
}
