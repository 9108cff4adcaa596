//! Signals, locks and descriptors that Node has no call for.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use napi_derive::napi;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use vmstorage_engine::disk::DiskError;

use crate::error::{invalid, to_napi};

/// Field 22 of /proc/<pid>/stat, counted after the name in parentheses, which may hold anything (proc(5)).
const START_TICKS_AFTER_NAME: usize = 19;

/// Sends a signal to the process of this number *and* start time (clock ticks since boot), or to none: false when that one is gone. The
/// number is pinned by a pidfd before the time is looked at, so one that was given to another process meanwhile is never signalled.
#[napi]
pub fn signal_process(pid: u32, start_ticks: String, signal: i32) -> napi::Result<bool> {
    let wanted =
        i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| invalid("that is not a process's number"))?;
    let failed =
        |what: &str, errno: Errno| to_napi(&DiskError::io(what, format!("process {pid}").as_ref(), errno.into()));
    let pinned = match pidfd_open(wanted, PidfdFlags::empty()) {
        Ok(pinned) => pinned,
        Err(Errno::SRCH) => return Ok(false),
        Err(errno) => return Err(failed("find", errno)),
    };
    // Of another process only if the pinned one is gone, and then the signal reaches nobody.
    if start_ticks_of(pid).as_deref() != Some(start_ticks.as_str()) {
        return Ok(false);
    }
    match send(pinned.as_fd(), signal) {
        Ok(()) => Ok(true),
        Err(Errno::SRCH) => Ok(false),
        Err(errno) => Err(failed("signal", errno)),
    }
}

/// rustix takes no signal by a number that comes from outside; the kernel refuses (EINVAL) one that there is not.
fn send(process: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    // SAFETY: no pointer is passed but the null of "as kill(2) would say it".
    let code = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    if code == 0 { Ok(()) } else { Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)) }
}

fn start_ticks_of(pid: u32) -> Option<String> {
    let text = std::fs::read(PathBuf::from(format!("/proc/{pid}/stat"))).ok()?;
    let text = String::from_utf8_lossy(&text);
    let after = text.rfind(')').and_then(|at| text.get(at + 2..))?;
    after.split(' ').nth(START_TICKS_AFTER_NAME).map(str::to_owned)
}

/// Takes the lock of an open file for the one open description (flock(2)); false when another has it. It ends with the last copy of the
/// descriptor, however the process ends.
#[napi]
pub fn lock_descriptor(descriptor: i32) -> napi::Result<bool> {
    if descriptor < 0 {
        return Err(invalid("a descriptor is not negative"));
    }
    // SAFETY: the caller's file is open while this runs: Node is single-threaded, and it is called with a live handle.
    let file = unsafe { BorrowedFd::borrow_raw(descriptor) };
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(to_napi(&DiskError::io("lock", "the file".as_ref(), errno.into()))),
    }
}

/// Descriptors this process was started with are not for those it starts: whoever started it may have left some open. Those it passes on
/// by intent, and its standard three, are passed all the same. Linux 5.11.
#[napi]
pub fn keep_descriptors() -> napi::Result<()> {
    const FIRST: libc::c_uint = 3;
    // SAFETY: changes a flag of descriptors; none is closed and no memory is named.
    let code = unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if code == 0 {
        return Ok(());
    }
    let cause = std::io::Error::last_os_error();
    Err(to_napi(&DiskError::io("keep the descriptors of", "this process".as_ref(), cause)))
}

/// For a worker: what leads from it into other processes, programs, the kernel and the network fails from now on, in all its threads.
#[napi]
pub fn refuse_dangerous_calls() -> napi::Result<()> {
    vmstorage_engine::worker::refuse_dangerous_calls().map_err(|error| to_napi(&error))
}
