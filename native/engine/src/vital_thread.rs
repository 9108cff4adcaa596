//! Threads without which a guest or a move would stand still for ever.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Starts a thread whose panic ends the process. A process without it would look alive while nothing answers; its death is what everybody
/// is prepared for: the host starts a successor, which resubmits what was in flight and resumes the move from the journal.
///
/// # Errors
/// What the operating system says when it gives no thread.
pub fn spawn_vital<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.to_owned()).spawn(move || {
        block_signals();
        let _ends_the_process = OnPanic;
        body()
    })
}

/// Node's signals are for Node's main thread.
pub(crate) fn block_signals() {
    // SAFETY: both calls fill or read a set that lives on this stack; blocking signals of this thread touches nothing else.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        // Blocked, a fault ends the process whatever handler there is (memory_guard.rs).
        libc::sigdelset(&mut all, libc::SIGBUS);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, std::ptr::null_mut());
    }
}

/// Ends the process when it is dropped by a panic.
pub(crate) struct OnPanic;

impl Drop for OnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The panic itself has been printed: it is in the worker's log.
            die();
        }
    }
}

/// Ends the process at once, whatever its other threads do. Not by SIGABRT: the kernel lets all threads come together for the core dump,
/// also for one that is not written, and one that stands still in a file system would keep the guest's socket open meanwhile.
pub(crate) fn die() -> ! {
    // SAFETY: kill and getpid take no memory.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    std::process::abort();
}
