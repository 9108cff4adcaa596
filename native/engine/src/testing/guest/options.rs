//! How hard the guest works, and how it speaks.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::request::MOST_BUFFERS;
use crate::disk::SECTOR_BYTES;
use crate::exports::vhost_user_blk::MAX_QUEUES;
use crate::testing::oracle::InitialContent;

/// Bytes of one request at most: what one segment of a vhost-user disk may hold.
const MOST_BYTES: u64 = 1 << 20;

/// Where the guest keeps what its disks may hold.
#[derive(Clone, Debug)]
pub enum LedgerFile {
    /// In memory; judged by the guest alone.
    None,
    /// A new file `disk<N>.ledger` per disk in this folder.
    Create(PathBuf),
    /// The files of an earlier guest in this folder, gone on with.
    Continue(PathBuf),
}

#[derive(Clone, Debug)]
pub struct GuestOptions {
    pub seed: u64,
    /// Rings per disk.
    pub queues: u16,
    /// Entries per ring, a power of two.
    pub ring_size: u16,
    /// Requests in flight per disk.
    pub depth: usize,
    /// Requests are whole blocks of this size at multiples of it. Bytes.
    pub block_bytes: u32,
    /// Blocks of one request, from 1 to this.
    pub longest_blocks: u32,
    /// Only the first so many bytes of the disk are used; `None`: all of it.
    pub span_bytes: Option<u64>,
    /// Share of requests that go to the first `hot_bytes`, in percent.
    pub hot_percent: u32,
    pub hot_bytes: u64,
    /// Shares of all requests, in percent; the rest are reads.
    pub write_percent: u32,
    /// Write-zeroes and discards, in percent. Not sent when the worker does not offer them.
    pub zero_percent: u32,
    /// A flush after so many writes; 0: never.
    pub flush_every: u32,
    /// Requests per second and disk; `None`: as fast as it goes.
    pub rate: Option<u32>,
    pub event_idx: bool,
    pub indirect: bool,
    /// ADD_MEM_REG per region rather than one SET_MEM_TABLE, as QEMU does where it is offered.
    pub memory_slots: bool,
    /// Cut data at any byte, not only at sectors.
    pub odd_splits: bool,
    /// Frame requests as Linux does (header, data in one piece, status, in an indirect table) rather than a new way each time:
    /// for measurements.
    pub plain_chains: bool,
    pub initial: InitialContent,
    pub ledger: LedgerFile,
    /// How long the end waits for requests in flight.
    pub patience: Duration,
    /// Read back every written block at the end.
    pub verify_at_end: bool,
}

impl GuestOptions {
    pub(super) fn check(&self) -> io::Result<()> {
        let block = u64::from(self.block_bytes);
        let wrong = [
            (self.queues == 0 || self.queues > MAX_QUEUES, "queues: 1 to 64"),
            (!self.ring_size.is_power_of_two() || self.ring_size > 1024, "ring_size: a power of two up to 1024"),
            (usize::from(self.ring_size) < MOST_BUFFERS, "ring_size: at least 8"),
            (self.depth == 0, "depth: at least 1"),
            (block == 0 || !block.is_multiple_of(SECTOR_BYTES), "block_bytes: a multiple of 512"),
            (self.longest_blocks == 0 || block * u64::from(self.longest_blocks) > MOST_BYTES, "longest_blocks: 1 MiB"),
            (self.span_bytes.is_some_and(|span| span < block), "span_bytes: at least one block"),
            (self.write_percent + self.zero_percent > 100, "write_percent and zero_percent: at most 100 together"),
        ];
        match wrong.iter().find(|(wrong, _)| *wrong) {
            Some((_, what)) => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("the guest's {what}"))),
            None => Ok(()),
        }
    }
}

impl Default for GuestOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            queues: 1,
            ring_size: 128,
            depth: 32,
            block_bytes: 4096,
            longest_blocks: 16,
            span_bytes: None,
            hot_percent: 50,
            hot_bytes: 256 << 10,
            write_percent: 60,
            zero_percent: 2,
            flush_every: 64,
            rate: None,
            event_idx: true,
            indirect: true,
            memory_slots: true,
            odd_splits: false,
            plain_chains: false,
            initial: InitialContent::Zeros,
            ledger: LedgerFile::None,
            patience: Duration::from_secs(30),
            verify_at_end: true,
        }
    }
}
