//! The export itself, on the reactor thread: takes requests off the rings, hands them to the service, publishes what is done.
//!
//! ```text
//!   kick or poll ─► Ring::next_head ─► Parts::gather, parse ─► accept ─► ExportCx::request
//!                                                                              │
//!   guest ◄─ Ring::publish (once per turn and ring) ◄─ complete ◄─ on_done ◄───┘
//! ```

use std::any::Any;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use slab::Slab;

use super::MAX_QUEUES;
use super::chain::{Malformed, Parts, Status, Wanted};
use super::features::{EVENT_IDX, FLUSH, PROTOCOL_FEATURES};
use super::inflight::{InflightRegion, InflightRing};
use super::kicks::{Kicked, Kicks};
use super::memory::{MemoryMap, SharedMemory};
use super::ring::{Kick, Ring, RingError};
use crate::disk::{ByteRange, DiskError, Errno, ErrorKind, Request, RequestKind};
use crate::exports::{Export, ExportCx};
use crate::reactor::{Op, PollWindow};

/// VIRTIO_BLK_ID_BYTES: what GET_ID answers, padded with zeros.
const IDENTITY_BYTES: usize = 20;
/// Requests taken off one ring in one go. The rest stays in the ring, which is asked again before anybody sleeps: a guest that fills its
/// ring as fast as it is emptied must not keep the turn of the reactor from going on.
const TAKEN_AT_ONCE: usize = 128;
/// The only I/O of the export's own: the poll of the kicks.
const KICKS_SLOT: u32 = 0;

/// A request the service works on, or several for one chain (the segments of a discard).
struct Live {
    ring: usize,
    head: u16,
    /// Requests handed in and not done.
    pending: u32,
    answer: Status,
    /// Bytes written into the guest if all goes well, the status byte not counted.
    written: u32,
    status: *mut u8,
    /// Keeps the memory that `status` and the buffers lie in mapped, whatever the front end changes meanwhile.
    _map: Arc<MemoryMap>,
}

// SAFETY: `status` points into memory that `_map` keeps mapped, on whatever thread.
unsafe impl Send for Live {}

/// Told once `ring` (or every ring) has nothing in flight.
struct DrainWaiter {
    ring: Option<usize>,
    done: SyncSender<()>,
}

/// One disk's vhost-user-blk device. Add it to a service, then [`super::listen`].
pub struct VhostUserBlk {
    identity: [u8; IDENTITY_BYTES],
    rings: Vec<Ring>,
    memory: Arc<SharedMemory>,
    features: u64,
    inflight: Option<Arc<InflightRegion>>,
    live: Slab<Live>,
    parts: Parts,
    kicks: Kicks,
    window: PollWindow,
    waiters: Vec<DrainWaiter>,
    closing: bool,
}

impl VhostUserBlk {
    /// `queues`: 1 to 16. `serial`: what the guest sees as the disk's serial number, cut at 20 bytes.
    pub fn new(queues: u16, serial: &str) -> Result<Self, DiskError> {
        if queues == 0 || queues > MAX_QUEUES {
            let what = format!("a vhost-user disk with {queues} queues was asked for; 1 to {MAX_QUEUES} are possible");
            return Err(DiskError::new(ErrorKind::InvalidArgument, what));
        }
        let kicks = Kicks::new().map_err(|errno| {
            let mut error = DiskError::new(ErrorKind::Io, "cannot make the descriptors that kicks are waited on with");
            error.source = Some(errno.into());
            error
        })?;
        let mut identity = [0; IDENTITY_BYTES];
        identity.iter_mut().zip(serial.bytes()).for_each(|(to, from)| *to = from);
        Ok(Self {
            identity,
            rings: (0..queues).map(|_| Ring::new()).collect(),
            memory: Arc::default(),
            features: 0,
            inflight: None,
            live: Slab::new(),
            parts: Parts::default(),
            kicks,
            window: PollWindow::new(Instant::now()),
            waiters: Vec::new(),
            closing: false,
        })
    }

    // ---- what the control thread asks for, on the reactor thread ----

    /// Where the control thread puts a new memory map.
    pub(super) fn memory(&self) -> Arc<SharedMemory> {
        self.memory.clone()
    }

    pub(super) fn queues(&self) -> u16 {
        self.rings.len() as u16
    }

    pub(super) fn set_features(&mut self, features: u64, cx: &mut dyn ExportCx) -> Result<(), RingError> {
        self.features = features;
        if features & PROTOCOL_FEATURES != 0 {
            return Ok(());
        }
        // Without protocol features there is no SET_VRING_ENABLE: a ring is enabled from the start.
        self.rings.iter_mut().for_each(|ring| ring.set_enabled(true));
        (0..self.rings.len()).try_for_each(|index| self.start_if_ready(index, cx))
    }

    /// Takes effect when a ring starts.
    pub(super) fn set_inflight(&mut self, region: Arc<InflightRegion>) {
        for (index, ring) in self.rings.iter_mut().enumerate() {
            ring.set_inflight(InflightRing::new(&region, index as u16));
        }
        self.inflight = Some(region);
    }

    /// Changes ring `index`, then starts it if that was the last thing missing.
    pub(super) fn change_ring(
        &mut self,
        index: usize,
        cx: &mut dyn ExportCx,
        change: impl FnOnce(&mut Ring) -> Result<(), RingError>,
    ) -> Result<(), RingError> {
        let Some(ring) = self.rings.get_mut(index) else {
            return Err(RingError(format!("there is no ring {index}")));
        };
        change(ring)?;
        self.start_if_ready(index, cx)
    }

    pub(super) fn set_kick(&mut self, index: usize, kick: Kick, cx: &mut dyn ExportCx) -> Result<(), RingError> {
        let Some(ring) = self.rings.get_mut(index) else {
            return Err(RingError(format!("there is no ring {index}")));
        };
        if let Kick::Event(old) = &ring.kick {
            self.kicks.forget(old);
        }
        if let Kick::Event(new) = &kick {
            let failed = |errno| RingError(format!("the kick descriptor cannot be waited on: {errno}"));
            self.kicks.watch(index, new).map_err(failed)?;
        }
        ring.kick = kick;
        self.start_if_ready(index, cx)
    }

    /// Takes nothing more off ring `index` (`None`: off any); `done` is told when what is in flight has been published.
    pub(super) fn stop(&mut self, index: Option<usize>, done: SyncSender<()>) {
        for (number, ring) in self.rings.iter_mut().enumerate() {
            if index.is_none_or(|index| index == number) {
                if let Kick::Event(kick) = &ring.kick {
                    self.kicks.forget(kick);
                }
                ring.stop();
            }
        }
        self.waiters.push(DrainWaiter { ring: index, done });
        self.tell_drained();
    }

    pub(super) fn next_available(&self, index: usize) -> Option<u16> {
        self.rings.get(index).map(Ring::next_available)
    }

    /// What RESET_DEVICE asks for, after all rings have been stopped: memory and inflight region stay.
    pub(super) fn reset_rings(&mut self) {
        self.rings.iter_mut().for_each(Ring::reset);
        if let Some(region) = self.inflight.clone() {
            self.set_inflight(region);
        }
    }

    /// The front end is gone, after all rings have been stopped: nothing of it is kept.
    pub(super) fn forget_front_end(&mut self) {
        self.inflight = None;
        self.rings.iter_mut().for_each(Ring::reset);
        self.memory.store(Arc::default());
        self.features = 0;
    }

    pub(super) fn ring_failures(&self) -> Vec<String> {
        let broken = |(index, ring): (usize, &Ring)| ring.last_error().map(|why| format!("ring {index}: {why}"));
        self.rings.iter().enumerate().filter_map(broken).collect()
    }

    /// Takes the poll of the kicks back from the reactor, then asks to be dropped.
    pub(super) fn close(&mut self, cx: &mut dyn ExportCx) {
        self.closing = true;
        self.kicks.ring_doorbell();
        cx.close();
    }

    // ---- requests ----

    fn start_if_ready(&mut self, index: usize, cx: &mut dyn ExportCx) -> Result<(), RingError> {
        let map = self.memory.load_full();
        let again = self.rings[index].start_if_ready(&map, self.features & EVENT_IDX != 0)?;
        // Room for every request there can be, so that the data path never allocates.
        let most: usize = self.rings.iter().filter(|r| r.takes_requests()).map(|r| usize::from(r.size())).sum();
        self.live.reserve(most.saturating_sub(self.live.len()));
        for head in again {
            if let Err(malformed) = self.begin(index, head, &map, false, cx) {
                // It was answerable when it was taken: the driver changed the chain. It stays marked and unanswered.
                self.rings[index].break_down(malformed.0);
            }
        }
        self.take_requests(index, &map, cx);
        self.publish();
        Ok(())
    }

    /// Takes what there is and leaves notifications on; or takes as many as may be taken at once and leaves them off, so that `poll` looks
    /// again. Returns how many were taken.
    fn take_requests(&mut self, index: usize, map: &Arc<MemoryMap>, cx: &mut dyn ExportCx) -> usize {
        if !self.rings[index].takes_requests() {
            return 0;
        }
        let mut taken = 0;
        loop {
            self.rings[index].set_notification(map, false);
            taken += self.take_available(index, map, cx);
            if taken >= TAKEN_AT_ONCE {
                return taken;
            }
            // With EVENT_IDX the index has to be looked at again after the wish was written, or a kick is lost.
            if !self.rings[index].set_notification(map, true) || !self.rings[index].takes_requests() {
                return taken;
            }
        }
    }

    fn take_available(&mut self, index: usize, map: &Arc<MemoryMap>, cx: &mut dyn ExportCx) -> usize {
        let mut taken = 0;
        while taken < TAKEN_AT_ONCE
            && let Some(head) = self.rings[index].next_head(map)
        {
            if let Err(malformed) = self.begin(index, head, map, true, cx) {
                self.rings[index].give_back_broken(malformed.0);
                break;
            }
            taken += 1;
        }
        taken
    }

    /// Executes the chain at `head`. `fresh`: it has just been taken, not left behind by a dead back end.
    fn begin(
        &mut self,
        index: usize,
        head: u16,
        map: &Arc<MemoryMap>,
        fresh: bool,
        cx: &mut dyn ExportCx,
    ) -> Result<(), Malformed> {
        let ring = &mut self.rings[index];
        self.parts.gather(map, ring.descriptor_table(), ring.size(), head)?;
        let (wanted, status) = self.parts.parse(&self.identity)?;
        if fresh {
            ring.accept(head);
        }
        let mut live =
            Live { ring: index, head, pending: 1, answer: Status::Ok, written: 0, status, _map: map.clone() };
        match wanted {
            Wanted::Read { len, .. } => live.written = u32::try_from(len).unwrap_or(u32::MAX - 1),
            Wanted::Zero => live.pending = self.parts.segments.len() as u32,
            Wanted::Identity => {
                // SAFETY: `map` keeps the buffers of `parts`, which were just gathered from it, mapped.
                live.written = unsafe { self.parts.write_identity(&self.identity) };
            }
            Wanted::Answer(answer) => live.answer = answer,
            Wanted::Write { .. } | Wanted::Flush => {}
        }
        let tag = self.live.insert(live);
        let mut hand_in = |kind, range: ByteRange, data: &[libc::iovec], fua| {
            let mut iov = cx.take_iovecs();
            iov.extend_from_slice(data);
            let keep: Option<Arc<dyn Any + Send + Sync>> = Some(map.clone());
            cx.request(Request { kind, offset: range.start, len: range.len, iov, fua, tag: tag as u64, keep });
        };
        match wanted {
            Wanted::Read { offset, len } if len > 0 => {
                hand_in(RequestKind::Read, ByteRange::new(offset, len), &self.parts.writable, false);
            }
            Wanted::Write { offset, len } if len > 0 => {
                // Whoever did not negotiate flushes expects a write to be durable when it is acknowledged.
                let fua = self.features & FLUSH == 0;
                hand_in(RequestKind::Write, ByteRange::new(offset, len), &self.parts.readable, fua);
            }
            Wanted::Flush => hand_in(RequestKind::Flush, ByteRange::default(), &[], false),
            Wanted::Zero => {
                let fua = self.features & FLUSH == 0;
                for (kind, range) in &self.parts.segments {
                    hand_in(*kind, *range, &[], fua);
                }
            }
            Wanted::Read { .. } | Wanted::Write { .. } | Wanted::Identity | Wanted::Answer(_) => self.finish(tag),
        }
        Ok(())
    }

    fn finish(&mut self, tag: usize) {
        let Some(live) = self.live.try_remove(tag) else { return };
        // SAFETY: `live._map` keeps the byte mapped; volatile, because the guest may look at it at any time.
        unsafe { live.status.write_volatile(live.answer as u8) };
        let data = if live.answer == Status::Ok { live.written } else { 0 };
        self.rings[live.ring].complete(live.head, data + 1);
    }

    fn publish(&mut self) {
        let map = self.memory.load();
        let published: usize = self.rings.iter_mut().map(|ring| ring.publish(&map)).sum();
        if published > 0 {
            self.window.activity(Instant::now());
        }
        self.tell_drained();
    }

    fn tell_drained(&mut self) {
        let rings = &self.rings;
        self.waiters.retain(|waiter| {
            let waits_for = |(index, ring): (usize, &Ring)| {
                waiter.ring.is_none_or(|wanted| wanted == index) && ring.in_flight() > 0
            };
            let waiting = rings.iter().enumerate().any(waits_for);
            if !waiting {
                // The asker may have given up; then nobody misses the answer.
                let _ = waiter.done.try_send(());
            }
            waiting
        });
    }

    fn arm_kicks(&mut self, cx: &mut dyn ExportCx) {
        if self.closing {
            return;
        }
        if let Some(fd) = self.kicks.arm() {
            // SAFETY: a poll names no memory, and `Kicks` keeps the descriptor open while it is armed.
            unsafe { cx.submit(Op::PollIn { fd }, KICKS_SLOT) };
        }
    }
}

impl Export for VhostUserBlk {
    fn start(&mut self, cx: &mut dyn ExportCx) {
        self.arm_kicks(cx);
    }

    fn on_io(&mut self, slot: u32, _result: Result<u32, Errno>, cx: &mut dyn ExportCx) {
        if slot != KICKS_SLOT {
            return;
        }
        let kicked = self.kicks.take();
        self.window.woken(Instant::now());
        let map = self.memory.load_full();
        for index in 0..self.rings.len() {
            if kicked & (1 as Kicked) << index != 0 {
                self.take_requests(index, &map, cx);
            }
        }
        self.arm_kicks(cx);
    }

    fn on_done(&mut self, tag: u64, result: Result<(), Errno>, _cx: &mut dyn ExportCx) {
        let tag = tag as usize;
        let Some(live) = self.live.get_mut(tag) else { return };
        match result {
            Ok(()) => {}
            Err(libc::EOPNOTSUPP) => live.answer = Status::Unsupported,
            Err(_) => live.answer = Status::IoError,
        }
        live.pending -= 1;
        if live.pending == 0 {
            self.finish(tag);
        }
    }

    fn end_turn(&mut self, _cx: &mut dyn ExportCx) {
        self.publish();
    }

    fn in_flight(&self) -> usize {
        // While closing the poll of the kicks counts as well: its descriptor lives here.
        self.live.len() + usize::from(self.closing && self.kicks.is_armed())
    }

    /// While this says true the guest does not kick; so it is asked again before anybody sleeps.
    fn poll(&mut self, cx: &mut dyn ExportCx) -> bool {
        let map = self.memory.load_full();
        let (mut found, mut must_poll) = (0, false);
        for index in 0..self.rings.len() {
            if self.rings[index].has_requests(&map) {
                found += self.take_available(index, &map, cx);
            }
            must_poll |= self.rings[index].takes_requests() && self.rings[index].is_polled();
            must_poll |= self.rings[index].has_requests(&map);
        }
        let now = Instant::now();
        if found > 0 {
            self.window.activity(now);
        }
        if must_poll || self.window.is_open(now) {
            for ring in self.rings.iter_mut().filter(|ring| ring.takes_requests() && ring.wants_kicks()) {
                ring.set_notification(&map, false);
            }
            return true;
        }
        let mut left = false;
        for index in 0..self.rings.len() {
            if !self.rings[index].wants_kicks() {
                left |= self.take_requests(index, &map, cx) >= TAKEN_AT_ONCE;
            }
        }
        left
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}
