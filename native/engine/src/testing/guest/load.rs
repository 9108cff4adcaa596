//! The load on one disk: submits, reaps, judges, and keeps the connection up.
//!
//! ```text
//!   Load ── stop ──► Drain (nothing new) ──► ReadBack (every written block) ──► Done
//!     any of them ── connection broken ──► the same, trying to connect every 100 ms
//! ```

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
};

use super::connection::Connection;
use super::machine::Machine;
use super::options::{GuestOptions, LedgerFile};
use super::request::{Chain, Framing, MOST_BUFFERS, StatusAt};
use super::split_ring::SplitRing;
use super::{DiskStats, lock};
use crate::disk::ByteRange;
use crate::testing::block;
use crate::testing::oracle::{Ledger, ReadInFlight};
use crate::testing::random::Random;

/// As QEMU's `reconnect-ms=100`.
const RECONNECT: Duration = Duration::from_millis(100);
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Read,
    Write { number: u64 },
    Zero { number: u64, discard: bool, unmap: bool },
    Flush,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Load,
    Drain,
    ReadBack { next: u64 },
}

pub(super) struct Slot {
    pub(super) work: Option<Work>,
    pub(super) started: Instant,
    pub(super) status: StatusAt,
    pub(super) range: ByteRange,
    pub(super) read: ReadInFlight,
}

pub struct DiskLoad {
    pub(super) disk: u32,
    pub(super) socket: PathBuf,
    pub(super) options: GuestOptions,
    pub(super) stats: Arc<Mutex<DiskStats>>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) abandon: Arc<AtomicBool>,
}

/// Everything a connected disk needs. Made when the first worker has told the disk's size.
pub(super) struct Running {
    pub(super) machine: Machine,
    pub(super) rings: Vec<SplitRing>,
    pub(super) connection: Option<Connection>,
    pub(super) ledger: Ledger,
    pub(super) slots: Vec<Slot>,
    pub(super) free: Vec<usize>,
    /// Slot by head, per ring.
    pub(super) by_head: Vec<Vec<usize>>,
    pub(super) random: Random,
    pub(super) writes_since_flush: u32,
    pub(super) next_ring: usize,
    pub(super) next_due: Instant,
    pub(super) next_connect: Instant,
    pub(super) phase: Phase,
    pub(super) span: u64,
}

impl DiskLoad {
    pub fn new(
        disk: u32,
        socket: PathBuf,
        options: GuestOptions,
        stats: Arc<Mutex<DiskStats>>,
        stop: Arc<AtomicBool>,
        abandon: Arc<AtomicBool>,
    ) -> Self {
        Self { disk, socket, options, stats, stop, abandon }
    }

    /// Runs until stopped; returns the requests that were never answered.
    pub fn run(self) -> u64 {
        let mut give_up: Option<Instant> = None;
        let mut running = loop {
            match self.first_connection() {
                Ok(running) => break running,
                Err(error) => lock(&self.stats).last_connect_error = Some(error.to_string()),
            }
            if self.stop.load(Ordering::Acquire) {
                let limit = *give_up.get_or_insert_with(|| Instant::now() + self.options.patience);
                if Instant::now() > limit || self.abandon.load(Ordering::Acquire) {
                    return 1; // a disk that was never there is not a disk without errors
                }
            }
            std::thread::sleep(RECONNECT);
        };
        give_up = None;
        loop {
            running.keep_connected(&self);
            if self.stop.load(Ordering::Acquire) && running.phase == Phase::Load {
                running.phase = Phase::Drain;
            }
            let submitted = running.submit_what_fits(&self);
            for (queue, ring) in running.rings.iter_mut().enumerate() {
                ring.kick(&running.machine, queue);
            }
            let reaped = running.reap(&self);
            if reaped || submitted {
                running.tell_in_flight(&self);
                give_up = None;
                continue;
            }
            if running.is_done(&self.options) {
                running.finish(&self);
                return 0;
            }
            if running.phase != Phase::Load {
                let limit = *give_up.get_or_insert_with(|| Instant::now() + self.options.patience);
                if Instant::now() > limit || self.abandon.load(Ordering::Acquire) {
                    return running.outstanding() as u64 + u64::from(running.outstanding() == 0);
                }
            }
            running.wait(&self);
        }
    }

    fn first_connection(&self) -> io::Result<Running> {
        let options = &self.options;
        let mut machine = Machine::new(options)?;
        let mut rings: Vec<SplitRing> =
            machine.places.iter().map(|place| SplitRing::new(*place, options.ring_size, options.event_idx)).collect();
        let connection = Connection::open(&self.socket, &mut machine, &mut rings, options)?;
        let block_bytes = u64::from(options.block_bytes);
        let size = connection.agreed.capacity_bytes / block_bytes * block_bytes;
        let span = options.span_bytes.unwrap_or(size).min(size) / block_bytes * block_bytes;
        let ledger = self.ledger(span)?;
        let now = Instant::now();
        let slot = |_| Slot {
            work: None,
            started: now,
            status: StatusAt::default(),
            range: ByteRange::default(),
            read: ReadInFlight::default(),
        };
        lock(&self.stats).connected = true;
        Ok(Running {
            by_head: vec![vec![0; usize::from(options.ring_size)]; rings.len()],
            machine,
            rings,
            connection: Some(connection),
            ledger,
            slots: (0..options.depth).map(slot).collect(),
            free: (0..options.depth).rev().collect(),
            random: Random::new(options.seed ^ u64::from(self.disk) << 32),
            writes_since_flush: 0,
            next_ring: 0,
            next_due: now,
            next_connect: now,
            phase: Phase::Load,
            span,
        })
    }

    /// Of the part of the disk that is used: one for a disk of 64 TiB would have 2 TiB.
    fn ledger(&self, size: u64) -> io::Result<Ledger> {
        let name = format!("disk{}.ledger", self.disk);
        let options = &self.options;
        let create = |path: Option<PathBuf>| {
            Ledger::create(path.as_deref(), self.disk, size, options.block_bytes, options.initial)
        };
        match &options.ledger {
            LedgerFile::None => create(None),
            LedgerFile::Create(folder) => create(Some(folder.join(name))),
            LedgerFile::Continue(folder) => {
                let mut ledger = Ledger::open(&folder.join(name))?;
                if ledger.size_bytes() != size || ledger.block_bytes() != u64::from(options.block_bytes) {
                    return Err(io::Error::other("the ledger is of another part of the disk or of other blocks"));
                }
                ledger.fail_all_in_flight();
                Ok(ledger)
            }
        }
    }
}

impl Running {
    pub(super) fn outstanding(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn keep_connected(&mut self, load: &DiskLoad) {
        if self.connection.as_ref().is_some_and(Connection::is_broken) {
            self.connection = None;
            let left = self.machine.left_in_flight();
            let mut stats = lock(&load.stats);
            stats.connected = false;
            stats.broken_in_all_rings += u64::from(!left.is_empty() && left.iter().all(|count| *count > 0));
            stats.left_by_dead.resize(left.len(), 0);
            stats.left_by_dead.iter_mut().zip(&left).for_each(|(sum, count)| *sum += count);
            drop(stats);
            self.next_connect = Instant::now() + RECONNECT;
        }
        if self.connection.is_some() || Instant::now() < self.next_connect {
            return;
        }
        match Connection::open(&load.socket, &mut self.machine, &mut self.rings, &load.options) {
            Ok(connection) => {
                self.connection = Some(connection);
                let mut stats = lock(&load.stats);
                stats.connected = true;
                stats.reconnects += 1;
            }
            Err(error) => {
                self.next_connect = Instant::now() + RECONNECT;
                lock(&load.stats).last_connect_error = Some(error.to_string());
            }
        }
    }

    fn is_done(&self, options: &GuestOptions) -> bool {
        let read_back = match self.phase {
            Phase::Load => false,
            Phase::Drain => !options.verify_at_end,
            Phase::ReadBack { next } => next >= self.span,
        };
        read_back && self.outstanding() == 0
    }

    /// Stops the rings as a guest that shuts down does.
    fn finish(&mut self, load: &DiskLoad) {
        let Some(mut connection) = self.connection.take() else { return };
        let expected: Vec<u32> = self.rings.iter().map(|ring| u32::from(ring.next_available())).collect();
        let mut stats = lock(&load.stats);
        match connection.stop(load.options.queues) {
            Ok(bases) if bases == expected => {}
            Ok(bases) => {
                stats.wrong_blocks += 1;
                let what =
                    format!("the rings stopped at {bases:?}, the guest made requests available up to {expected:?}");
                stats.first_wrong.get_or_insert(what);
            }
            Err(error) => stats.last_connect_error = Some(error.to_string()),
        }
    }

    // ---- submitting ----

    fn submit_what_fits(&mut self, load: &DiskLoad) -> bool {
        let mut submitted = false;
        if self.phase == Phase::Drain && load.options.verify_at_end && self.outstanding() == 0 {
            self.phase = Phase::ReadBack { next: 0 };
        }
        while !self.free.is_empty() && self.phase != Phase::Drain {
            let now = Instant::now();
            if let Some(rate) = load.options.rate.filter(|_| self.phase == Phase::Load) {
                if now < self.next_due {
                    break;
                }
                // Requests missed while everything was in flight are not made up for.
                let step = Duration::from_secs(1) / rate.max(1);
                self.next_due = (self.next_due + step).max(now);
            }
            if !self.find_ring() {
                break;
            }
            let Some((work, range)) = self.next_work(&load.options) else { break };
            self.submit(load, work, range, now);
            submitted = true;
        }
        submitted
    }

    /// Goes on to the next ring with room, as a kernel does whose processors take turns: one queue for each. False: all are full.
    fn find_ring(&mut self) -> bool {
        let rings = self.rings.len();
        let next = (1..=rings).map(|step| (self.next_ring + step) % rings);
        let with_room = next.into_iter().find(|ring| self.rings[*ring].free_descriptors() >= MOST_BUFFERS);
        self.next_ring = with_room.unwrap_or(self.next_ring);
        with_room.is_some()
    }

    fn next_work(&mut self, options: &GuestOptions) -> Option<(Work, ByteRange)> {
        if let Phase::ReadBack { next } = self.phase {
            if next >= self.span {
                return None;
            }
            let longest = u64::from(options.longest_blocks) * u64::from(options.block_bytes);
            let range = ByteRange::new(next, longest.min(self.span - next));
            self.phase = Phase::ReadBack { next: range.end() };
            return Some((Work::Read, range));
        }
        let agreed = self.connection.as_ref().map(|connection| connection.agreed);
        if options.flush_every > 0 && self.writes_since_flush >= options.flush_every && agreed.is_none_or(|a| a.flush) {
            self.writes_since_flush = 0;
            return Some((Work::Flush, ByteRange::default()));
        }
        let dice = self.random.below(100) as u32;
        let zeroes = agreed.is_some_and(|agreed| agreed.zeroes);
        for _ in 0..8 {
            let range = self.random_range(options);
            if dice < options.write_percent {
                if let Some(number) = self.ledger.submit(range, false) {
                    self.writes_since_flush += 1;
                    return Some((Work::Write { number }, range));
                }
            } else if zeroes && dice < options.write_percent + options.zero_percent {
                if let Some(number) = self.ledger.submit(range, true) {
                    self.writes_since_flush += 1;
                    let (discard, unmap) = (self.random.below(2) == 0, self.random.below(2) == 0);
                    return Some((Work::Zero { number, discard, unmap }, range));
                }
            } else {
                return Some((Work::Read, range));
            }
        }
        // Every block tried is waiting for too many writes already.
        Some((Work::Read, self.random_range(options)))
    }

    fn random_range(&mut self, options: &GuestOptions) -> ByteRange {
        let block = u64::from(options.block_bytes);
        let hot = (self.random.below(100) as u32) < options.hot_percent;
        let span = if hot { options.hot_bytes.clamp(block, self.span) } else { self.span };
        let blocks = span / block;
        let first = self.random.below(blocks);
        let count = (1 + self.random.below(u64::from(options.longest_blocks))).min(blocks - first);
        ByteRange::new(first * block, count * block)
    }

    fn submit(&mut self, load: &DiskLoad, work: Work, range: ByteRange, now: Instant) {
        let Some(index) = self.free.pop() else { return };
        let framing = match (load.options.plain_chains, load.options.odd_splits) {
            (true, _) => Framing::Plain,
            (false, false) => Framing::Sectors,
            (false, true) => Framing::Bytes,
        };
        let mut chain = Chain::new(&self.machine, index, &mut self.random, framing);
        match work {
            Work::Read => {
                chain.header(VIRTIO_BLK_T_IN, range.start);
                chain.data_to_read(range.len as u32);
                self.ledger.start_read(range, &mut self.slots[index].read);
            }
            Work::Write { number } => {
                chain.header(VIRTIO_BLK_T_OUT, range.start);
                block::fill(chain.data_to_write(range.len as u32), load.disk, range.start, number);
            }
            Work::Zero { discard, unmap, .. } => {
                chain.header(if discard { VIRTIO_BLK_T_DISCARD } else { VIRTIO_BLK_T_WRITE_ZEROES }, 0);
                chain.segment(range, unmap && !discard);
            }
            Work::Flush => chain.header(VIRTIO_BLK_T_FLUSH, 0),
        }
        let status = chain.status();
        let indirect = self.connection.as_ref().is_some_and(|c| c.agreed.indirect);
        let (buffers, table) = chain.finish(indirect);
        let queue = self.next_ring;
        // There is room: `submit_what_fits` looked.
        if let Some(head) = self.rings[queue].add(&self.machine, &buffers, table) {
            self.by_head[queue][usize::from(head)] = index;
        }
        let slot = &mut self.slots[index];
        (slot.work, slot.started, slot.range, slot.status) = (Some(work), now, range, status);
        if let Work::Zero { .. } = work {
            self.allow_zeros_in_reads(range);
        }
    }

    /// A read in flight may see the zeros of a write-zeroes submitted after it, even when they are covered again before it ends.
    fn allow_zeros_in_reads(&mut self, range: ByteRange) {
        for slot in self.slots.iter_mut().filter(|slot| slot.work == Some(Work::Read)) {
            slot.read.zeros_meanwhile |= slot.read.range().overlaps(&range);
        }
    }
}
