//! How hard the guest works, and how it speaks.

use std::path::PathBuf;
use std::time::Duration;

use crate::testing::oracle::InitialContent;

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
    pub initial: InitialContent,
    pub ledger: LedgerFile,
    /// How long the end waits for requests in flight.
    pub patience: Duration,
    /// Read back every written block at the end.
    pub verify_at_end: bool,
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
            initial: InitialContent::Zeros,
            ledger: LedgerFile::None,
            patience: Duration::from_secs(30),
            verify_at_end: true,
        }
    }
}
