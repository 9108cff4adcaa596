//! The parts of the guest that outlive a connection: its memory, the places of its rings in it, and its eventfds.
//!
//! ```text
//!   memory file 1: rings                                   memory file 2: requests
//!   ┌──────────────────────────────────────┬─ ...          ┌───────────────────────────────┬──────────┬─ ...
//!   │ ring 0: descriptors, available, used │ ring 1        │ slot 0: header, segment,      │ data     │ slot 1
//!   └──────────────────────────────────────┴─ ...          │ status, indirect table        │          │
//!   guest address RINGS_AT                                 guest address REQUESTS_AT
//! ```
//! Two regions with guest addresses that differ from the user addresses, so that mixing the two up cannot go unseen.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, memfd_create};
use vhost::VhostUserMemoryRegionInfo;
use vhost::vhost_user::message::VhostUserInflight;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::options::GuestOptions;
use crate::exports::vhost_user_blk::marked;

const RINGS_AT: u64 = 0x1000_0000;
const REQUESTS_AT: u64 = 0x4000_0000;
const PAGE: usize = 4096;
/// Header, segment, status and an indirect table of up to 200 descriptors fit in the first page of a slot.
pub const SLOT_HEAD_BYTES: usize = PAGE;

/// Memory the worker maps as well.
pub struct Region {
    file: File,
    map: MmapRaw,
    guest: u64,
}

impl Region {
    fn new(name: &str, len: usize, guest: u64) -> io::Result<Self> {
        let file: File = memfd_create(name, MemfdFlags::CLOEXEC)?.into();
        file.set_len(len as u64)?;
        let map = MmapOptions::new().len(len).map_raw(&file)?;
        Ok(Self { file, map, guest })
    }

    /// Where byte `offset` is in this process.
    pub fn host(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.map.len());
        self.map.as_mut_ptr().wrapping_add(offset)
    }

    pub fn guest(&self, offset: usize) -> u64 {
        self.guest + offset as u64
    }

    pub fn info(&self) -> VhostUserMemoryRegionInfo {
        VhostUserMemoryRegionInfo {
            guest_phys_addr: self.guest,
            memory_size: self.map.len() as u64,
            userspace_addr: self.map.as_ptr() as u64,
            mmap_offset: 0,
            mmap_handle: self.file.as_raw_fd(),
        }
    }
}

/// Offsets of one ring's parts in the region of rings.
#[derive(Clone, Copy)]
pub struct RingPlace {
    pub descriptors: usize,
    pub available: usize,
    pub used: usize,
}

pub struct Machine {
    pub rings: Region,
    pub requests: Region,
    pub places: Vec<RingPlace>,
    pub kicks: Vec<EventFd>,
    pub calls: Vec<EventFd>,
    /// Made by the first worker, kept for all that follow.
    pub inflight: Option<(VhostUserInflight, File)>,
    slot_bytes: usize,
}

impl Machine {
    pub fn new(options: &GuestOptions) -> io::Result<Self> {
        let size = usize::from(options.ring_size);
        let (descriptors, available, used) = (16 * size, 6 + 2 * size, 6 + 8 * size);
        let ring_bytes = (descriptors + available.next_multiple_of(4) + used).next_multiple_of(PAGE);
        let queues = usize::from(options.queues);
        let places = (0..queues).map(|queue| {
            let start = queue * ring_bytes;
            let available_at = start + descriptors;
            RingPlace {
                descriptors: start,
                available: available_at,
                used: available_at + available.next_multiple_of(4),
            }
        });
        let data_bytes = options.block_bytes as usize * options.longest_blocks as usize;
        let slot_bytes = SLOT_HEAD_BYTES + data_bytes.next_multiple_of(PAGE);
        let event = || EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC);
        Ok(Self {
            rings: Region::new("guest-rings", queues * ring_bytes, RINGS_AT)?,
            requests: Region::new("guest-requests", options.depth * slot_bytes, REQUESTS_AT)?,
            places: places.collect(),
            kicks: (0..queues).map(|_| event()).collect::<io::Result<_>>()?,
            calls: (0..queues).map(|_| event()).collect::<io::Result<_>>()?,
            inflight: None,
            slot_bytes,
        })
    }

    /// By ring: what the worker that is gone had taken and not answered. Nothing without an inflight region.
    pub fn left_in_flight(&self) -> Vec<u64> {
        let Some((shape, file)) = &self.inflight else { return Vec::new() };
        // The region is of our own making; one that cannot be read any more has nothing to tell.
        marked(file, shape.mmap_offset, shape.num_queues, shape.queue_size).unwrap_or_default()
    }

    /// Offset of a request's page in the region of requests; its data follows after [`SLOT_HEAD_BYTES`].
    pub fn slot(&self, index: usize) -> usize {
        index * self.slot_bytes
    }
}
