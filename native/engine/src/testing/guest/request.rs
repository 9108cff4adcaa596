//! One request as a chain of buffers, cut in other places each time: a device may not rely on how a driver frames it.

use virtio_bindings::virtio_blk::VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;

use super::machine::{Machine, SLOT_HEAD_BYTES};
use super::split_ring::Buffer;
use crate::disk::{ByteRange, SECTOR_BYTES};
use crate::testing::random::Random;

/// Descriptors one request needs at most: two for the header, four for data or one for a segment, the status.
pub const MOST_BUFFERS: usize = 7;
/// Pieces the data is cut into at most.
const MOST_PIECES: usize = 4;

// Offsets in the first page of a request.
const HEADER: usize = 0;
const SEGMENT: usize = 16;
const STATUS: usize = 64;
const TABLE: usize = 1024;

/// Where in the region of requests a status byte is.
#[derive(Clone, Copy, Default)]
pub struct StatusAt(usize);

impl StatusAt {
    /// The status of a request the device has finished.
    pub fn read(self, machine: &Machine) -> u8 {
        // SAFETY: `host` checks the offset; a byte may be read at any time.
        unsafe { machine.requests.host(self.0).read_volatile() }
    }
}

/// What a read that the device has finished brought.
pub fn finished_data(machine: &Machine, slot: usize, len: usize) -> &[u8] {
    let data = machine.requests.host(machine.slot(slot) + SLOT_HEAD_BYTES);
    // SAFETY: the slot's data area; a device that has finished does not write there any more.
    unsafe { std::slice::from_raw_parts(data, len) }
}

/// How a request is laid out in buffers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// As Linux does: header, data in one piece, status, in an indirect table where the device knows them.
    Plain,
    /// Another way each time, data cut at sectors.
    Sectors,
    /// Data cut at any byte.
    Bytes,
}

/// A chain in the making, in the memory of one slot that the device does not use.
pub struct Chain<'a> {
    machine: &'a Machine,
    random: &'a mut Random,
    page: usize,
    framing: Framing,
    buffers: Vec<Buffer>,
    read_bytes: u32,
}

impl<'a> Chain<'a> {
    pub fn new(machine: &'a Machine, slot: usize, random: &'a mut Random, framing: Framing) -> Self {
        let buffers = Vec::with_capacity(MOST_BUFFERS);
        Self { machine, random, page: machine.slot(slot), framing, buffers, read_bytes: 0 }
    }

    /// In one piece, or in two.
    pub fn header(&mut self, kind: u32, offset: u64) {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&kind.to_le_bytes());
        bytes[8..].copy_from_slice(&(offset / SECTOR_BYTES).to_le_bytes());
        self.put(self.page + HEADER, &bytes);
        let cut = if self.sometimes(8) { 1 + self.random.below(15) as u32 } else { 16 };
        self.push(self.page + HEADER, cut, false);
        if cut < 16 {
            self.push(self.page + HEADER + cut as usize, 16 - cut, false);
        }
    }

    /// The range of a write-zeroes or discard.
    pub fn segment(&mut self, range: ByteRange, unmap: bool) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&(range.start / SECTOR_BYTES).to_le_bytes());
        bytes[8..12].copy_from_slice(&((range.len / SECTOR_BYTES) as u32).to_le_bytes());
        let flags = if unmap { VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP } else { 0 };
        bytes[12..].copy_from_slice(&flags.to_le_bytes());
        self.put(self.page + SEGMENT, &bytes);
        self.push(self.page + SEGMENT, 16, false);
    }

    /// The memory to fill for a write.
    pub fn data_to_write(&mut self, len: u32) -> &mut [u8] {
        self.cut_data(len, false);
        let data = self.machine.requests.host(self.page + SLOT_HEAD_BYTES);
        // SAFETY: the slot's data area, which neither the device nor another slot uses now.
        unsafe { std::slice::from_raw_parts_mut(data, len as usize) }
    }

    pub fn data_to_read(&mut self, len: u32) {
        self.cut_data(len, true);
        self.read_bytes = len;
    }

    /// Up to four pieces.
    fn cut_data(&mut self, len: u32, device_writes: bool) {
        let unit = if self.framing == Framing::Bytes { 1 } else { SECTOR_BYTES as u32 };
        if self.framing == Framing::Plain {
            self.push(self.page + SLOT_HEAD_BYTES, len, device_writes);
            return;
        }
        let (mut at, mut left) = (self.page + SLOT_HEAD_BYTES, len);
        for piece in 1..=MOST_PIECES {
            let whole = piece == MOST_PIECES || left <= unit || self.random.below(2) == 0;
            let some = unit * (1 + self.random.below(u64::from(left / unit)) as u32);
            let here = if whole { left } else { some.min(left) };
            self.push(at, here, device_writes);
            (at, left) = (at + here as usize, left - here);
            if left == 0 {
                return;
            }
        }
    }

    /// In a buffer of its own, or behind the data of a read in the same buffer.
    pub fn status(&mut self) -> StatusAt {
        let behind = self.page + SLOT_HEAD_BYTES + self.read_bytes as usize;
        let room = self.read_bytes > 0 && behind < self.page + self.machine.slot(1); // a slot's length
        let shared = room && self.sometimes(8);
        let at = match self.buffers.last_mut() {
            Some(last) if shared => {
                last.len += 1;
                behind
            }
            _ => {
                self.push(self.page + STATUS, 1, true);
                self.page + STATUS
            }
        };
        self.put(at, &[0xff]);
        StatusAt(at)
    }

    /// The buffers, and half of the time, if the device knows them, an indirect table to describe them in.
    pub fn finish(self, indirect: bool) -> (Vec<Buffer>, Option<(*mut u8, u64)>) {
        let (requests, at) = (&self.machine.requests, self.page + TABLE);
        let wanted = self.framing == Framing::Plain || self.random.below(2) == 0;
        let table = (indirect && wanted).then(|| (requests.host(at), requests.guest(at)));
        (self.buffers, table)
    }

    /// True once in `of` times, and never in a plain chain.
    fn sometimes(&mut self, of: u64) -> bool {
        self.framing != Framing::Plain && self.random.below(of) == 0
    }

    fn push(&mut self, offset: usize, len: u32, device_writes: bool) {
        self.buffers.push(Buffer { guest: self.machine.requests.guest(offset), len, device_writes });
    }

    fn put(&self, offset: usize, bytes: &[u8]) {
        for (index, byte) in bytes.iter().enumerate() {
            // SAFETY: `host` checks the offset of each byte; the device does not use the slot now.
            unsafe { self.machine.requests.host(offset + index).write_volatile(*byte) };
        }
    }
}
