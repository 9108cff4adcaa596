//! The answers: reaped, judged against the oracle, counted; and the wait for the next ones.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use virtio_bindings::virtio_blk::VIRTIO_BLK_S_OK;

use super::load::{DiskLoad, Running, Work};
use super::request::finished_data;
use super::{DiskStats, lock};

/// How long a wait for completions may last before stop and connection are looked at again.
const LOOK: Duration = Duration::from_millis(20);
/// An interrupt may follow its completion this much later on a busy machine.
const INTERRUPT_GRACE: Duration = Duration::from_millis(500);

impl Running {
    pub(super) fn reap(&mut self, load: &DiskLoad) -> bool {
        let mut any = false;
        for queue in 0..self.rings.len() {
            while let Some(used) = self.rings[queue].take_used(&self.machine) {
                any = true;
                match used {
                    Ok(head) => self.complete(load, self.by_head[queue][usize::from(head)]),
                    Err(head) => {
                        let mut stats = lock(&load.stats);
                        stats.unexpected_completions += 1;
                        let what = format!("ring {queue} completed head {head}, which was not in flight");
                        stats.first_wrong.get_or_insert(what);
                    }
                }
            }
        }
        any
    }

    /// Says what is in flight and since when. After every change of it: whoever looks next may find this thread held.
    pub(super) fn tell_in_flight(&self, load: &DiskLoad) {
        let oldest = self.slots.iter().filter(|slot| slot.work.is_some()).map(|slot| slot.started).min();
        let mut stats = lock(&load.stats);
        stats.in_flight = self.outstanding() as u64;
        stats.oldest_since = oldest;
    }

    fn complete(&mut self, load: &DiskLoad, index: usize) {
        let slot = &mut self.slots[index];
        let Some(work) = slot.work.take() else { return };
        let (range, wait) = (slot.range, slot.started.elapsed());
        self.free.push(index);
        let status = slot.status.read(&self.machine);
        let good = status == VIRTIO_BLK_S_OK as u8;
        let mut stats = lock(&load.stats);
        stats.latency.add(wait);
        stats.window.add(wait);
        if !good {
            stats.io_errors += 1;
            stats
                .first_wrong
                .get_or_insert_with(|| format!("status {status} for bytes {}..{}", range.start, range.end()));
        }
        match work {
            Work::Write { number } | Work::Zero { number, .. } if !good => self.ledger.fail(range, number),
            Work::Write { number } => {
                self.ledger.acknowledge(range, number);
                stats.writes += 1;
                stats.bytes_written += range.len;
            }
            Work::Zero { number, .. } => {
                self.ledger.acknowledge(range, number);
                stats.zeroes += 1;
            }
            Work::Flush => stats.flushes += 1,
            Work::Read if good => {
                let data = finished_data(&self.machine, index, range.len as usize);
                let DiskStats { wrong_blocks, first_wrong, .. } = &mut *stats;
                *wrong_blocks += self.ledger.judge(&self.slots[index].read, data, first_wrong);
                stats.reads += 1;
                stats.bytes_read += range.len;
            }
            Work::Read => {}
        }
    }

    /// Sleeps until something completes, the connection ends, or there is something else to do.
    pub(super) fn wait(&mut self, load: &DiskLoad) {
        for ring in &mut self.rings {
            if ring.want_interrupt(&self.machine) {
                return;
            }
        }
        let now = Instant::now();
        let mut sleep = LOOK;
        if self.connection.is_none() {
            sleep = sleep.min(self.next_connect.saturating_duration_since(now));
        }
        if load.options.rate.is_some() && !self.free.is_empty() {
            sleep = sleep.min(self.next_due.saturating_duration_since(now));
        }
        let calls: Vec<_> = self.machine.calls.iter().map(borrow).collect();
        let mut set: Vec<PollFd<'_>> = calls.iter().map(|call| PollFd::new(call, PollFlags::IN)).collect();
        if let Some(connection) = &self.connection {
            set.push(PollFd::new(connection.socket(), PollFlags::IN | PollFlags::RDHUP));
        }
        let timeout = Timespec { tv_sec: 0, tv_nsec: sleep.as_nanos() as _ };
        let woken = poll(&mut set, Some(&timeout)).is_ok_and(|count| count > 0); // else: time, or a signal
        if !woken && self.connection.is_some() && self.rings.iter_mut().any(|ring| ring.want_interrupt(&self.machine)) {
            // Completions, and no word of them. The word may be on its way; if not, it was forgotten.
            let grace = Timespec { tv_sec: 0, tv_nsec: INTERRUPT_GRACE.as_nanos() as _ };
            lock(&load.stats).lost_interrupts += u64::from(poll(&mut set, Some(&grace)) == Ok(0));
        }
        for call in &self.machine.calls {
            drop(call.read()); // empty: nobody called
        }
    }
}

fn borrow(event: &vmm_sys_util::eventfd::EventFd) -> std::os::fd::BorrowedFd<'_> {
    use std::os::fd::AsRawFd;
    // SAFETY: the event stays open as long as the borrow of it lasts.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(event.as_raw_fd()) }
}
