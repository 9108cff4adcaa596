//! A guest without a VM: the front end of vhost-user-blk with rings of its own, under a load whose every byte is judged.
//!
//! ```text
//!   load ─► split_ring ─┐                          one thread per disk
//!     │                 ├─ machine: memory, rings, eventfds, inflight region ──shared memory──► worker
//!     └─► oracle        │
//!                 connection ──Unix socket──────────────────────────────────────────────────► worker
//! ```
//! The machine outlives the worker: when the connection breaks, the guest keeps memory, rings and the inflight region, tries
//! to connect every 100 ms, and says what QEMU says on a reconnect. Requests in flight are not submitted again; they are the
//! worker's to finish. So a killed worker shows as a long wait, never as an error.

mod completions;
mod connection;
mod load;
mod machine;
mod options;
mod request;
mod split_ring;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use options::{GuestOptions, LedgerFile};

use super::latency::Histogram;
use load::DiskLoad;

/// What one disk did so far. Counts are of completed requests.
#[derive(Clone, Default)]
pub struct DiskStats {
    pub reads: u64,
    pub writes: u64,
    /// Write-zeroes and discards.
    pub zeroes: u64,
    pub flushes: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    /// Requests the worker answered with an error.
    pub io_errors: u64,
    /// Blocks that held what they must not hold.
    pub wrong_blocks: u64,
    /// Completions of requests that were not in flight: answered twice, or never asked.
    pub unexpected_completions: u64,
    /// Completions that were found by looking, long after the guest had asked to be interrupted for them.
    pub lost_interrupts: u64,
    /// Times a connection was made again after it broke.
    pub reconnects: u64,
    /// By ring: requests that workers whose connection broke had taken and not answered, all of them together.
    pub left_by_dead: Vec<u64>,
    /// Of those connections, how many broke with such requests in every ring.
    pub broken_in_all_rings: u64,
    /// Requests in flight now.
    pub in_flight: u64,
    pub connected: bool,
    /// From submission to completion, all kinds.
    pub latency: Histogram,
    /// As `latency`, since the last call of [`GuestHandle::take_window`].
    pub window: Histogram,
    /// The longest any request now in flight has been waiting, as of the moment the counters were taken.
    pub oldest_wait: Duration,
    /// When that request was submitted. A moment and not a length: the guest's own thread may be held too, in a connection that does
    /// not answer, and a wait has to grow whether anybody looks at it or not.
    oldest_since: Option<Instant>,
    /// The first thing that was wrong, in words.
    pub first_wrong: Option<String>,
    /// Why the last attempt to connect failed.
    pub last_connect_error: Option<String>,
}

/// What the guest saw from start to stop, per disk in the order of the sockets.
#[derive(Clone)]
pub struct Report {
    pub disks: Vec<DiskStats>,
    /// Requests that were still not answered when the guest gave up waiting at the end; 1 for a disk that was never there.
    pub stuck: u64,
    pub elapsed: Duration,
}

impl Report {
    /// No error, no wrong block, nothing lost, nothing twice.
    pub fn is_clean(&self) -> bool {
        self.stuck == 0
            && self
                .disks
                .iter()
                .all(|d| d.io_errors + d.wrong_blocks + d.unexpected_completions + d.lost_interrupts == 0)
    }

    pub fn longest_wait(&self) -> Duration {
        self.disks.iter().map(|disk| disk.latency.longest()).max().unwrap_or_default()
    }
}

struct DiskThread {
    stats: Arc<Mutex<DiskStats>>,
    thread: Option<JoinHandle<u64>>,
}

/// A running guest. Dropping it stops it without waiting for requests in flight.
pub struct GuestHandle {
    disks: Vec<DiskThread>,
    stop: Arc<AtomicBool>,
    abandon: Arc<AtomicBool>,
    started: Instant,
}

/// The built-in guest.
pub struct Guest;

impl Guest {
    /// Starts one thread per socket. The sockets need not be there yet: the guest keeps trying to connect.
    pub fn start(sockets: &[PathBuf], options: &GuestOptions) -> io::Result<GuestHandle> {
        options.check()?;
        let (stop, abandon) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let mut disks = Vec::new();
        for (number, socket) in sockets.iter().enumerate() {
            let stats = Arc::<Mutex<DiskStats>>::default();
            let load = DiskLoad::new(
                number as u32,
                socket.clone(),
                options.clone(),
                stats.clone(),
                stop.clone(),
                abandon.clone(),
            );
            let name = format!("guest-disk{number}");
            let thread = std::thread::Builder::new().name(name).spawn(move || load.run())?;
            disks.push(DiskThread { stats, thread: Some(thread) });
        }
        Ok(GuestHandle { disks, stop, abandon, started: Instant::now() })
    }
}

impl GuestHandle {
    pub fn stats(&self) -> Vec<DiskStats> {
        let taken = |disk: &DiskThread| {
            let mut stats = lock(&disk.stats).clone();
            stats.oldest_wait = stats.oldest_since.map(|since| since.elapsed()).unwrap_or_default();
            stats
        };
        self.disks.iter().map(taken).collect()
    }

    /// The waits of all disks since the last call, and starts the next window. For "before the move" and "during the move".
    pub fn take_window(&self) -> Histogram {
        let mut all = Histogram::default();
        for disk in &self.disks {
            all.merge(&std::mem::take(&mut lock(&disk.stats).window));
        }
        all
    }

    /// Submits nothing more, waits for what is in flight, reads back everything that was written, and says what was seen.
    pub fn stop(mut self) -> Report {
        self.stop.store(true, Ordering::Release);
        let mut stuck = 0;
        for disk in &mut self.disks {
            // A thread that panicked has not accounted for its requests.
            stuck += disk.thread.take().map_or(0, |thread| thread.join().unwrap_or(u64::MAX / 2));
        }
        Report { disks: self.stats(), stuck, elapsed: self.started.elapsed() }
    }
}

impl Drop for GuestHandle {
    fn drop(&mut self) {
        self.abandon.store(true, Ordering::Release);
        self.stop.store(true, Ordering::Release);
        for disk in &mut self.disks {
            if let Some(thread) = disk.thread.take() {
                drop(thread.join());
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
