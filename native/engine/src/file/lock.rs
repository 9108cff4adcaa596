//! Two locks on every image we serve, both on the descriptor the reactor uses.
//!
//! * **The fence** is flock(2). It belongs to the open file description, and a request still in the kernel keeps that
//!   description alive: after `kill -9` a successor gets the lock only when the dead process's last write has landed.
//!   "The pid is gone" proves nothing; the lock does.
//! * **QEMU's own image locks** are OFD byte-range locks (block/file-posix.c: 100 + n for a permission held, 200 + n for one
//!   not shared). We hold them the way QEMU does, so that qemu-img refuses a live image of ours.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::host_file::HostFile;
use crate::disk::{DiskError, ErrorKind};

const QEMU_PERMISSION_BASE: i64 = 100;
const QEMU_NOT_SHARED_BASE: i64 = 200;
/// BLK_PERM_CONSISTENT_READ, WRITE and RESIZE are bits 0, 1 and 3.
const CONSISTENT_READ: i64 = 0;
const WRITE: i64 = 1;
const RESIZE: i64 = 3;

/// How often a held lock is tried again while waiting: flock has no time-out, and a thread blocked in it could not be stopped.
const RETRY: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug)]
pub enum LockWait<'a> {
    /// Fail at once with `Locked`.
    No,
    /// A predecessor may still have writes in the kernel: keep trying this long.
    AtMost(Duration),
    /// The same without an end, until it is set: then fail with `Cancelled`.
    Until(&'a AtomicBool),
}

impl LockWait<'_> {
    fn goes_on(self, began: Instant) -> bool {
        match self {
            LockWait::No => false,
            LockWait::AtMost(limit) => began.elapsed() < limit,
            LockWait::Until(asked) => !asked.load(Ordering::SeqCst),
        }
    }
}

impl HostFile {
    /// Takes the fence and QEMU's locks. Blocking up to the wait given: not for the reactor thread.
    pub fn lock(&self, writable: bool, wait: LockWait<'_>) -> Result<(), DiskError> {
        let began = Instant::now();
        let kind = if writable { libc::LOCK_EX } else { libc::LOCK_SH };
        loop {
            // SAFETY: flock takes a descriptor we own and no memory.
            if unsafe { libc::flock(self.fd(), kind | libc::LOCK_NB) } == 0 {
                break;
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EWOULDBLOCK) if wait.goes_on(began) => std::thread::sleep(RETRY),
                Some(libc::EWOULDBLOCK) if matches!(wait, LockWait::Until(_)) => {
                    let message = format!("the lock of '{}' is not waited for any more", self.path().display());
                    return Err(DiskError::new(ErrorKind::Cancelled, message).at(self.path()));
                }
                Some(libc::EWOULDBLOCK) => {
                    let message = format!(
                        "'{}' is in use by another process; stop what serves it (a worker, qemu-nbd) and try again",
                        self.path().display()
                    );
                    return Err(DiskError::new(ErrorKind::Locked, message).at(self.path()));
                }
                _ => return Err(DiskError::io("lock", self.path(), error)),
            }
        }
        self.lock_like_qemu(writable)
    }

    fn lock_like_qemu(&self, writable: bool) -> Result<(), DiskError> {
        let held: &[i64] = if writable { &[CONSISTENT_READ, WRITE, RESIZE] } else { &[CONSISTENT_READ] };
        let not_shared: &[i64] = &[WRITE, RESIZE];
        for bit in held {
            self.ofd_lock(libc::F_OFD_SETLK, QEMU_PERMISSION_BASE + bit)?;
        }
        for bit in not_shared {
            self.ofd_lock(libc::F_OFD_SETLK, QEMU_NOT_SHARED_BASE + bit)?;
        }
        // As QEMU does: a lock of our own kind never conflicts; somebody's contrary claim shows when an exclusive one is asked for.
        let claims =
            held.iter().map(|b| QEMU_NOT_SHARED_BASE + b).chain(not_shared.iter().map(|b| QEMU_PERMISSION_BASE + b));
        for byte in claims {
            if self.ofd_conflict(byte)? {
                let message =
                    format!("'{}' is open in another program (QEMU, qemu-img, qemu-nbd)", self.path().display());
                return Err(DiskError::new(ErrorKind::Locked, message).at(self.path()));
            }
        }
        Ok(())
    }

    fn ofd_lock(&self, command: i32, byte: i64) -> Result<(), DiskError> {
        let mut lock = byte_lock(libc::F_RDLCK as i16, byte);
        // SAFETY: `lock` is a valid flock structure for the length of the call.
        if unsafe { libc::fcntl(self.fd(), command, &mut lock) } < 0 {
            let error = io::Error::last_os_error();
            if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) {
                let message =
                    format!("'{}' is open in another program (QEMU, qemu-img, qemu-nbd)", self.path().display());
                return Err(DiskError::new(ErrorKind::Locked, message).at(self.path()));
            }
            return Err(DiskError::io("lock", self.path(), error));
        }
        Ok(())
    }

    fn ofd_conflict(&self, byte: i64) -> Result<bool, DiskError> {
        let mut lock = byte_lock(libc::F_WRLCK as i16, byte);
        // SAFETY: as above; F_OFD_GETLK only fills the structure in.
        if unsafe { libc::fcntl(self.file().as_raw_fd(), libc::F_OFD_GETLK, &mut lock) } < 0 {
            return Err(DiskError::io("examine the locks of", self.path(), io::Error::last_os_error()));
        }
        Ok(lock.l_type != libc::F_UNLCK as i16)
    }
}

fn byte_lock(kind: i16, byte: i64) -> libc::flock {
    libc::flock { l_type: kind, l_whence: libc::SEEK_SET as i16, l_start: byte, l_len: 1, l_pid: 0 }
}
