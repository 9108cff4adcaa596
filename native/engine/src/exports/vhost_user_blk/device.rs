//! The export itself, on the reactor thread: its rings as the control thread sets them up, and when they are looked at. What is done with
//! the requests in them is in `requests.rs`.
//!
//! ```text
//!   kick or poll ─► Ring::next_head ─► Parts::gather, parse ─► accept ─► ExportCx::request
//!                                                                              │
//!   guest ◄─ Ring::publish (once per turn and ring) ◄─ complete ◄─ on_done ◄───┘
//! ```

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use slab::Slab;

use super::MAX_QUEUES;
use super::chain::Parts;
use super::config::{BYTES_IN_FLIGHT, PIECE_BYTES};
use super::features::PROTOCOL_FEATURES;
use super::inflight::{InflightRegion, InflightRing};
use super::kicks::{Kicked, Kicks};
use super::memory::SharedMemory;
use super::requests::{Live, TAKEN_PER_TURN};
use super::ring::{Kick, Ring, RingError};
use crate::disk::{DiskError, Errno, ErrorKind};
use crate::exports::{Export, ExportCx};
use crate::memory_guard;
use crate::reactor::{Op, PollWindow};

/// VIRTIO_BLK_ID_BYTES: what GET_ID answers, padded with zeros.
const IDENTITY_BYTES: usize = 20;
/// The only I/O of the export's own: the poll of the kicks.
const KICKS_SLOT: u32 = 0;

/// Told once `ring` (or every ring) has nothing in flight.
pub(super) struct DrainWaiter {
    pub(super) ring: Option<usize>,
    pub(super) done: SyncSender<()>,
}

/// One disk's vhost-user-blk device. Add it to a service, then [`super::listen`].
pub struct VhostUserBlk {
    pub(super) identity: [u8; IDENTITY_BYTES],
    pub(super) rings: Vec<Ring>,
    pub(super) memory: Arc<SharedMemory>,
    pub(super) features: u64,
    inflight: Option<Arc<InflightRegion>>,
    pub(super) live: Slab<Live>,
    pub(super) parts: Parts,
    kicks: Kicks,
    pub(super) window: PollWindow,
    pub(super) waiters: Vec<DrainWaiter>,
    /// Requests each ring may give up in a turn, and the ring that is looked at first in this one.
    pub(super) share: usize,
    pub(super) first: usize,
    /// Data of requests under way, and how much is too much for another one. Each of them may be held in memory once more, or twice in a move.
    pub(super) bytes_in_flight: u64,
    pub(super) bytes_most: u64,
    /// What a dead back end left behind, until there is room for it: ring and head.
    pub(super) resumed: VecDeque<(usize, u16)>,
    /// Mappings lost when it was last looked whether one of them was ours.
    losses: usize,
    closing: bool,
}

impl VhostUserBlk {
    /// `queues`: 1 to [`MAX_QUEUES`]. `serial`: what the guest sees as the disk's serial number, cut at 20 bytes.
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
            share: TAKEN_PER_TURN,
            first: 0,
            bytes_in_flight: 0,
            bytes_most: BYTES_IN_FLIGHT,
            resumed: VecDeque::new(),
            losses: memory_guard::losses(),
            closing: false,
        })
    }

    /// For a disk that shares the memory of its VM's worker with others. No less than two pieces of a request.
    pub fn with_bytes_in_flight(mut self, most: u64) -> Self {
        self.bytes_most = most.max(2 * PIECE_BYTES);
        self
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

    /// Takes effect when a ring starts; refused while one runs, which has its marks in the region it was started with.
    pub(super) fn set_inflight(&mut self, region: Arc<InflightRegion>) -> Result<(), RingError> {
        if let Some(index) = self.rings.iter().position(|ring| !ring.is_stopped()) {
            return Err(RingError(format!("another inflight region was passed while ring {index} was running")));
        }
        self.give_parts(region);
        Ok(())
    }

    fn give_parts(&mut self, region: Arc<InflightRegion>) {
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
            self.give_parts(region);
        }
    }

    /// The front end is gone, after all rings have been stopped: nothing of it is kept.
    pub(super) fn forget_front_end(&mut self) {
        self.inflight = None;
        self.resumed.clear();
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

    /// Nothing more is taken from rings in memory that reads as zeros; what is under way ends with errors.
    fn give_up_lost_memory(&mut self) {
        let losses = memory_guard::losses();
        if losses == self.losses {
            return;
        }
        self.losses = losses;
        if self.memory.load().is_lost() || self.inflight.as_ref().is_some_and(|region| region.is_lost()) {
            self.rings.iter_mut().for_each(|ring| ring.break_down("the front end took memory away that it had passed"));
        }
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
        for index in self.in_turn() {
            if kicked & (1 as Kicked) << index != 0 {
                self.take_requests(index, &map, cx);
            }
        }
        self.arm_kicks(cx);
    }

    fn on_done(&mut self, tag: u64, result: Result<(), Errno>, cx: &mut dyn ExportCx) {
        self.done(tag as usize, result, cx);
        self.resume(cx);
    }

    fn end_turn(&mut self, _cx: &mut dyn ExportCx) {
        self.give_up_lost_memory();
        self.publish();
        self.refill_shares();
    }

    fn in_flight(&self) -> usize {
        // While closing the poll of the kicks counts as well: its descriptor lives here.
        self.live.len() + usize::from(self.closing && self.kicks.is_armed())
    }

    /// While this says true the guest does not kick, or requests wait for the next turn; so it is asked again before anybody sleeps.
    fn poll(&mut self, cx: &mut dyn ExportCx) -> bool {
        let map = self.memory.load_full();
        let (mut found, mut must_poll) = (0, false);
        for index in self.in_turn() {
            if self.rings[index].has_requests(&map) {
                found += self.take_available(index, &map, cx);
            }
            must_poll |= self.rings[index].takes_requests() && self.rings[index].is_polled();
            // Without room the next turn comes with the end of a request that is under way.
            must_poll |= self.has_room() && self.rings[index].has_requests(&map);
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
        let mut all_taken = true;
        for index in self.in_turn() {
            if !self.rings[index].wants_kicks() {
                all_taken &= self.take_requests(index, &map, cx);
            }
        }
        !all_taken && self.has_room()
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}
