//! Mappings of files that somebody else can cut short. Touching what is cut off is a SIGBUS, which ends a process: the worker of a VM would
//! die of one front end, with the VM's other disks and its move.
//!
//! ```text
//!   touch ─► SIGBUS ─► address in a guarded mapping? ─ no ─► as it was before: the process ends
//!                                  │ yes
//!                                  ▼
//!            the whole mapping becomes zeros of this process alone, and is marked lost ─► the touch is repeated, and goes on
//! ```
//! Who looks at the mark (`Guard::is_lost`) ends what the memory was for. Who copied out of such memory asks [`faults`] before and after:
//! zeros that stand for lost bytes must not reach a disk. The kernel's own copies do not fault; they fail with EFAULT.
//!
//! The handler takes no lock and allocates nothing: it reads a table of fixed size and makes one system call.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};

/// Mappings at one time, of all disks of a process: a front end passes one or two, and each connection maps them for itself.
const MAX_GUARDS: usize = 4096;

struct Slot {
    /// 0: free. Written last, and taken back first.
    start: AtomicUsize,
    len: AtomicUsize,
    lost: AtomicBool,
}

static TABLE: [Slot; MAX_GUARDS] =
    [const { Slot { start: AtomicUsize::new(0), len: AtomicUsize::new(0), lost: AtomicBool::new(false) } }; MAX_GUARDS];
/// Held to change the table, never by the handler.
static CHANGES: Mutex<()> = Mutex::new(());
static INSTALLED: Once = Once::new();
/// Mappings lost so far: who watches many guards looks at them when this has changed.
static LOSSES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static FAULTS: Cell<u64> = const { Cell::new(0) };
}

/// One guarded mapping. Dropped before the mapping goes: then its addresses may be somebody else's.
#[derive(Debug)]
pub struct Guard(usize);

/// There are more mappings than are guarded.
#[derive(Debug, thiserror::Error)]
#[error("more than {MAX_GUARDS} mappings of guests' memory")]
pub struct TooMany;

impl Guard {
    /// `len` bytes from `start` are a mapping, in whole pages, that stays until after this is dropped.
    pub fn new(start: *const u8, len: usize) -> Result<Self, TooMany> {
        INSTALLED.call_once(install);
        let _changes = CHANGES.lock().unwrap_or_else(PoisonError::into_inner);
        let free = TABLE.iter().position(|slot| slot.start.load(Ordering::Relaxed) == 0).ok_or(TooMany)?;
        let slot = &TABLE[free];
        slot.len.store(len, Ordering::Relaxed);
        slot.lost.store(false, Ordering::Relaxed);
        slot.start.store(start as usize, Ordering::Release);
        Ok(Self(free))
    }

    pub fn is_lost(&self) -> bool {
        TABLE[self.0].lost.load(Ordering::Acquire)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _changes = CHANGES.lock().unwrap_or_else(PoisonError::into_inner);
        TABLE[self.0].start.store(0, Ordering::Release);
    }
}

/// How often this thread has touched memory that was lost.
pub fn faults() -> u64 {
    FAULTS.with(Cell::get)
}

/// How many mappings were lost, of any thread.
pub fn losses() -> usize {
    LOSSES.load(Ordering::Acquire)
}

fn install() {
    // SAFETY: the handler has the type that SA_SIGINFO asks for, and does only what a handler may.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_bus_error as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
    }
}

extern "C" fn on_bus_error(signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel passes a siginfo of this signal.
    let address = unsafe { (*info).si_addr() } as usize;
    let found = TABLE.iter().find(|slot| {
        let start = slot.start.load(Ordering::Acquire);
        start != 0 && address.wrapping_sub(start) < slot.len.load(Ordering::Relaxed)
    });
    let replaced = found.is_some_and(|slot| {
        let start = slot.start.load(Ordering::Acquire) as *mut libc::c_void;
        let (protection, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
        );
        // SAFETY: replaces a mapping of ours, whole, while its guard lives: nobody else's address is in it. Whoever touches it finds zeros.
        let mapped = unsafe { libc::mmap(start, slot.len.load(Ordering::Relaxed), protection, flags, -1, 0) };
        slot.lost.store(true, Ordering::Release);
        mapped != libc::MAP_FAILED
    });
    if replaced {
        LOSSES.fetch_add(1, Ordering::AcqRel);
        FAULTS.with(|count| count.set(count.get() + 1));
        return;
    }
    // Not ours: repeated, it does what it did before there was a handler.
    // SAFETY: as in `install`.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = libc::SIG_DFL;
        libc::sigaction(signal, &action, std::ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use memmap2::MmapRaw;
    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;

    const PAGES: usize = 4 * 4096;

    fn mapped() -> (File, MmapRaw) {
        let file = File::from(memfd_create("guarded", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(PAGES as u64).unwrap();
        let map = MmapRaw::map_raw(&file).unwrap();
        (file, map)
    }

    #[test]
    fn memory_that_is_cut_off_becomes_zeros_and_is_marked_and_the_other_mapping_is_as_it_was() {
        let ((cut, lost), (_whole, kept)) = (mapped(), mapped());
        let guards = [&lost, &kept].map(|map| Guard::new(map.as_ptr(), map.len()).unwrap());
        for map in [&lost, &kept] {
            // SAFETY: inside the mapping.
            unsafe { map.as_mut_ptr().add(5000).write_volatile(7) };
        }
        let before = (faults(), losses());
        cut.set_len(0).unwrap();
        // SAFETY: inside the mappings.
        let seen = unsafe { [&lost, &kept].map(|map| map.as_ptr().add(5000).read_volatile()) };
        assert_eq!(seen, [0, 7]);
        assert_eq!(guards.each_ref().map(Guard::is_lost), [true, false]);
        assert_eq!(faults(), before.0 + 1);
        assert!(losses() > before.1);
        // SAFETY: inside the mapping, which is this process's own memory by now.
        unsafe { lost.as_mut_ptr().write_volatile(1) };
        assert_eq!(faults(), before.0 + 1, "once for the whole mapping");
    }

    #[test]
    fn a_guard_that_is_gone_guards_nothing_and_leaves_its_place() {
        let (_file, map) = mapped();
        for _ in 0..2 * MAX_GUARDS {
            drop(Guard::new(map.as_ptr(), map.len()).unwrap());
        }
    }
}
