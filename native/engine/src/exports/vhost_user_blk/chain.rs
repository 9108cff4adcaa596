//! From a descriptor chain to a request. The guest is trusted with nothing: every length is checked, and every field
//! is read from its memory once, because another of its CPUs may be changing it.
//!
//! ```text
//!   device-readable bytes                          device-writable bytes
//!   ┌────────────────┬─────────────────────┐       ┌─────────────────────┬────────┐
//!   │ header, 16     │ data of a write,    │       │ data of a read,     │ status │
//!   │ type, sector   │ segments of discard │       │ identity            │ 1 byte │
//!   └────────────────┴─────────────────────┘       └─────────────────────┴────────┘
//! ```
//! Each side may be cut into descriptors anywhere (virtio 1.2, 2.7.4 and 5.2.6): what counts is the stream of bytes.

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH,
    VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
    VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Address, Bytes, GuestAddress};

use super::config::{MAX_ZEROED_BYTES, MAX_ZEROED_SEGMENTS};
use super::memory::MemoryMap;
use crate::disk::{ByteRange, IoVecs, RequestKind, SECTOR_BYTES};

/// Descriptors of one chain: the kernel takes 1024 buffers per call (IOV_MAX), and QEMU takes no more either.
const MAX_DESCRIPTORS: usize = 1024;
const HEADER_BYTES: usize = 16;
const SEGMENT_BYTES: usize = 16;
const DESCRIPTOR_BYTES: u32 = 16;

/// The answer to a request, as its status byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    Ok = VIRTIO_BLK_S_OK as u8,
    IoError = VIRTIO_BLK_S_IOERR as u8,
    Unsupported = VIRTIO_BLK_S_UNSUPP as u8,
}

/// No status byte can be written, so the driver cannot be answered: the ring is broken until the device is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// What the guest asks for. The buffers stay in [`Parts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Into `Parts::writable`.
    Read {
        offset: u64,
        len: u64,
    },
    /// From `Parts::readable`.
    Write {
        offset: u64,
        len: u64,
    },
    Flush,
    /// The ranges are in `Parts::segments`.
    Zero,
    Identity,
    /// Nothing to do but to say so.
    Answer(Status),
}

/// The buffers of one chain, as ranges of this process. Reused from chain to chain, so that it never allocates when warm.
#[derive(Default)]
pub struct Parts {
    pub readable: IoVecs,
    pub writable: IoVecs,
    pub segments: Vec<(RequestKind, ByteRange)>,
    /// A descriptor lies outside the guest's memory, or the two kinds are mixed.
    bad: bool,
    /// The last writable descriptor could not be mapped, so that there is no status byte.
    lost_status: bool,
}

// SAFETY: the ranges point into guest memory that whoever fills `Parts` keeps mapped while it uses them.
unsafe impl Send for Parts {}

impl Parts {
    /// Follows the chain that starts at `head` of the table at guest address `table`.
    pub fn gather(&mut self, map: &MemoryMap, table: u64, entries: u16, head: u16) -> Result<(), Malformed> {
        self.readable.clear();
        self.writable.clear();
        self.segments.clear();
        (self.bad, self.lost_status) = (false, false);
        let (mut table, mut entries, mut index, mut indirect) = (GuestAddress(table), u32::from(entries), head, false);
        for _ in 0..MAX_DESCRIPTORS {
            if u32::from(index) >= entries {
                return Err(Malformed("a descriptor index beyond the table"));
            }
            let unreadable = Malformed("a descriptor table outside the guest's memory");
            let at = table.checked_add(u64::from(index) * u64::from(DESCRIPTOR_BYTES)).ok_or(unreadable)?;
            let descriptor: Descriptor = map.guest().read_obj(at).map_err(|_| unreadable)?;
            if descriptor.refers_to_indirect_table() {
                let len = descriptor.len();
                if indirect || descriptor.has_next() || len == 0 || !len.is_multiple_of(DESCRIPTOR_BYTES) {
                    return Err(Malformed("an indirect descriptor that is nested, continued or of an odd length"));
                }
                (table, entries, index, indirect) = (descriptor.addr(), len / DESCRIPTOR_BYTES, 0, true);
                continue;
            }
            self.add(map, descriptor);
            if !descriptor.has_next() {
                return Ok(());
            }
            index = descriptor.next();
        }
        Err(Malformed("a chain that is longer than 1024 descriptors, or a loop"))
    }

    fn add(&mut self, map: &MemoryMap, descriptor: Descriptor) {
        let (start, len) = (descriptor.addr().0, descriptor.len());
        if descriptor.is_write_only() {
            self.lost_status = !map.host_ranges(start, len, &mut self.writable);
            self.bad |= self.lost_status;
        } else {
            let mapped = map.host_ranges(start, len, &mut self.readable);
            self.bad |= !mapped || !self.writable.is_empty();
        }
    }

    /// Says what the chain asks for and where its status goes. Takes header and status off the buffers.
    pub fn parse(&mut self, serial: &[u8]) -> Result<(Wanted, *mut u8), Malformed> {
        let status = self.take_status()?;
        if self.bad || self.readable.len() > MAX_DESCRIPTORS || self.writable.len() > MAX_DESCRIPTORS {
            return Ok((Wanted::Answer(Status::IoError), status));
        }
        let Some(header) = take_front::<HEADER_BYTES>(&mut self.readable) else {
            return Ok((Wanted::Answer(Status::IoError), status));
        };
        let [kind, _ioprio] = [0, 4].map(|at| u32_at(&header, at));
        let sector = u64_at(&header, 8);
        Ok((self.wanted(kind, sector, serial), status))
    }

    fn wanted(&mut self, kind: u32, sector: u64, serial: &[u8]) -> Wanted {
        let refuse = Wanted::Answer(Status::IoError);
        match kind {
            VIRTIO_BLK_T_IN => match data_range(sector, &self.writable) {
                Some(range) => Wanted::Read { offset: range.start, len: range.len },
                None => refuse,
            },
            VIRTIO_BLK_T_OUT => match data_range(sector, &self.readable) {
                Some(range) => Wanted::Write { offset: range.start, len: range.len },
                None => refuse,
            },
            VIRTIO_BLK_T_FLUSH => Wanted::Flush,
            VIRTIO_BLK_T_GET_ID if total(&self.writable) >= serial.len() as u64 => Wanted::Identity,
            VIRTIO_BLK_T_GET_ID => refuse,
            VIRTIO_BLK_T_DISCARD => self.zeroed(false),
            VIRTIO_BLK_T_WRITE_ZEROES => self.zeroed(true),
            _ => Wanted::Answer(Status::Unsupported),
        }
    }

    /// Segments of 16 bytes: sector u64, sectors u32, flags u32 (virtio 1.2, 5.2.6). All are checked before any is done.
    fn zeroed(&mut self, write_zeroes: bool) -> Wanted {
        let bytes = total(&self.readable);
        let count = bytes / SEGMENT_BYTES as u64;
        if !bytes.is_multiple_of(SEGMENT_BYTES as u64) || count == 0 || count > u64::from(MAX_ZEROED_SEGMENTS) {
            return Wanted::Answer(Status::IoError);
        }
        while let Some(segment) = take_front::<SEGMENT_BYTES>(&mut self.readable) {
            let (sector, sectors, flags) = (u64_at(&segment, 0), u32_at(&segment, 8), u32_at(&segment, 12));
            let unmap = flags == VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
            if flags != 0 && !(unmap && write_zeroes) {
                return Wanted::Answer(Status::Unsupported);
            }
            let kind = if write_zeroes { RequestKind::WriteZeroes { unmap } } else { RequestKind::Discard };
            let len = u64::from(sectors) * SECTOR_BYTES;
            match sector.checked_mul(SECTOR_BYTES).and_then(|start| ByteRange::checked(start, len)) {
                Some(range) if len <= MAX_ZEROED_BYTES => self.segments.push((kind, range)),
                _ => return Wanted::Answer(Status::IoError),
            }
        }
        self.segments.retain(|(_, range)| !range.is_empty());
        if self.segments.is_empty() { Wanted::Answer(Status::Ok) } else { Wanted::Zero }
    }

    fn take_status(&mut self) -> Result<*mut u8, Malformed> {
        let none = Malformed("a request without a status byte");
        if self.lost_status {
            return Err(none);
        }
        let last = self.writable.last_mut().ok_or(none)?;
        last.iov_len -= 1; // never zero: `host_ranges` makes no empty range
        let status = last.iov_base.cast::<u8>().wrapping_add(last.iov_len);
        if last.iov_len == 0 {
            self.writable.pop();
        }
        Ok(status)
    }

    /// Copies the disk's identity into the read buffers. Returns the bytes written.
    ///
    /// # Safety
    /// The memory behind `writable` is mapped.
    pub unsafe fn write_identity(&self, serial: &[u8]) -> u32 {
        let mut left = serial;
        for range in &self.writable {
            let (now, later) = left.split_at(left.len().min(range.iov_len));
            for (at, byte) in now.iter().enumerate() {
                // SAFETY: mapped by the caller's promise, and `at` is below the range's length.
                unsafe { range.iov_base.cast::<u8>().add(at).write_volatile(*byte) };
            }
            left = later;
        }
        (serial.len() - left.len()) as u32
    }
}

fn total(ranges: &IoVecs) -> u64 {
    ranges.iter().map(|range| range.iov_len as u64).sum() // at most 1024 descriptors of 4 GiB: no overflow
}

fn data_range(sector: u64, data: &IoVecs) -> Option<ByteRange> {
    let len = total(data);
    if !len.is_multiple_of(SECTOR_BYTES) {
        return None;
    }
    ByteRange::checked(sector.checked_mul(SECTOR_BYTES)?, len)
}

/// Copies the first `N` bytes out and drops them from `ranges`; `None`, with nothing dropped, when there are fewer.
fn take_front<const N: usize>(ranges: &mut IoVecs) -> Option<[u8; N]> {
    if total(ranges) < N as u64 {
        return None;
    }
    let (mut bytes, mut filled, mut whole) = ([0; N], 0, 0);
    for range in ranges.iter_mut() {
        let here = range.iov_len.min(N - filled);
        for at in 0..here {
            // SAFETY: the range is mapped guest memory (`Parts` is filled by `host_ranges` alone) and `at` is inside it;
            // volatile, because the guest may write to it at the same time.
            bytes[filled + at] = unsafe { range.iov_base.cast::<u8>().add(at).read_volatile() };
        }
        filled += here;
        range.iov_base = range.iov_base.cast::<u8>().wrapping_add(here).cast();
        range.iov_len -= here;
        if range.iov_len > 0 {
            break;
        }
        whole += 1;
        if filled == N {
            break;
        }
    }
    ranges.drain(..whole);
    Some(bytes)
}

fn u32_at(bytes: &[u8; 16], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; 16], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
