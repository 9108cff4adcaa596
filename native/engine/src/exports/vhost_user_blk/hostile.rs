//! A driver that wants to hurt: rings, descriptors and an inflight region of any content. For the fuzzer (native/fuzz).

use std::fs::File;
use std::io::Write;

use rustix::fs::{MemfdFlags, memfd_create};

use super::chain::{Parts, Wanted};
use super::inflight::{InflightRegion, InflightRing, create_region, region_bytes};
use super::memory::{MemoryMap, RegionPlace};
use super::ring::{Kick, Ring, RingAddresses};

const MEMORY_BYTES: u64 = 0x4000;
const RING_SIZE: u16 = 16;
/// More turns than a ring has entries: it goes around.
const REQUESTS: usize = 40;

/// Byte 0: log2 of the ring's size; 1: event_idx, and whether there is an inflight region; 2 to 7: where the ring lies. Then the
/// inflight region, then the guest's memory.
pub fn virtio_driver(data: &[u8]) {
    let Some((&[size, flags, d0, d1, a0, a1, u0, u1], rest)) = data.split_first_chunk::<8>() else { return };
    let region_len = if flags & 2 == 0 { 0 } else { region_bytes(1, RING_SIZE) as usize };
    let (region_bytes, memory_bytes) = rest.split_at(region_len.min(rest.len()));
    let Some(memory) = filled(memory_bytes, MEMORY_BYTES) else { return };
    let place = RegionPlace { guest: 0, len: MEMORY_BYTES, user: 0, file_offset: 0 };
    let Ok(map) = MemoryMap::from_table([(place, memory)]) else { return };
    let mut ring = Ring::new();
    let at = |low, high| u64::from(u16::from_le_bytes([low, high]));
    let addresses = RingAddresses { descriptors: at(d0, d1), available: at(a0, a1), used: at(u0, u1) };
    if ring.set_size(1 << (size % 5)).is_err() || ring.set_addresses(addresses).is_err() {
        return;
    }
    if flags & 2 != 0 {
        ring.set_inflight(inflight(region_bytes));
    }
    ring.kick = Kick::Polled;
    ring.set_enabled(true);
    let Ok(again) = ring.start_if_ready(&map, flags & 1 != 0) else { return };
    let mut parts = Parts::default();
    for head in again {
        serve(&mut ring, &map, &mut parts, head);
    }
    ring.publish(&map);
    for _ in 0..REQUESTS {
        let Some(head) = ring.next_head(&map) else { break };
        ring.accept(head);
        serve(&mut ring, &map, &mut parts, head);
        ring.set_notification(&map, head % 2 == 0);
        ring.publish(&map);
    }
    assert_eq!(ring.in_flight(), 0, "what was taken was given back");
}

/// Follows a chain as the device does, without the disk behind it; what it would write to is written to.
fn serve(ring: &mut Ring, map: &MemoryMap, parts: &mut Parts, head: u16) {
    let gathered = parts.gather(map, ring.descriptor_table(), ring.size(), head);
    let Ok((wanted, status)) = gathered.and_then(|()| parts.parse(b"serial")) else {
        ring.break_down("a chain that cannot be answered");
        return ring.complete(head, 0);
    };
    let bytes = |iov: &[libc::iovec]| iov.iter().map(|range| range.iov_len as u64).sum::<u64>();
    match wanted {
        Wanted::Read { len, .. } => assert_eq!(bytes(&parts.writable), len, "the buffers are as long as the request"),
        Wanted::Write { len, .. } => assert_eq!(bytes(&parts.readable), len, "the buffers are as long as the request"),
        Wanted::Flush | Wanted::Zero | Wanted::Identity | Wanted::Answer(_) => {}
    }
    if let Wanted::Read { .. } = wanted {
        for range in &parts.writable {
            // SAFETY: the map says that this is the guest's memory, which lives as long as `map`.
            unsafe { std::ptr::write_bytes(range.iov_base.cast::<u8>(), 0x5a, range.iov_len) };
        }
    }
    // SAFETY: as above.
    unsafe { status.write(0) };
    ring.complete(head, 1);
}

fn inflight(bytes: &[u8]) -> Option<InflightRing> {
    let len = region_bytes(1, RING_SIZE);
    let mut file = create_region(1, RING_SIZE).ok()?;
    file.write_all(bytes).ok()?;
    InflightRing::new(&InflightRegion::attach(&file, 0, len, 1, RING_SIZE).ok()?, 0)
}

fn filled(bytes: &[u8], len: u64) -> Option<File> {
    let mut file = File::from(memfd_create("guest", MemfdFlags::CLOEXEC).ok()?);
    file.set_len(len).ok()?;
    file.write_all(&bytes[..bytes.len().min(len as usize)]).ok()?;
    Some(file)
}
