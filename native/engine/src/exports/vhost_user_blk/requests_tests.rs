//! What a turn takes, with the test as service and driver: rings in memory, and a context that counts what is handed in.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::*;
use crate::disk::{Geometry, IoVecs};
use crate::exports::vhost_user_blk::memory::RegionPlace;
use crate::exports::vhost_user_blk::ring::{Kick, MAX_RING_SIZE, RingAddresses};
use crate::exports::{DiskFacts, Export};
use crate::reactor::Op;

/// Each request is a flush of two descriptors: a full ring holds 512 of them.
const MOST: u16 = MAX_RING_SIZE / 2;
const RING_BYTES: u64 = 0x8000;
const AVAILABLE: u64 = 0x4000;
const USED: u64 = 0x5000;
const VIRTIO_BLK_T_FLUSH: u32 = 4;

#[derive(Default)]
struct Service {
    handed_in: Vec<u64>,
}

impl ExportCx for Service {
    fn request(&mut self, request: Request) {
        self.handed_in.push(request.tag);
    }

    unsafe fn submit(&mut self, _op: Op, _slot: u32) {}

    fn take_iovecs(&mut self) -> IoVecs {
        IoVecs::new()
    }

    fn facts(&self) -> DiskFacts {
        let geometry = Geometry { size_bytes: 1 << 20, logical_sector_bytes: 512, physical_sector_bytes: 512 };
        DiskFacts { geometry, read_only: false }
    }

    fn allocation(&mut self, _offset: u64, _len: u64, _out: &mut Vec<(u64, bool)>) {}

    fn close(&mut self) {}
}

/// A device with running rings that the test fills.
struct Bench {
    device: VhostUserBlk,
    memory: File,
    /// Requests made available so far, by ring.
    available: Vec<u16>,
}

impl Bench {
    fn new(rings: u16, started: u16) -> Self {
        let memory = tempfile::tempfile().unwrap();
        let len = RING_BYTES * u64::from(rings) + 0x1000;
        memory.set_len(len).unwrap();
        let (header, status) = (len - 0x1000, len - 0x800);
        memory.write_at(&VIRTIO_BLK_T_FLUSH.to_le_bytes(), header).unwrap();
        for ring in 0..u64::from(rings) {
            for head in (0..MAX_RING_SIZE).step_by(2) {
                let descriptor = |at: u64, len: u32, flags: u16, next: u16| {
                    [&at.to_le_bytes()[..], &len.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()].concat()
                };
                let pair = [descriptor(header, 16, 1, head + 1), descriptor(status, 1, 2, 0)].concat();
                memory.write_at(&pair, ring * RING_BYTES + 16 * u64::from(head)).unwrap();
            }
        }
        let device = VhostUserBlk::new(rings, "").unwrap();
        let place = RegionPlace { guest: 0, len, user: 0, file_offset: 0 };
        let map = MemoryMap::from_table([(place, memory.try_clone().unwrap())]).unwrap();
        device.memory.store(Arc::new(map));
        let mut bench = Self { device, memory, available: vec![0; rings.into()] };
        for index in 0..started {
            bench.start(index, u64::from(index));
        }
        bench
    }

    fn start(&mut self, index: u16, place: u64) {
        let at = place * RING_BYTES;
        let base = self.used(place as u16);
        let change = move |ring: &mut Ring| {
            ring.set_size(MAX_RING_SIZE.into())?;
            ring.set_base(base.into())?;
            ring.set_addresses(RingAddresses { descriptors: at, available: at + AVAILABLE, used: at + USED })?;
            ring.kick = Kick::Polled;
            ring.set_enabled(true);
            Ok(())
        };
        self.device.change_ring(index.into(), &mut Service::default(), change).unwrap();
    }

    fn make_available(&mut self, ring: u16, count: u16) {
        let (at, available) = (u64::from(ring) * RING_BYTES + AVAILABLE, &mut self.available[usize::from(ring)]);
        for _ in 0..count {
            let head = *available % MOST * 2;
            self.memory.write_at(&head.to_le_bytes(), at + 4 + 2 * u64::from(*available % MAX_RING_SIZE)).unwrap();
            *available = available.wrapping_add(1);
        }
        self.memory.write_at(&available.to_le_bytes(), at + 2).unwrap();
    }

    fn used(&self, ring: u16) -> u16 {
        let mut index = [0; 2];
        self.memory.read_exact_at(&mut index, u64::from(ring) * RING_BYTES + USED + 2).unwrap();
        u16::from_le_bytes(index)
    }

    /// One turn of a service that answers everything at once. Returns what each ring got told in it, and whether the export wants another.
    fn turn(&mut self) -> (Vec<u16>, bool) {
        let before: Vec<u16> = (0..self.available.len() as u16).map(|ring| self.used(ring)).collect();
        let mut service = Service::default();
        let again = self.device.poll(&mut service);
        for tag in service.handed_in {
            self.device.done(tag as usize, Ok(()), &mut Service::default());
        }
        self.device.end_turn(&mut Service::default());
        (before.iter().enumerate().map(|(ring, before)| self.used(ring as u16).wrapping_sub(*before)).collect(), again)
    }
}

/// 0.1 took all of a ring, and all rings, in one turn.
#[test]
fn every_ring_gives_up_the_same_share_in_a_turn_and_the_next_turns_go_on_without_a_kick() {
    let mut bench = Bench::new(4, 4);
    bench.turn(); // shares are those of four rings from here on
    for ring in [0, 1, 3] {
        bench.make_available(ring, if ring == 1 { 1 } else { MOST });
    }
    let share = TAKEN_PER_TURN as u16 / 4;
    let (told, again) = bench.turn();
    assert_eq!(told, [share, 1, 0, share], "a full ring holds nobody up");
    assert!(again, "requests are left");
    let mut turns = 1;
    while (bench.used(0), bench.used(3)) != (MOST, MOST) {
        bench.make_available(1, 1);
        let (told, again) = bench.turn();
        assert_eq!(told, [share, 1, 0, share], "turn {turns}");
        assert!(again, "a polled ring");
        turns += 1;
    }
    assert_eq!(turns, MOST / share);
}

#[test]
fn a_ring_alone_has_the_whole_turn_and_sixty_four_have_one_each() {
    let mut bench = Bench::new(4, 1);
    bench.turn();
    bench.make_available(0, MOST);
    assert_eq!(bench.turn().0, [TAKEN_PER_TURN as u16, 0, 0, 0]);

    let mut bench = Bench::new(64, 64);
    bench.turn();
    (0..64).for_each(|ring| bench.make_available(ring, 10));
    assert_eq!(bench.turn().0, [SHARE_LEAST as u16; 64]);
}

#[test]
fn a_share_used_up_leaves_the_ring_muted_until_it_is_empty_and_wanted_again_then() {
    let mut bench = Bench::new(1, 1);
    bench.turn();
    bench.make_available(0, MOST);
    let map = bench.device.memory.load_full();
    let mut service = Service::default();
    assert!(!bench.device.take_requests(0, &map, &mut service), "there is more");
    assert_eq!(service.handed_in.len(), TAKEN_PER_TURN);
    assert!(!bench.device.take_requests(0, &map, &mut service), "and no second share in the same turn");
    assert_eq!(service.handed_in.len(), TAKEN_PER_TURN);
    assert!(!bench.device.rings[0].wants_kicks());
    bench.device.end_turn(&mut service);
    assert!(bench.device.take_requests(0, &map, &mut service));
    assert_eq!(service.handed_in.len(), usize::from(MOST));
    assert!(bench.device.rings[0].wants_kicks());
}

/// Firmware starts one ring of four; QEMU enables them all.
#[test]
fn a_ring_that_was_enabled_and_never_set_up_takes_nothing_and_keeps_nothing_from_the_others() {
    let mut bench = Bench::new(4, 0);
    for index in 0..4 {
        let enable = |ring: &mut Ring| {
            ring.set_enabled(true);
            Ok(())
        };
        bench.device.change_ring(index, &mut Service::default(), enable).unwrap();
    }
    bench.start(0, 0);
    bench.turn();
    bench.make_available(0, 3);
    assert_eq!(bench.turn().0, [3, 0, 0, 0]);
    // The kernel takes over: all four, from other places.
    let (done, wait) = std::sync::mpsc::sync_channel(1);
    bench.device.stop(None, done);
    wait.try_recv().expect("nothing is in flight");
    for index in 0..4 {
        bench.start(index, 3 - u64::from(index));
    }
    (0..4).for_each(|place| bench.make_available(place, 2));
    bench.turn();
    assert_eq!(bench.turn().0, [0; 4]);
    assert_eq!((0..4).map(|place| bench.used(place)).collect::<Vec<_>>(), [5, 2, 2, 2]);
}

#[test]
fn a_ring_without_a_part_in_the_inflight_region_does_not_start_and_no_region_comes_under_a_running_one() {
    use crate::exports::vhost_user_blk::inflight::{InflightRegion, create_region, region_bytes};
    let region = |queues| {
        let file = create_region(queues, MAX_RING_SIZE).unwrap();
        InflightRegion::attach(&file, 0, region_bytes(queues, MAX_RING_SIZE), queues, MAX_RING_SIZE).unwrap()
    };
    let mut bench = Bench::new(4, 0);
    bench.device.set_inflight(region(2)).unwrap();
    bench.start(0, 0);
    bench.start(1, 1);
    let addresses = |at: u64| RingAddresses { descriptors: at, available: at + AVAILABLE, used: at + USED };
    let refused = bench.device.change_ring(2, &mut Service::default(), |ring| {
        ring.set_addresses(addresses(2 * RING_BYTES))?;
        ring.kick = Kick::Polled;
        ring.set_enabled(true);
        Ok(())
    });
    assert!(refused.unwrap_err().0.contains("no part for this ring"));
    let refused = bench.device.set_inflight(region(4));
    assert!(refused.unwrap_err().0.contains("ring 0 was running"));
}
