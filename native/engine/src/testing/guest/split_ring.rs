//! The driver's side of a split ring (virtio 1.2, 2.7), in memory that outlives the device.

use std::sync::atomic::{AtomicU16, Ordering, fence};

use virtio_bindings::virtio_ring::{
    VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE, VRING_USED_F_NO_NOTIFY,
};

use super::machine::{Machine, RingPlace};

/// A buffer of a chain, by guest address.
#[derive(Clone, Copy)]
pub struct Buffer {
    pub guest: u64,
    pub len: u32,
    pub device_writes: bool,
}

pub struct SplitRing {
    place: RingPlace,
    size: u16,
    event_idx: bool,
    free: Vec<u16>,
    /// Descriptors each chain in flight holds, by head. Empty: the head is not in flight.
    chains: Vec<Vec<u16>>,
    next_available: u16,
    /// Where the device was last kicked.
    kicked_at: u16,
    next_used: u16,
}

impl SplitRing {
    pub fn new(place: RingPlace, size: u16, event_idx: bool) -> Self {
        Self {
            place,
            size,
            event_idx,
            free: (0..size).rev().collect(),
            chains: vec![Vec::new(); usize::from(size)],
            next_available: 0,
            kicked_at: 0,
            next_used: 0,
        }
    }

    pub fn set_event_idx(&mut self, event_idx: bool) {
        self.event_idx = event_idx;
    }

    pub fn next_used(&self) -> u16 {
        self.next_used
    }

    pub fn next_available(&self) -> u16 {
        self.next_available
    }

    pub fn free_descriptors(&self) -> usize {
        self.free.len()
    }

    /// Makes a chain of `buffers` available and returns its head. `indirect`: the host and guest address of a table to use
    /// instead of descriptors of the ring. `None` when there are too few descriptors.
    pub fn add(&mut self, machine: &Machine, buffers: &[Buffer], indirect: Option<(*mut u8, u64)>) -> Option<u16> {
        let wanted = if indirect.is_some() { 1 } else { buffers.len() };
        if self.free.len() < wanted || buffers.is_empty() {
            return None;
        }
        let mine = self.free.split_off(self.free.len() - wanted);
        let head = mine[0];
        let ring = machine.rings.host(self.place.descriptors);
        match indirect {
            Some((table, guest)) => {
                let numbers: Vec<u16> = (0..buffers.len() as u16).collect();
                write_chain(table, &numbers, buffers);
                write_descriptor(ring, head, guest, 16 * buffers.len() as u32, VRING_DESC_F_INDIRECT as u16, 0);
            }
            None => write_chain(ring, &mine, buffers),
        }
        self.chains[usize::from(head)] = mine;
        let entry = self.place.available + 4 + 2 * usize::from(self.next_available % self.size);
        self.word(machine, entry).store(head.to_le(), Ordering::Relaxed);
        self.next_available = self.next_available.wrapping_add(1);
        self.word(machine, self.place.available + 2).store(self.next_available.to_le(), Ordering::Release);
        Some(head)
    }

    /// Kicks the device if it wants to be kicked for what was added since the last time.
    pub fn kick(&mut self, machine: &Machine, queue: usize) {
        if self.kicked_at == self.next_available {
            return;
        }
        fence(Ordering::SeqCst);
        let (old, new) = (self.kicked_at, self.next_available);
        self.kicked_at = new;
        let wanted = if self.event_idx {
            let at = self.place.used + 4 + 8 * usize::from(self.size);
            let event = u16::from_le(self.word(machine, at).load(Ordering::Relaxed));
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            let flags = u16::from_le(self.word(machine, self.place.used).load(Ordering::Relaxed));
            flags & VRING_USED_F_NO_NOTIFY as u16 == 0
        };
        if wanted {
            drop(machine.kicks[queue].write(1)); // full: kicked already
        }
    }

    /// The next completion: its head, or `Err` with a head that was not in flight.
    pub fn take_used(&mut self, machine: &Machine) -> Option<Result<u16, u32>> {
        let used = u16::from_le(self.word(machine, self.place.used + 2).load(Ordering::Acquire));
        if used == self.next_used {
            return None;
        }
        let entry = self.place.used + 4 + 8 * usize::from(self.next_used % self.size);
        let low = self.word(machine, entry).load(Ordering::Relaxed);
        let high = self.word(machine, entry + 2).load(Ordering::Relaxed);
        let head = u32::from(u16::from_le(low)) | u32::from(u16::from_le(high)) << 16;
        self.next_used = self.next_used.wrapping_add(1);
        let chain = self.chains.get_mut(head as usize).map(std::mem::take).unwrap_or_default();
        if chain.is_empty() {
            return Some(Err(head));
        }
        self.free.extend(chain);
        Some(Ok(head as u16))
    }

    /// Asks to be interrupted at the next completion. True when one is there already.
    pub fn want_interrupt(&mut self, machine: &Machine) -> bool {
        if self.event_idx {
            let at = self.place.available + 4 + 2 * usize::from(self.size);
            self.word(machine, at).store(self.next_used.to_le(), Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
        u16::from_le(self.word(machine, self.place.used + 2).load(Ordering::Acquire)) != self.next_used
    }

    fn word<'a>(&self, machine: &'a Machine, offset: usize) -> &'a AtomicU16 {
        let host = machine.rings.host(offset);
        // SAFETY: inside the mapping (`host` checks), which lives as long as `machine`; offsets in a ring are even; the
        // device uses these words atomically as well.
        unsafe { AtomicU16::from_ptr(host.cast()) }
    }
}

fn write_chain(table: *mut u8, numbers: &[u16], buffers: &[Buffer]) {
    for (index, buffer) in buffers.iter().enumerate() {
        let next = numbers.get(index + 1).copied();
        let flags = if buffer.device_writes { VRING_DESC_F_WRITE } else { 0 } | next.map_or(0, |_| VRING_DESC_F_NEXT);
        write_descriptor(table, numbers[index], buffer.guest, buffer.len, flags as u16, next.unwrap_or(0));
    }
}

fn write_descriptor(table: *mut u8, number: u16, guest: u64, len: u32, flags: u16, next: u16) {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&guest.to_le_bytes());
    bytes[8..12].copy_from_slice(&len.to_le_bytes());
    bytes[12..14].copy_from_slice(&flags.to_le_bytes());
    bytes[14..].copy_from_slice(&next.to_le_bytes());
    // SAFETY: the caller passes a table with room for `number` (ring size, or a page of the slot), mapped by the machine.
    unsafe { table.add(16 * usize::from(number)).cast::<[u8; 16]>().write_volatile(bytes) };
}
