//! All I/O of the data path, behind one trait: submit an operation, get its completion in a later turn.
//!
//! A reactor belongs to one thread. Buffers named by an [`Op`] stay valid until its completion has been taken: the
//! kernel may still write into them after the submitter lost interest. Two implementations with the same behaviour:
//! [`uring::UringReactor`] and, where io_uring is refused, [`threads::ThreadReactor`]. Either may stand in the kernel while it submits,
//! so files that must not hold the others up get a [`Lane`]: a thread with such a reactor of its own.

mod bell;
mod lane;
mod poll_window;
mod reactors;
pub mod threads;
pub mod uring;

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

pub use lane::Lane;
pub use poll_window::PollWindow;
pub use reactors::{LANES_MAX, LaneId, Reactors};

use crate::disk::Errno;

/// Says whose operation completed: the owner's number and a slot in the owner's own table. 32 bits each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub owner: u32,
    pub slot: u32,
}

impl Token {
    pub const fn to_u64(self) -> u64 {
        ((self.owner as u64) << 32) | self.slot as u64
    }

    pub const fn from_u64(value: u64) -> Self {
        Self { owner: (value >> 32) as u32, slot: value as u32 }
    }
}

/// One operation. Offsets and lengths in bytes; `offset` follows the rules of pread(2).
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Readv {
        fd: RawFd,
        offset: u64,
        iov: *const libc::iovec,
        count: u32,
    },
    Writev {
        fd: RawFd,
        offset: u64,
        iov: *const libc::iovec,
        count: u32,
    },
    /// fdatasync(2), or fsync(2) when `data_only` is false.
    Sync {
        fd: RawFd,
        data_only: bool,
    },
    /// fallocate(2) with `mode`.
    Fallocate {
        fd: RawFd,
        mode: i32,
        offset: u64,
        len: u64,
    },
    Truncate {
        fd: RawFd,
        len: u64,
    },
    /// Completes once when `fd` is readable (or hung up). Level triggered; submit again to wait again.
    PollIn {
        fd: RawFd,
    },
    Recv {
        fd: RawFd,
        buf: *mut u8,
        len: u32,
    },
    Send {
        fd: RawFd,
        buf: *const u8,
        len: u32,
    },
}

#[derive(Clone, Copy, Debug)]
pub struct Completion {
    pub token: Token,
    /// Bytes moved (0 for operations without a count), or the errno. A short count is possible and is the submitter's to continue.
    pub result: Result<u32, Errno>,
}

/// How long a turn may block when nothing has completed.
#[derive(Clone, Copy, Debug)]
pub enum Wait {
    /// Take what is there.
    No,
    /// Until something completes, at most this long.
    AtMost(Duration),
}

pub trait Reactor {
    /// Queues `op`; it starts at the latest with the next turn and completes exactly once, with `token`.
    ///
    /// # Safety
    /// Every pointer in `op` (the iovec array and what it points at, or the buffer) stays valid and, for reads, unaliased
    /// until the completion has been returned by [`Reactor::turn`]. The descriptor stays open until then.
    unsafe fn submit(&mut self, op: Op, token: Token);

    /// Starts what was submitted and appends completions to `out`.
    fn turn(&mut self, wait: Wait, out: &mut Vec<Completion>) -> std::io::Result<()>;

    /// Operations submitted and not completed yet.
    fn in_flight(&self) -> usize;

    fn name(&self) -> &'static str;
}

/// Makes a reactor on the thread that will run it; more than once, for each lane gets one.
pub type OpenReactor = Arc<dyn Fn() -> std::io::Result<Box<dyn Reactor>> + Send + Sync>;

/// The reactor to use, made on the thread that will run it: `VMSTORAGE_IO=threads` forces the fallback (the tests run on both), otherwise io_uring if a probe works.
pub fn open_reactor(entries: u32) -> std::io::Result<Box<dyn Reactor>> {
    if std::env::var_os("VMSTORAGE_IO").is_some_and(|v| v == "threads") {
        return Ok(Box::new(threads::ThreadReactor::new(entries)?));
    }
    match uring::UringReactor::new(entries) {
        Ok(ring) => Ok(Box::new(ring)),
        Err(_) => Ok(Box::new(threads::ThreadReactor::new(entries)?)),
    }
}
