//! Wakes a thread that sleeps in its reactor, and costs no system call while it is awake.
//!
//! ```text
//!   waker:    publish ─► fence ─► asleep? ─yes─► write the eventfd
//!   sleeper:  asleep = yes ─► fence ─► anything published? ─no─► poll the eventfd
//! ```
//! Whatever the order, one of them sees the other: the two fences are what makes it so.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use rustix::event::{EventfdFlags, eventfd};

#[derive(Clone)]
pub(super) struct Bell {
    fd: Arc<OwnedFd>,
    asleep: Arc<AtomicBool>,
}

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { fd: Arc::new(fd), asleep: Arc::default() })
    }

    /// The same bell by a descriptor of its own, for a thread that has a table of its own: each side closes what is in its table.
    pub(super) fn other_end(&self) -> io::Result<Self> {
        Ok(Self { fd: Arc::new(self.fd.try_clone()?), asleep: Arc::clone(&self.asleep) })
    }

    /// Readable when the bell was rung.
    pub(super) fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// By the sleeper, before it sleeps: false when `nothing_there` says that something came meanwhile.
    pub(super) fn may_sleep(&self, nothing_there: impl FnOnce() -> bool) -> bool {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let sleep = nothing_there();
        if !sleep {
            self.is_awake();
        }
        sleep
    }

    /// By the sleeper: it looks by itself from now on.
    pub(super) fn is_awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// By the waker, behind what it has published.
    pub(super) fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.swap(false, Ordering::Relaxed) {
            self.sound();
        }
    }

    /// Makes the descriptor readable whether anybody sleeps or not.
    pub(super) fn sound(&self) {
        // It never blocks. A full counter (2^64 - 2 rings unheard) is readable all the same.
        rustix::io::write(&*self.fd, &1u64.to_ne_bytes()).ok();
    }

    /// By the sleeper, when the descriptor was readable.
    pub(super) fn silence(&self) {
        let mut count = [0u8; 8];
        // Nothing to read: it was silenced already.
        rustix::io::read(&*self.fd, &mut count).ok();
    }
}
