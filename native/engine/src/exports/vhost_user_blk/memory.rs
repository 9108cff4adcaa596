//! The guest's memory as this process sees it.
//!
//! A map is never changed: a message that adds or removes a region makes a new one and swaps it in, and every request in
//! flight keeps the map its buffers lie in. So SET_MEM_TABLE cannot unmap memory the kernel is still reading or writing.
//! Regions may arrive one by one and after a ring was enabled (CONFIGURE_MEM_SLOTS).
//!
//! A front end may cut short the file it has passed. A memfd that can be sealed is sealed against that; other memory is guarded: what is
//! cut off reads as zeros, and the rings are broken down (memory_guard.rs).

use std::fs::File;
use std::sync::Arc;

use arc_swap::ArcSwap;
use vm_memory::{
    Address, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
    MmapRegion,
};

use crate::disk::{DiskError, ErrorKind, IoVecs};
use crate::memory_guard::Guard;

/// Regions at most: what QEMU takes a vhost-user back end to be able to hold.
pub const MAX_REGIONS: usize = 509;

/// The current map, read by the reactor thread once per batch of requests.
pub type SharedMemory = ArcSwap<MemoryMap>;

/// One region as a message describes it. All in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionPlace {
    /// The guest's physical address: descriptors use these.
    pub guest: u64,
    pub len: u64,
    /// The same byte in the front end's own address space: ring addresses use these.
    pub user: u64,
    /// Where the region starts in the file that was passed along.
    pub file_offset: u64,
}

#[derive(Default)]
pub struct MemoryMap {
    /// Before the mappings they are of: fields are dropped in this order, and whoever holds a mapping holds its guard.
    guards: Vec<Arc<Guard>>,
    guest: GuestMemoryMmap,
    places: Vec<RegionPlace>,
}

impl MemoryMap {
    pub fn from_table(table: impl IntoIterator<Item = (RegionPlace, File)>) -> Result<Self, DiskError> {
        table.into_iter().try_fold(Self::default(), |map, (place, file)| map.with_region(place, file))
    }

    pub fn with_region(&self, place: RegionPlace, file: File) -> Result<Self, DiskError> {
        let refuse = |why: String| {
            DiskError::new(ErrorKind::Protocol, format!("cannot map the guest's memory at {:#x}: {why}", place.guest))
        };
        if self.places.len() >= MAX_REGIONS {
            return Err(refuse(format!("there are already {MAX_REGIONS} regions")));
        }
        if place.user.checked_add(place.len).is_none() {
            return Err(refuse("its user address overflows".into()));
        }
        // Touching a mapping beyond the end of its file would be a SIGBUS.
        seal(&file);
        let found = file.metadata().map_err(|e| refuse(e.to_string()))?;
        let end = place.file_offset.checked_add(place.len);
        if found.is_file() && end.is_none_or(|end| end > found.len()) {
            return Err(refuse(format!("{} bytes at {} of a file of {}", place.len, place.file_offset, found.len())));
        }
        let mapped = MmapRegion::from_file(FileOffset::new(file, place.file_offset), place.len as usize)
            .map_err(|e| refuse(e.to_string()))?;
        let guard = Guard::new(mapped.as_ptr(), mapped.size()).map_err(|e| refuse(e.to_string()))?;
        let region = GuestRegionMmap::new(mapped, GuestAddress(place.guest))
            .ok_or_else(|| refuse("its guest address overflows".into()))?;
        let guest = self.guest.insert_region(Arc::new(region)).map_err(|e| refuse(e.to_string()))?;
        let mut places = self.places.clone();
        places.push(place);
        let mut guards = self.guards.clone();
        guards.push(Arc::new(guard));
        Ok(Self { guards, guest, places })
    }

    pub fn without_region(&self, place: RegionPlace) -> Result<Self, DiskError> {
        let unknown =
            || DiskError::new(ErrorKind::Protocol, format!("asked to drop unknown guest memory at {:#x}", place.guest));
        let known = |p: &RegionPlace| (p.guest, p.len, p.user) == (place.guest, place.len, place.user);
        let position = self.places.iter().position(known).ok_or_else(unknown)?;
        let (guest, _) = self.guest.remove_region(GuestAddress(place.guest), place.len).map_err(|_| unknown())?;
        let mut places = self.places.clone();
        places.remove(position);
        let mut guards = self.guards.clone();
        guards.remove(position); // in the order of the places
        Ok(Self { guards, guest, places })
    }

    /// The front end has taken memory away that it had passed.
    pub fn is_lost(&self) -> bool {
        self.guards.iter().any(|guard| guard.is_lost())
    }

    pub fn guest(&self) -> &GuestMemoryMmap {
        &self.guest
    }

    /// The guest address of a byte the front end knows by its own address.
    pub fn guest_address(&self, user: u64) -> Option<u64> {
        self.places.iter().find(|p| user >= p.user && user - p.user < p.len).map(|p| user - p.user + p.guest)
    }

    /// Appends where `len` bytes at guest address `start` lie in this process: one entry per region touched.
    /// False, with `out` as it was, when part of it is not mapped.
    pub fn host_ranges(&self, start: u64, len: u32, out: &mut IoVecs) -> bool {
        let before = out.len();
        let (mut address, mut left) = (GuestAddress(start), u64::from(len));
        while left > 0 {
            let Some((region, offset)) = self.guest.to_region_addr(address) else {
                out.truncate(before);
                return false;
            };
            let here = left.min(region.len() - offset.raw_value());
            let (Ok(host), Some(next)) = (region.get_host_address(offset), address.checked_add(here)) else {
                out.truncate(before);
                return false;
            };
            out.push(libc::iovec { iov_base: host.cast(), iov_len: here as usize });
            (address, left) = (next, left - here);
        }
        true
    }
}

/// Keeps a memfd from being cut short, if its maker allows seals; QEMU's has this one. No other file can be sealed.
fn seal(file: &File) {
    let _ = rustix::fs::fcntl_add_seals(file, rustix::fs::SealFlags::SHRINK);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    fn file(len: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(len).unwrap();
        file
    }

    fn place(guest: u64, user: u64) -> RegionPlace {
        RegionPlace { guest, len: 0x2000, user, file_offset: 0 }
    }

    #[test]
    fn a_buffer_across_two_regions_becomes_two_ranges() {
        let map =
            MemoryMap::from_table([(place(0x2000, 0x70000), file(0x2000)), (place(0, 0x50000), file(0x2000))]).unwrap();
        let mut out = IoVecs::new();
        assert!(map.host_ranges(0x1f00, 0x200, &mut out));
        assert_eq!(out.iter().map(|v| v.iov_len).collect::<Vec<_>>(), [0x100, 0x100]);
        assert!(!map.host_ranges(0x3f00, 0x200, &mut out), "the end of memory");
        assert!(!map.host_ranges(u64::MAX - 1, 4, &mut out), "an address that overflows");
        assert_eq!(out.len(), 2, "a refused range leaves nothing behind");
        assert_eq!(map.guest_address(0x70010), Some(0x2010));
        assert_eq!(map.guest_address(0x72000), None);
    }

    #[test]
    fn a_removed_region_stays_mapped_for_whoever_keeps_the_old_map() {
        let backing = file(0x2000);
        backing.write_at(b"guest", 0x10).unwrap();
        let old = MemoryMap::from_table([(place(0, 0), backing)]).unwrap();
        let new = old.without_region(place(0, 0)).unwrap();
        assert!(!new.host_ranges(0, 1, &mut IoVecs::new()));
        let mut out = IoVecs::new();
        assert!(old.host_ranges(0x10, 5, &mut out));
        // SAFETY: `old` keeps the five bytes mapped.
        assert_eq!(unsafe { std::slice::from_raw_parts(out[0].iov_base.cast::<u8>(), 5) }, b"guest");
        assert!(new.without_region(place(0, 0)).is_err());
    }

    #[test]
    fn overlapping_or_too_short_memory_is_refused() {
        let map = MemoryMap::from_table([(place(0, 0), file(0x2000))]).unwrap();
        assert!(map.with_region(place(0x1000, 0x9000), file(0x2000)).is_err());
        assert!(map.with_region(place(0x8000, 0x9000), file(0x1000)).is_err());
    }
}
