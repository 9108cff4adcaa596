//! A disk as it is served: its image, the guest's requests in flight, their latency.

use std::any::Any;
use std::sync::Arc;
use std::time::SystemTime;

use super::latency::{Latency, LatencySummary};
use crate::disk::{ByteRange, Errno, IoVecs, RequestKind};
use crate::exports::DiskFacts;
use crate::image::{AlignedBuffer, Slots};
use crate::mirror::{ChunkMap, SavedMap};

/// A guest request between its arrival and the moment nothing refers to it any more.
#[derive(Default)]
pub struct GuestRequest {
    pub export: u32,
    pub tag: u64,
    pub kind: Option<RequestKind>,
    pub range: ByteRange,
    pub iov: IoVecs,
    pub keep: Option<Arc<dyn Any + Send + Sync>>,
    pub fua: bool,
    /// A write with `fua` whose data is written and whose flush is under way.
    pub flushing: bool,
    pub started_us: u64,
    /// The data of a mirrored write: taken out of guest memory once, because the guest may change it between the two writes.
    pub bounce: Option<AlignedBuffer>,
    /// Image operations under way for it.
    pub parts: u8,
    pub answered: bool,
    /// Under way when a move began, on its own or in the hands of an earlier move that has ended: its completion goes to the new move's
    /// machine (driver and member).
    pub adopted: Option<(u32, u32)>,
}

/// A request of the guest that was answered with an error of its storage.
#[derive(Clone, Copy, Debug)]
pub struct GuestError {
    pub errno: Errno,
    pub kind: Option<RequestKind>,
    pub range: ByteRange,
    pub at: SystemTime,
}

/// Chunks the guest has written since a worker began to resume a move.
pub struct Tracking {
    /// In the journal, for the next worker should this one die ...
    pub saved: SavedMap,
    /// ... and here, so that they are found without a look at all of the journal's map.
    pub chunks: ChunkMap,
}

pub struct Disk {
    pub facts: DiskFacts,
    /// Number of the image that serves it (the source, while it moves).
    pub image: u32,
    pub requests: Slots<GuestRequest>,
    pub latency: Latency,
    /// The driver and its number of this disk while it is part of a move.
    pub moving: Option<(u32, u32)>,
    /// Where writes are marked dirty while a resumed move waits for its target: nothing written meanwhile is forgotten.
    pub tracking: Option<Tracking>,
    pub bytes_read: u64,
    pub bytes_written: u64,
    /// Since the image that serves it began to.
    pub errors: u64,
    pub last_error: Option<GuestError>,
}

impl Disk {
    pub fn new(facts: DiskFacts, image: u32) -> Self {
        Self {
            facts,
            image,
            requests: Slots::new(),
            latency: Latency::default(),
            moving: None,
            tracking: None,
            bytes_read: 0,
            bytes_written: 0,
            errors: 0,
            last_error: None,
        }
    }

    /// From here on `image` serves it; the errors of the one before are no news of this one.
    pub fn serve_from(&mut self, image: u32) {
        self.image = image;
        self.errors = 0;
        self.last_error = None;
    }

    /// Since the latency was last marked, a wait that goes on included.
    pub fn longest_wait_us(&self, now_us: u64) -> u64 {
        let waiting = (0..self.requests.len() as u32).filter_map(|id| {
            let entry = self.requests.get_ref(id);
            (entry.kind.is_some() && !entry.answered).then(|| now_us.saturating_sub(entry.started_us))
        });
        waiting.max().unwrap_or(0).max(self.latency.summary().max_us)
    }

    /// Whether the guest still waits for anything.
    pub fn has_unanswered(&self) -> bool {
        (0..self.requests.len() as u32).any(|id| {
            let entry = self.requests.get_ref(id);
            entry.kind.is_some() && !entry.answered
        })
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct DiskStats {
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub errors: u64,
    pub last_error: Option<GuestError>,
    pub in_flight: usize,
    pub p99_us: Option<u64>,
    pub latency: LatencySummary,
}
