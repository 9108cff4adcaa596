//! One split ring (virtio 1.2, 2.7): which requests are taken, and how completions are told to the guest.
//!
//! ```text
//!   Stopped ── start (addresses, kick and enabled are there) ──► Running ── stop (GET_VRING_BASE, reset, disconnect) ──► Stopped
//!                                                                   └── break_down (the driver broke the rules) ──► Broken ─┘
//! ```
//! Only a running, enabled ring takes requests; what it has taken completes in any state. The available side is
//! `virtio_queue::Queue`; the used side is here, because the inflight region demands that a batch becomes visible by
//! one store (`Queue::add_used` stores once per request).

use std::fs::File;
use std::sync::atomic::{Ordering, fence};

use virtio_bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress};

use super::inflight::InflightRing;
use super::memory::MemoryMap;

/// Entries of a ring: QEMU's own limit, and what fits the kernel's 1024 buffers per call.
pub const MAX_RING_SIZE: u16 = 1024;

/// What the front end gave to be told by.
#[derive(Default)]
pub enum Kick {
    #[default]
    Missing,
    /// No descriptor: look at the ring.
    Polled,
    Event(File),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Stopped,
    Running,
    Broken,
}

/// Guest addresses of the three parts of a ring.
#[derive(Clone, Copy)]
pub struct RingAddresses {
    pub descriptors: u64,
    pub available: u64,
    pub used: u64,
}

/// A ring cannot be started or read any more; says why.
#[derive(Debug)]
pub struct RingError(pub String);

impl From<virtio_queue::Error> for RingError {
    fn from(error: virtio_queue::Error) -> Self {
        Self(error.to_string())
    }
}

pub struct Ring {
    queue: Queue,
    state: State,
    enabled: bool,
    addresses: Option<RingAddresses>,
    base: u16,
    pub kick: Kick,
    call: Option<File>,
    error: Option<File>,
    inflight: Option<InflightRing>,
    /// The front end passed an inflight region that has no part for this ring.
    inflight_missing: bool,
    event_idx: bool,
    next_used: u16,
    /// Heads taken and not published. The guest may use a head again only after it was published.
    taken: Vec<bool>,
    in_flight: u16,
    /// Completed in this turn, in order: head and bytes written.
    done: Vec<(u16, u32)>,
    muted: bool,
    taken_in_turn: usize,
    last_error: Option<String>,
}

impl Ring {
    pub fn new() -> Self {
        // `Queue::new` refuses nothing but sizes that are no power of two up to 32768.
        let queue = Queue::new(MAX_RING_SIZE).unwrap_or_default();
        Self {
            queue,
            state: State::Stopped,
            enabled: false,
            addresses: None,
            base: 0,
            kick: Kick::Missing,
            call: None,
            error: None,
            inflight: None,
            inflight_missing: false,
            event_idx: false,
            next_used: 0,
            taken: Vec::new(),
            in_flight: 0,
            done: Vec::new(),
            muted: false,
            taken_in_turn: 0,
            last_error: None,
        }
    }

    pub fn set_size(&mut self, size: u32) -> Result<(), RingError> {
        self.must_be_stopped("its size")?;
        let size = u16::try_from(size).map_err(|_| RingError(format!("a ring of {size} entries")))?;
        self.queue
            .try_set_size(size)
            .map_err(|_| RingError(format!("a ring of {size} entries: not a power of two up to {MAX_RING_SIZE}")))
    }

    /// Also while running: QEMU sends them again when it starts to log writes.
    pub fn set_addresses(&mut self, addresses: RingAddresses) -> Result<(), RingError> {
        self.queue.try_set_desc_table_address(GuestAddress(addresses.descriptors))?;
        self.queue.try_set_avail_ring_address(GuestAddress(addresses.available))?;
        self.queue.try_set_used_ring_address(GuestAddress(addresses.used))?;
        self.addresses = Some(addresses);
        Ok(())
    }

    pub fn set_base(&mut self, base: u32) -> Result<(), RingError> {
        self.must_be_stopped("its base")?;
        self.base = u16::try_from(base).map_err(|_| RingError(format!("a ring base of {base}")))?;
        Ok(())
    }

    fn must_be_stopped(&self, what: &str) -> Result<(), RingError> {
        if self.state == State::Stopped {
            return Ok(());
        }
        Err(RingError(format!("{what} was changed while the ring was running")))
    }

    pub fn set_enabled(&mut self, enabled: bool) {
        self.enabled = enabled;
    }

    /// This ring's part of the region the front end passed; `None`: the region has none, and the ring cannot start.
    pub fn set_inflight(&mut self, inflight: Option<InflightRing>) {
        self.inflight_missing = inflight.is_none();
        self.inflight = inflight;
    }

    /// Completions may have been published before the front end said where to tell them.
    pub fn set_call(&mut self, call: Option<File>) {
        self.call = call;
        if self.state != State::Stopped {
            self.interrupt();
        }
    }

    pub fn set_error(&mut self, error: Option<File>) {
        self.error = error;
    }

    pub fn takes_requests(&self) -> bool {
        self.state == State::Running && self.enabled
    }

    pub fn is_stopped(&self) -> bool {
        self.state == State::Stopped
    }

    pub fn is_polled(&self) -> bool {
        matches!(self.kick, Kick::Polled)
    }

    pub fn in_flight(&self) -> u16 {
        self.in_flight
    }

    pub fn size(&self) -> u16 {
        self.queue.size()
    }

    pub fn descriptor_table(&self) -> u64 {
        self.queue.desc_table()
    }

    /// What GET_VRING_BASE answers; right only when nothing is in flight.
    pub fn next_available(&self) -> u16 {
        if self.state == State::Stopped { self.base } else { self.queue.next_avail() }
    }

    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// Starts a stopped ring once everything it needs has arrived. Returns the heads a dead back end left behind, in the
    /// order to execute them.
    pub fn start_if_ready(&mut self, map: &MemoryMap, event_idx: bool) -> Result<Vec<u16>, RingError> {
        let ready = self.enabled && self.addresses.is_some() && !matches!(self.kick, Kick::Missing);
        if self.state != State::Stopped || !ready || self.in_flight > 0 {
            return Ok(Vec::new());
        }
        if self.inflight_missing {
            // Served without it, its requests would die with this process, and the front end believes that they do not.
            return Err(RingError("the inflight region has no part for this ring".into()));
        }
        self.queue.set_ready(true);
        if !self.queue.is_valid(map.guest()) {
            return Err(RingError("the ring is not inside the guest's memory".into()));
        }
        let used = self.queue.used_idx(map.guest(), Ordering::Acquire)?.0;
        let heads = match &mut self.inflight {
            Some(inflight) if inflight.len() < self.queue.size() => {
                return Err(RingError(format!(
                    "{} entries, {} in the inflight region",
                    self.queue.size(),
                    inflight.len()
                )));
            }
            Some(inflight) => inflight.recover(used, self.queue.size()),
            None => Vec::new(),
        };
        // The region knows what was taken; SET_VRING_BASE is what the front end believes, and after a crash it is wrong.
        let next_available = if self.inflight.is_some() { used.wrapping_add(heads.len() as u16) } else { self.base };
        self.queue.set_next_avail(next_available);
        self.queue.set_event_idx(event_idx);
        self.event_idx = event_idx;
        self.next_used = used;
        self.taken.clear();
        self.taken.resize(usize::from(self.queue.size()), false);
        self.done.reserve(usize::from(self.queue.size()));
        for head in &heads {
            self.taken[usize::from(*head)] = true;
        }
        self.in_flight = heads.len() as u16;
        self.state = State::Running;
        // A dead back end may have published without having told so.
        self.interrupt();
        Ok(heads)
    }

    /// The next head, not yet counted as taken: follow with [`Ring::accept`] or [`Ring::break_down`].
    pub fn next_head(&mut self, map: &MemoryMap) -> Option<u16> {
        if !self.takes_requests() {
            return None;
        }
        let head = match self.queue.iter(map.guest()) {
            Ok(mut available) => available.next()?.head_index(),
            Err(error) => {
                self.break_down(&error.to_string());
                return None;
            }
        };
        match self.taken.get(usize::from(head)) {
            Some(false) => Some(head),
            Some(true) => {
                self.give_back_broken("a head was made available again before it was used");
                None
            }
            None => {
                self.give_back_broken("a head beyond the ring was made available");
                None
            }
        }
    }

    /// `head` is being executed from here on, also after a crash.
    pub fn accept(&mut self, head: u16) {
        if let Some(inflight) = &mut self.inflight {
            inflight.mark(head);
        }
        self.taken[usize::from(head)] = true;
        self.in_flight += 1;
        self.taken_in_turn += 1;
    }

    /// Requests taken since [`Ring::begin_turn`].
    pub fn taken_in_turn(&self) -> usize {
        self.taken_in_turn
    }

    pub fn begin_turn(&mut self) {
        self.taken_in_turn = 0;
    }

    /// The chain of the head just returned by `next_head` cannot be answered.
    pub fn give_back_broken(&mut self, why: &str) {
        self.queue.go_to_previous_position();
        self.break_down(why);
    }

    /// The driver broke the rules of the ring: nothing more is taken until the device is reset.
    pub fn break_down(&mut self, why: &str) {
        if self.state == State::Running {
            self.state = State::Broken;
        }
        self.last_error = Some(why.to_owned());
        signal(self.error.as_ref());
    }

    pub fn complete(&mut self, head: u16, written: u32) {
        self.done.push((head, written));
    }

    /// Tells the guest about everything completed since the last time, at once. Returns how many.
    pub fn publish(&mut self, map: &MemoryMap) -> usize {
        let count = self.done.len();
        if count == 0 {
            return 0;
        }
        if let Err(error) = self.write_used(map) {
            self.break_down(&error.0);
        }
        for (head, _) in self.done.drain(..) {
            self.taken[usize::from(head)] = false;
        }
        self.in_flight -= count as u16;
        count
    }

    /// The order of stores is the crash safety: see `mod.rs`.
    fn write_used(&mut self, map: &MemoryMap) -> Result<(), RingError> {
        let unmapped = |_| RingError("the used ring is not inside the guest's memory".into());
        let (memory, ring) = (map.guest(), self.queue.used_ring());
        let (size, old) = (self.queue.size(), self.next_used);
        let mut used = old;
        for (head, written) in &self.done {
            let slot = u64::from(used % size);
            let element = u64::from(*head) | u64::from(*written) << 32; // id, len
            memory.write_obj(element.to_le(), GuestAddress(ring + 4 + 8 * slot)).map_err(unmapped)?;
            if let Some(inflight) = &mut self.inflight {
                inflight.link(*head);
            }
            used = used.wrapping_add(1);
        }
        memory.store(used.to_le(), GuestAddress(ring + 2), Ordering::Release).map_err(unmapped)?;
        self.next_used = used;
        if let Some(inflight) = &mut self.inflight {
            inflight.settle(self.done.iter().map(|(head, _)| *head), used);
        }
        if self.wants_interrupt(map, old, used).map_err(unmapped)? {
            self.interrupt();
        }
        Ok(())
    }

    fn wants_interrupt(&self, map: &MemoryMap, old: u16, new: u16) -> Result<bool, vm_memory::GuestMemoryError> {
        // The guest writes its wish and then reads `used.idx`; we do the reverse. Without the fence both could miss.
        fence(Ordering::SeqCst);
        let available = self.queue.avail_ring();
        if self.event_idx {
            let at = GuestAddress(available + 4 + 2 * u64::from(self.queue.size()));
            let event = u16::from_le(map.guest().load(at, Ordering::Relaxed)?);
            return Ok(new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old));
        }
        let flags = u16::from_le(map.guest().load(GuestAddress(available), Ordering::Relaxed)?);
        Ok(flags & VRING_AVAIL_F_NO_INTERRUPT as u16 == 0)
    }

    fn interrupt(&self) {
        signal(self.call.as_ref());
    }

    /// Asks the guest not to kick (`false`) or to kick. True: requests came in meanwhile, so look again.
    pub fn set_notification(&mut self, map: &MemoryMap, wanted: bool) -> bool {
        self.muted = !wanted;
        let result = match wanted {
            true => self.queue.enable_notification(map.guest()),
            false => self.queue.disable_notification(map.guest()).map(|()| false),
        };
        result.unwrap_or_else(|error| {
            self.break_down(&error.to_string());
            false
        })
    }

    /// False while the guest was asked not to kick.
    pub fn wants_kicks(&self) -> bool {
        !self.muted
    }

    /// Whether the guest made requests available that are not taken yet.
    pub fn has_requests(&self, map: &MemoryMap) -> bool {
        self.takes_requests()
            && self
                .queue
                .avail_idx(map.guest(), Ordering::Acquire)
                .is_ok_and(|index| index.0 != self.queue.next_avail())
    }

    /// Takes nothing more. What is in flight still completes and is published.
    pub fn stop(&mut self) {
        if self.state != State::Stopped {
            self.base = self.queue.next_avail();
            self.state = State::Stopped;
        }
        self.kick = Kick::Missing;
    }

    /// Forgets everything a front end set. Only with nothing in flight.
    pub fn reset(&mut self) {
        let last_error = self.last_error.take();
        *self = Self { last_error, ..Self::new() };
    }
}

/// One write to an eventfd. It would block only at a count of 2^64 - 2, which is out of reach of writes of 1.
fn signal(event: Option<&File>) {
    if let Some(event) = event {
        let _ = rustix::io::write(event, &1u64.to_ne_bytes());
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
