//! From the rings to the service and back: what is taken in a turn, which request a chain is, and how its answer is told.
//!
//! A turn takes a bounded number of requests. Every ring that takes requests may give up the same share of that number; what is left in a
//! ring waits for the next turn, and no kick is needed for it, because [`super::device`]'s `poll` looks before anybody sleeps. So a queue
//! that is always full delays another queue's request by one share, and another disk's by one turn.
//!
//! Requests under way hold a bounded number of bytes, however long the guest makes them and wherever their buffers lie: what is too long is
//! handed in piece by piece, and while there is no room nothing is taken; the ends of those under way make room. So a worker's memory is
//! bounded by its number of disks (memory that is not aligned for direct I/O is copied, and so is what a move writes to both sides).

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use super::chain::{Malformed, Status, Wanted};
use super::config::PIECE_BYTES;
use super::device::VhostUserBlk;
use super::features::{EVENT_IDX, FLUSH};
use super::long_requests::Rest;
use super::memory::MemoryMap;
use super::ring::{Ring, RingError};
use crate::disk::{ByteRange, Errno, Request, RequestKind};
use crate::exports::ExportCx;

/// Requests of one disk taken in one turn: twice QEMU's default queue, about 0.3 ms of this thread.
pub(super) const TAKEN_PER_TURN: usize = 256;
/// The least share of a ring, so that 64 rings do not come to a turn for each request.
const SHARE_LEAST: usize = 4;

/// A request the service works on, or several for one chain (the segments of a discard).
pub(super) struct Live {
    ring: usize,
    head: u16,
    /// Requests handed in and not done.
    pending: u32,
    answer: Status,
    /// Bytes written into the guest if all goes well, the status byte not counted.
    written: u32,
    status: *mut u8,
    /// Of the bytes in flight.
    bytes: u64,
    rest: Option<Rest>,
    /// Keeps the memory that `status` and the buffers lie in mapped, whatever the front end changes meanwhile.
    _map: Arc<MemoryMap>,
}

// SAFETY: `status` points into memory that `_map` keeps mapped, on whatever thread.
unsafe impl Send for Live {}

impl VhostUserBlk {
    pub(super) fn start_if_ready(&mut self, index: usize, cx: &mut dyn ExportCx) -> Result<(), RingError> {
        let map = self.memory.load_full();
        let again = self.rings[index].start_if_ready(&map, self.features & EVENT_IDX != 0)?;
        // Room for every request there can be, so that the data path never allocates.
        let most: usize = self.rings.iter().filter(|r| r.takes_requests()).map(|r| usize::from(r.size())).sum();
        self.live.reserve(most.saturating_sub(self.live.len()));
        self.resumed.extend(again.into_iter().map(|head| (index, head)));
        self.resume(cx);
        self.take_requests(index, &map, cx);
        self.publish();
        Ok(())
    }

    /// Executes what a dead back end left behind, as far as there is room.
    pub(super) fn resume(&mut self, cx: &mut dyn ExportCx) {
        while self.has_room()
            && let Some((index, head)) = self.resumed.pop_front()
        {
            let map = self.memory.load_full();
            if let Err(malformed) = self.begin(index, head, &map, false, cx) {
                // It was answerable when it was taken: the driver changed the chain. It stays marked and unanswered.
                self.rings[index].break_down(malformed.0);
            }
        }
    }

    /// For the data of one more request.
    pub(super) fn has_room(&self) -> bool {
        self.bytes_in_flight < self.bytes_most
    }

    /// What is left of ring `index`'s share of this turn.
    fn left(&self, index: usize) -> usize {
        // Those that wait to be resumed are older.
        if !self.has_room() || !self.resumed.is_empty() {
            return 0;
        }
        self.share.saturating_sub(self.rings[index].taken_in_turn())
    }

    /// All rings, another one first in each turn.
    pub(super) fn in_turn(&self) -> impl Iterator<Item = usize> + use<> {
        let (rings, first) = (self.rings.len(), self.first);
        (0..rings).map(move |place| (first + place) % rings)
    }

    /// The next turn begins: shares are full again, and another ring is first.
    pub(super) fn refill_shares(&mut self) {
        let active = self.rings.iter().filter(|ring| ring.takes_requests()).count();
        self.share = (TAKEN_PER_TURN / active.max(1)).max(SHARE_LEAST);
        self.first = (self.first + 1) % self.rings.len();
        self.rings.iter_mut().for_each(Ring::begin_turn);
    }

    /// Takes what there is, as far as the ring's share goes. True: there is nothing more, and the guest was asked to kick. False: the ring
    /// is left muted with requests in it, and `poll` goes on with them in the next turn.
    pub(super) fn take_requests(&mut self, index: usize, map: &Arc<MemoryMap>, cx: &mut dyn ExportCx) -> bool {
        while self.rings[index].takes_requests() {
            self.rings[index].set_notification(map, false);
            self.take_available(index, map, cx);
            if self.left(index) == 0 && self.rings[index].has_requests(map) {
                return false;
            }
            // With EVENT_IDX the index has to be looked at again after the wish was written, or a kick is lost.
            if !self.rings[index].set_notification(map, true) {
                break;
            }
        }
        true
    }

    /// Takes what there is, as far as the ring's share goes, whatever was asked of the guest. Returns how many were taken.
    pub(super) fn take_available(&mut self, index: usize, map: &Arc<MemoryMap>, cx: &mut dyn ExportCx) -> usize {
        let before = self.rings[index].taken_in_turn();
        while self.left(index) > 0
            && let Some(head) = self.rings[index].next_head(map)
        {
            if let Err(malformed) = self.begin(index, head, map, true, cx) {
                self.rings[index].give_back_broken(malformed.0);
            }
        }
        self.rings[index].taken_in_turn() - before
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
        let mut live = Live {
            ring: index,
            head,
            pending: 1,
            answer: Status::Ok,
            written: 0,
            status,
            bytes: 0,
            rest: None,
            _map: map.clone(),
        };
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
        if let Wanted::Read { len, .. } | Wanted::Write { len, .. } = wanted {
            live.bytes = len.min(PIECE_BYTES);
            self.bytes_in_flight += live.bytes;
        }
        let tag = self.live.insert(live);
        if let Wanted::Read { offset, len } | Wanted::Write { offset, len } = wanted
            && len > PIECE_BYTES
        {
            let read = matches!(wanted, Wanted::Read { .. });
            self.begin_long(tag, read, ByteRange::new(offset, len), cx);
            return Ok(());
        }
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

    /// All of it is on the disk, or none of it is begun.
    fn begin_long(&mut self, tag: usize, read: bool, range: ByteRange, cx: &mut dyn ExportCx) {
        let (kind, iov) =
            if read { (RequestKind::Read, &self.parts.writable) } else { (RequestKind::Write, &self.parts.readable) };
        let inside = range.end() <= cx.facts().geometry.size_bytes;
        let Some(live) = self.live.get_mut(tag) else { return };
        if !inside {
            live.answer = Status::IoError;
            return self.finish(tag);
        }
        let fua = !read && self.features & FLUSH == 0;
        live.rest = Some(Rest::new(kind, fua, range.start, range.len, iov));
        self.next_piece(tag, cx);
    }

    /// False when there is none.
    fn next_piece(&mut self, tag: usize, cx: &mut dyn ExportCx) -> bool {
        let Some(live) = self.live.get_mut(tag) else { return false };
        let Some(rest) = live.rest.as_mut().filter(|rest| !rest.is_empty()) else { return false };
        let mut iov = cx.take_iovecs();
        let (offset, len) = rest.cut(PIECE_BYTES, &mut iov);
        let (kind, fua) = (rest.kind, rest.fua);
        let keep: Option<Arc<dyn Any + Send + Sync>> = Some(live._map.clone());
        live.pending = 1;
        cx.request(Request { kind, offset, len, iov, fua, tag: tag as u64, keep });
        true
    }

    /// The service is done with one of the requests of `tag`.
    pub(super) fn done(&mut self, tag: usize, result: Result<(), Errno>, cx: &mut dyn ExportCx) {
        let Some(live) = self.live.get_mut(tag) else { return };
        match result {
            Ok(()) => {}
            Err(libc::EOPNOTSUPP) => live.answer = Status::Unsupported,
            Err(_) => live.answer = Status::IoError,
        }
        live.pending -= 1;
        if live.pending > 0 {
            return;
        }
        if live.answer != Status::Ok || !self.next_piece(tag, cx) {
            self.finish(tag);
        }
    }

    fn finish(&mut self, tag: usize) {
        let Some(live) = self.live.try_remove(tag) else { return };
        self.bytes_in_flight -= live.bytes;
        // SAFETY: `live._map` keeps the byte mapped; volatile, because the guest may look at it at any time.
        unsafe { live.status.write_volatile(live.answer as u8) };
        let data = if live.answer == Status::Ok { live.written } else { 0 };
        self.rings[live.ring].complete(live.head, data + 1);
    }

    pub(super) fn publish(&mut self) {
        let map = self.memory.load();
        let published: usize = self.rings.iter_mut().map(|ring| ring.publish(&map)).sum();
        if published > 0 {
            self.window.activity(Instant::now());
        }
        self.tell_drained();
    }

    pub(super) fn tell_drained(&mut self) {
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
}

#[cfg(test)]
#[path = "requests_tests.rs"]
mod tests;
