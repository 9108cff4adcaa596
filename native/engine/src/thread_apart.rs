//! Threads that may stand still in a file system, apart from the descriptors of the process.
//!
//! A process that is killed gives up a descriptor when its last thread that has the table is gone, and a thread that sleeps in a file
//! system is not gone before that lets it. With one table for all, a destination that hangs would keep the guest's socket and the locks
//! of its disks from the successor of a killed worker, as long as it hangs. So whoever calls a file system that is not the guest's own
//! does so from a thread with a table of its own, in which there is nothing else (docs/design/0006-lanes.md).

use std::io;
use std::os::fd::RawFd;
use std::thread;

use crate::vital_thread::{OnPanic, block_signals, die};

/// Standard input, output and error: a panic has to be told. The log behind them is on the state folder's file system.
const STANDARD: RawFd = 2;

/// Gives the calling thread, and those it starts from now on, a descriptor table of its own with `kept` alone, under the numbers they
/// had. False where the kernel cannot do it (before 5.9) or may not: then the table stays shared and nothing is closed.
pub fn leave_table(kept: &[RawFd]) -> bool {
    let mut kept: Vec<RawFd> = kept.iter().copied().filter(|fd| *fd > STANDARD).collect();
    kept.sort_unstable();
    kept.dedup();
    // The end first: with it the table becomes ours, and only what lies before it is copied.
    let behind = kept.last().copied().unwrap_or(STANDARD) as u32 + 1;
    if !close_range(behind, u32::MAX, libc::CLOSE_RANGE_UNSHARE as i32) {
        return false;
    }
    let mut from = STANDARD as u32 + 1;
    for fd in kept {
        if fd as u32 > from {
            // The table is ours by now, so that this closes nothing of anybody else, and it fails only for a range that is none.
            close_range(from, fd as u32 - 1, 0);
        }
        from = fd as u32 + 1;
    }
    true
}

fn close_range(first: u32, last: u32, flags: i32) -> bool {
    // SAFETY: no memory is passed. What is closed is this thread's alone: the first call makes it so, or closes nothing.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) == 0 }
}

/// Runs `body` on a thread of its own with a table of its own, and waits for it; a kill ends the wait. `body` is told whether it has one,
/// and opens what it needs by path. A descriptor it returns is of no use to the caller if it has.
///
/// # Errors
/// What the operating system says when it gives no thread.
pub fn apart<R: Send>(name: &str, kept: &[RawFd], body: impl FnOnce(bool) -> R + Send) -> io::Result<R> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, || {
            block_signals();
            let _ends_the_process = OnPanic;
            body(leave_table(kept))
        })?;
        Ok(thread.join().unwrap_or_else(|_| die()))
    })
}
