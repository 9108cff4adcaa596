//! The kick descriptors of all rings, behind one descriptor that the reactor polls.
//!
//! The kicks are collected in an epoll set, edge triggered. So a ring can drop its kick at any moment (a poll already
//! handed to the kernel cannot be called back, and would pin a descriptor of the front end), one operation waits for all
//! rings, and a kick costs one system call: with edges the eventfd's counter need not be read back.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

use super::MAX_QUEUES;

/// Stands for the set's own doorbell among ring indices.
const DOORBELL: u64 = u64::MAX;

pub struct Kicks {
    set: Option<OwnedFd>,
    doorbell: OwnedFd,
    /// True while the reactor polls `set`: the descriptor must stay open until it says it is done.
    armed: bool,
}

/// Bit i: ring i was kicked.
pub type Kicked = u64;
const _: () = assert!(MAX_QUEUES as u32 <= Kicked::BITS);

impl Kicks {
    pub fn new() -> rustix::io::Result<Self> {
        let set = epoll::create(CreateFlags::CLOEXEC)?;
        let doorbell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&set, &doorbell, EventData::new_u64(DOORBELL), EventFlags::IN)?;
        Ok(Self { set: Some(set), doorbell, armed: false })
    }

    pub fn watch(&self, ring: usize, kick: &File) -> rustix::io::Result<()> {
        let Some(set) = &self.set else { return Err(rustix::io::Errno::BADF) };
        epoll::add(set, kick, EventData::new_u64(ring as u64), EventFlags::IN | EventFlags::ET)
    }

    pub fn forget(&self, kick: &File) {
        if let Some(set) = &self.set {
            // Cannot fail for a descriptor that was added, and dropping the file would have removed it as well.
            let _ = epoll::delete(set, kick);
        }
    }

    /// The descriptor to poll, once at a time.
    pub fn arm(&mut self) -> Option<RawFd> {
        let set = self.set.as_ref().filter(|_| !self.armed)?;
        self.armed = true;
        Some(set.as_raw_fd())
    }

    /// The poll is done: which rings were kicked since the last time.
    pub fn take(&mut self) -> Kicked {
        self.armed = false;
        let Some(set) = &self.set else { return 0 };
        let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; MAX_QUEUES as usize + 1];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let Ok(count) = epoll::wait(set, &mut events[..], Some(&now)) else { return Kicked::MAX };
        let rings =
            events.iter().take(count).map(|event| event.data.u64()).filter(|ring| *ring < u64::from(MAX_QUEUES));
        rings.fold(0, |kicked, ring| kicked | (1 as Kicked) << ring)
    }

    pub fn is_armed(&self) -> bool {
        self.armed
    }

    /// Makes the poll complete, so that nothing of this set is left with the reactor.
    pub fn ring_doorbell(&self) {
        // Full means rung already.
        let _ = rustix::io::write(&self.doorbell, &1u64.to_ne_bytes());
    }
}

impl Drop for Kicks {
    fn drop(&mut self) {
        if self.armed {
            // The reactor still polls it: closing would let another file take its number. Happens only when a service
            // stops without closing its exports first, at the end of a process.
            std::mem::forget(self.set.take());
        }
    }
}
