//! The inflight region (spec: "Inflight I/O tracking", split rings): which requests this back end has taken and not
//! answered, in memory that the front end keeps when this process dies. `mod.rs` says why that makes a crash harmless.
//!
//! ```text
//!   per ring, 64-byte aligned:
//!   0         8        10        12               14        16
//!   ┌─────────┬────────┬─────────┬────────────────┬─────────┬───────────────────────────────────────────┬─ ...
//!   │features │version │desc_num │last_batch_head │used_idx │inflight u8 │ pad 5 │ next u16 │ counter u64│ × desc_num
//!   └─────────┴────────┴─────────┴────────────────┴─────────┴───────────────────────────────────────────┴─ ...
//! ```
//! Host byte order: both sides are on one machine.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

use super::MAX_QUEUES;
use super::ring::MAX_RING_SIZE;
use crate::disk::{DiskError, ErrorKind};
use crate::memory_guard::Guard;

const HEADER_BYTES: usize = 16;
const ENTRY_BYTES: usize = 16;
/// One cache line, so that two rings never share one.
const ALIGNMENT: usize = 64;
const VERSION: u16 = 1;
const PAGE_BYTES: usize = 4096;

/// Bytes of the region for `queues` rings of `ring_size` entries.
pub fn region_bytes(queues: u16, ring_size: u16) -> u64 {
    (usize::from(queues) * stride(ring_size)) as u64
}

fn stride(ring_size: u16) -> usize {
    (HEADER_BYTES + ENTRY_BYTES * usize::from(ring_size)).next_multiple_of(ALIGNMENT)
}

/// A new, empty region for GET_INFLIGHT_FD. Sealed, so that no front end can shrink it under this process.
pub fn create_region(queues: u16, ring_size: u16) -> Result<File, DiskError> {
    let failed = |what: &str, e: rustix::io::Errno| {
        let mut error = DiskError::new(ErrorKind::Io, format!("cannot make the inflight region: {what}"));
        error.source = Some(e.into());
        error
    };
    check_shape(queues, ring_size)?;
    let fd = memfd_create("vmstorage-inflight", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(|e| failed("memfd_create", e))?;
    ftruncate(&fd, region_bytes(queues, ring_size)).map_err(|e| failed("ftruncate", e))?;
    fcntl_add_seals(&fd, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL).map_err(|e| failed("seals", e))?;
    Ok(fd.into())
}

fn check_shape(queues: u16, ring_size: u16) -> Result<(), DiskError> {
    if queues == 0 || queues > MAX_QUEUES || ring_size == 0 || ring_size > MAX_RING_SIZE {
        let what = format!("an inflight region of {queues} rings of {ring_size} entries");
        return Err(DiskError::new(
            ErrorKind::Protocol,
            format!("{what} is refused: at most {MAX_QUEUES} of {MAX_RING_SIZE}"),
        ));
    }
    Ok(())
}

/// The region of one connection, mapped. The file may be one that the front end made itself, and can cut short.
pub struct InflightRegion {
    guard: Guard,
    map: MmapRaw,
    queues: u16,
    ring_size: u16,
}

impl InflightRegion {
    /// Maps what SET_INFLIGHT_FD passed. A region that was never used is made ready; any other must have our shape.
    pub fn attach(file: &File, offset: u64, len: u64, queues: u16, ring_size: u16) -> Result<Arc<Self>, DiskError> {
        let refuse =
            |why: String| DiskError::new(ErrorKind::Protocol, format!("the inflight region is refused: {why}"));
        check_shape(queues, ring_size)?;
        let wanted = region_bytes(queues, ring_size);
        let file_bytes = file.metadata().map_err(|e| refuse(e.to_string()))?.len();
        if len < wanted || offset.checked_add(len).is_none_or(|end| end > file_bytes) || !offset.is_multiple_of(8) {
            return Err(refuse(format!("{len} bytes at {offset} of a file of {file_bytes}, {wanted} are needed")));
        }
        let map =
            MmapOptions::new().offset(offset).len(wanted as usize).map_raw(file).map_err(|e| refuse(e.to_string()))?;
        // The mapping begins with the page that `offset` is in.
        let page = map.as_ptr().map_addr(|at| at & !(PAGE_BYTES - 1));
        let len = (map.as_ptr() as usize - page as usize + map.len()).next_multiple_of(PAGE_BYTES);
        let guard = Guard::new(page, len).map_err(|e| refuse(e.to_string()))?;
        let region = Arc::new(Self { guard, map, queues, ring_size });
        for index in 0..queues {
            let Some(ring) = InflightRing::new(&region, index) else { continue };
            match (ring.version().load(Ordering::Acquire), ring.entries().load(Ordering::Relaxed)) {
                (0, _) => {
                    ring.entries().store(ring_size, Ordering::Relaxed);
                    ring.version().store(VERSION, Ordering::Release);
                }
                (VERSION, entries) if entries == ring_size => {}
                (version, entries) => {
                    return Err(refuse(format!("ring {index} has version {version} and {entries} entries")));
                }
            }
        }
        Ok(region)
    }

    /// The front end has taken the region away.
    pub fn is_lost(&self) -> bool {
        self.guard.is_lost()
    }
}

/// One ring's part of the region. Used by the reactor thread alone.
pub struct InflightRing {
    region: Arc<InflightRegion>,
    base: *mut u8,
    counter: u64,
}

// SAFETY: the pointer stays valid with `region` on any thread, and every access through it is atomic.
unsafe impl Send for InflightRing {}

impl InflightRing {
    pub fn new(region: &Arc<InflightRegion>, index: u16) -> Option<Self> {
        let offset = usize::from(index) * stride(region.ring_size);
        (index < region.queues).then(|| Self {
            region: region.clone(),
            base: region.map.as_mut_ptr().wrapping_add(offset),
            counter: 0,
        })
    }

    /// Entries the region has for this ring: a ring may be smaller, never larger.
    pub fn len(&self) -> u16 {
        self.region.ring_size
    }

    /// The request at `head` is about to be submitted. `head` is below [`InflightRing::len`].
    pub fn mark(&mut self, head: u16) {
        self.counter = self.counter.wrapping_add(1);
        self.entry_counter(head).store(self.counter, Ordering::Relaxed);
        self.entry_inflight(head).store(1, Ordering::Release);
    }

    /// The request at `head` belongs to the batch that the next store of `used.idx` reports.
    pub fn link(&mut self, head: u16) {
        let previous = self.last_batch_head().load(Ordering::Relaxed);
        self.entry_next(head).store(previous, Ordering::Release);
        self.last_batch_head().store(head, Ordering::Release);
    }

    /// The batch has been reported: `used` is the ring's `used.idx` now.
    pub fn settle(&mut self, heads: impl Iterator<Item = u16>, used: u16) {
        for head in heads {
            self.entry_inflight(head).store(0, Ordering::Release);
        }
        self.used_idx().store(used, Ordering::Release);
    }

    /// Puts the region right after a crash and returns the heads to execute again, oldest first.
    /// `used` is `used.idx` of the ring, `ring_size` its entries.
    pub fn recover(&mut self, used: u16, ring_size: u16) -> Vec<u16> {
        let entries = self.region.ring_size.min(ring_size);
        let behind = used.wrapping_sub(self.used_idx().load(Ordering::Acquire));
        // More than a ring behind: the region is new to this ring (a migrated guest), so there is no last batch.
        if behind <= entries {
            let mut head = self.last_batch_head().load(Ordering::Acquire);
            for _ in 0..behind {
                if head >= entries {
                    break; // not ours; what is marked is executed again, which is the safe side
                }
                self.entry_inflight(head).store(0, Ordering::Release);
                head = self.entry_next(head).load(Ordering::Acquire);
            }
        }
        self.used_idx().store(used, Ordering::Release);
        let marked = |head: &u16| self.entry_inflight(*head).load(Ordering::Acquire) != 0;
        let mut heads: Vec<u16> = (0..entries).filter(marked).collect();
        heads.sort_by_key(|head| self.entry_counter(*head).load(Ordering::Relaxed));
        let newest = heads.last().map(|head| self.entry_counter(*head).load(Ordering::Relaxed));
        self.counter = newest.unwrap_or(0);
        heads
    }

    fn version(&self) -> &AtomicU16 {
        self.u16_at(8)
    }

    fn entries(&self) -> &AtomicU16 {
        self.u16_at(10)
    }

    fn last_batch_head(&self) -> &AtomicU16 {
        self.u16_at(12)
    }

    fn used_idx(&self) -> &AtomicU16 {
        self.u16_at(14)
    }

    fn entry_inflight(&self, head: u16) -> &AtomicU8 {
        // SAFETY: as for `u16_at`; a byte needs no alignment.
        unsafe { AtomicU8::from_ptr(self.base.add(self.entry(head))) }
    }

    fn entry_next(&self, head: u16) -> &AtomicU16 {
        self.u16_at(self.entry(head) + 6)
    }

    fn entry_counter(&self, head: u16) -> &AtomicU64 {
        // SAFETY: as for `u16_at`; the ring starts on a multiple of 8 and the entry's counter does too.
        unsafe { AtomicU64::from_ptr(self.base.add(self.entry(head) + 8).cast()) }
    }

    fn entry(&self, head: u16) -> usize {
        debug_assert!(head < self.region.ring_size);
        HEADER_BYTES + ENTRY_BYTES * usize::from(head.min(self.region.ring_size - 1))
    }

    fn u16_at(&self, offset: usize) -> &AtomicU16 {
        // SAFETY: `base` is this ring's part of a mapping that `region` keeps, checked in `attach` to be large enough for
        // every entry (`entry` clamps the index); offsets are even and the part starts on a multiple of 8. The memory is
        // shared with the front end, which also uses it atomically if at all.
        unsafe { AtomicU16::from_ptr(self.base.add(offset).cast()) }
    }
}

/// How many requests the region in `file` has marked, by ring: what a back end that is gone had taken and not answered.
#[cfg(feature = "testing")]
pub fn marked(file: &File, offset: u64, queues: u16, ring_size: u16) -> Result<Vec<u64>, DiskError> {
    let region = InflightRegion::attach(file, offset, region_bytes(queues, ring_size), queues, ring_size)?;
    let count = |ring: InflightRing| {
        (0..ring_size).filter(|head| ring.entry_inflight(*head).load(Ordering::Acquire) != 0).count() as u64
    };
    Ok((0..queues).filter_map(|index| InflightRing::new(&region, index)).map(count).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u16 = 8;

    fn region() -> Arc<InflightRegion> {
        let file = create_region(2, SIZE).unwrap();
        InflightRegion::attach(&file, 0, region_bytes(2, SIZE), 2, SIZE).unwrap()
    }

    fn ring(region: &Arc<InflightRegion>) -> InflightRing {
        InflightRing::new(region, 1).unwrap()
    }

    #[test]
    fn the_size_is_what_qemu_gets_from_libvhost_user() {
        assert_eq!(region_bytes(1, 128), 2112);
    }

    #[test]
    fn what_was_taken_and_not_reported_comes_back_in_the_order_it_was_taken() {
        let region = region();
        let mut before = ring(&region);
        for head in [5, 2, 7, 0] {
            before.mark(head);
        }
        before.link(2);
        before.settle([2].into_iter(), 1);
        assert_eq!(ring(&region).recover(1, SIZE), [5, 7, 0]);
    }

    #[test]
    fn a_crash_between_any_two_steps_of_a_batch_repeats_all_or_nothing_of_it() {
        // The batch {3, 1} completes while 6 is in flight; used.idx moves from 10 to 12.
        for killed_after in 0..=7 {
            let region = region();
            let mut dying = ring(&region);
            dying.used_idx().store(10, Ordering::Relaxed);
            [3, 6, 1].into_iter().for_each(|head| dying.mark(head));
            let mut used = 10;
            type Step = Box<dyn FnMut(&mut InflightRing, &mut u16)>;
            let mut steps: Vec<Step> = vec![
                Box::new(|r, _| r.link(3)),
                Box::new(|r, _| r.entry_next(1).store(3, Ordering::Relaxed)), // half of link(1)
                Box::new(|r, _| r.link(1)),
                Box::new(|_, used| *used = 12),
                Box::new(|r, _| r.entry_inflight(3).store(0, Ordering::Relaxed)), // half of settle
                Box::new(|r, _| r.entry_inflight(1).store(0, Ordering::Relaxed)),
                Box::new(|r, used| r.settle([3, 1].into_iter(), *used)),
            ];
            for step in steps.iter_mut().take(killed_after) {
                step(&mut dying, &mut used);
            }
            let again = ring(&region).recover(used, SIZE);
            let expected: &[u16] = if used == 10 { &[3, 6, 1] } else { &[6] };
            assert_eq!(again, expected, "killed after step {killed_after}");
            assert_eq!(ring(&region).recover(used, SIZE), expected, "recovering twice changes nothing");
        }
    }

    #[test]
    fn a_region_that_is_new_to_a_ring_repeats_nothing() {
        assert!(ring(&region()).recover(5000, SIZE).is_empty());
    }

    #[test]
    fn the_counter_goes_on_after_a_recovery() {
        let region = region();
        ring(&region).mark(4);
        let mut next = ring(&region);
        next.recover(0, SIZE);
        next.mark(1);
        assert_eq!(ring(&region).recover(0, SIZE), [4, 1]);
    }

    #[test]
    fn a_region_that_does_not_fit_is_refused() {
        let file = create_region(1, SIZE).unwrap();
        let len = region_bytes(1, SIZE);
        assert!(InflightRegion::attach(&file, 0, len - 1, 1, SIZE).is_err(), "too short");
        assert!(InflightRegion::attach(&file, 64, len, 1, SIZE).is_err(), "beyond the file");
        assert!(InflightRegion::attach(&file, 0, len, 2, SIZE).is_err(), "more rings");
        assert!(InflightRegion::attach(&file, 0, len, 1, SIZE).is_ok());
        let half = InflightRegion::attach(&file, 0, region_bytes(1, SIZE / 2), 1, SIZE / 2);
        assert!(half.is_err(), "another size than it was made for");
        assert!(create_region(MAX_QUEUES + 1, SIZE).is_err());
    }
}
