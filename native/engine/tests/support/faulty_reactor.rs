//! A reactor whose files fail, wait and overtake each other as they are told: operations are done late, in an order of their own, at once
//! or not at all. Descriptors are told apart by the path they were opened by.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use vmstorage_engine::disk::Errno;
use vmstorage_engine::reactor::{Completion, Op, Reactor, Token, Wait};

/// What happens to operations on files below a folder. Shares are of ten thousand.
#[derive(Clone, Debug, Default)]
pub struct Trouble {
    /// Part of the file's path: "/b/".
    pub place: String,
    /// Not done, or done in part, with one of `errnos`.
    pub failed: u64,
    pub errnos: Vec<Errno>,
    /// Of flushes so many fail.
    pub flush_failed: u64,
    /// Nothing is done before this moment, or before another trouble takes this one's place.
    pub hangs_until: Option<Instant>,
    /// The hang is one in the kernel: the submission of such an operation does not return, and nothing else hangs.
    pub stands_at: Option<fn(&Op) -> bool>,
    pub delay_most: Duration,
}

/// How often a file that hangs is looked at.
const HANG_LOOK: Duration = Duration::from_millis(2);

/// Shared with the test.
#[derive(Clone, Default)]
pub struct Faults {
    troubles: Arc<Mutex<Vec<Trouble>>>,
    hung: Arc<AtomicBool>,
}

impl Faults {
    pub fn set(&self, troubles: Vec<Trouble>) {
        self.hung.store(false, Ordering::Relaxed);
        *self.troubles.lock().unwrap() = troubles;
    }

    /// Whether an operation has met a file that hangs, since the troubles were set.
    pub fn has_hung(&self) -> bool {
        self.hung.load(Ordering::Relaxed)
    }

    /// Returns when no trouble stands in the way of the operation's submission.
    fn stand(&self, op: &Op) {
        let here = |trouble: Trouble| {
            trouble.stands_at.is_some_and(|here| here(op))
                && trouble.hangs_until.is_some_and(|until| until > Instant::now())
        };
        while here(self.of(fd_of(op))) {
            self.hung.store(true, Ordering::Relaxed);
            std::thread::sleep(HANG_LOOK);
        }
    }

    fn of(&self, fd: RawFd) -> Trouble {
        let troubles = self.troubles.lock().unwrap();
        let Ok(path) = std::fs::read_link(format!("/proc/self/fd/{fd}")) else { return Trouble::default() };
        let path = path.to_string_lossy().into_owned();
        troubles.iter().find(|trouble| path.contains(&trouble.place)).cloned().unwrap_or_default()
    }
}

pub struct FaultyReactor {
    faults: Faults,
    files: Vec<(Instant, Op, Token)>,
    polls: Vec<(Op, Token)>,
    state: u64,
}

impl FaultyReactor {
    pub fn new(faults: Faults, seed: u64) -> Self {
        Self { faults, files: Vec::new(), polls: Vec::new(), state: seed.wrapping_mul(2).wrapping_add(1) }
    }

    fn below(&mut self, limit: u64) -> u64 {
        // xorshift64*: good enough for dice.
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit.max(1)
    }

    fn dice(&mut self, share: u64) -> bool {
        self.below(10_000) < share
    }

    fn do_it(&mut self, op: Op, trouble: &Trouble) -> Result<u32, Errno> {
        let share = if matches!(op, Op::Sync { .. }) { trouble.flush_failed } else { trouble.failed };
        if self.dice(share) {
            // What failed may have been done all the same, or in part.
            match self.below(3) {
                0 => drop(run(op, true)),
                1 => drop(run(op, false)),
                _ => {}
            }
            let choice = self.below(trouble.errnos.len() as u64) as usize;
            return Err(trouble.errnos.get(choice).copied().unwrap_or(libc::EIO));
        }
        // Now and then a kernel moves less than it was asked to.
        let part = self.dice(200);
        run(op, part)
    }

    fn take_due(&mut self, out: &mut Vec<Completion>) {
        let now = Instant::now();
        let mut at = 0;
        while at < self.files.len() {
            let (due, op, token) = self.files[at];
            if due > now {
                at += 1;
                continue;
            }
            let trouble = self.faults.of(fd_of(&op));
            if trouble.stands_at.is_none() && trouble.hangs_until.is_some_and(|until| until > now) {
                self.faults.hung.store(true, Ordering::Relaxed);
                self.files[at].0 = now + HANG_LOOK;
                continue;
            }
            self.files.swap_remove(at);
            let result = self.do_it(op, &trouble);
            out.push(Completion { token, result });
        }
    }
}

fn fd_of(op: &Op) -> RawFd {
    let (Op::Readv { fd, .. }
    | Op::Writev { fd, .. }
    | Op::Sync { fd, .. }
    | Op::Fallocate { fd, .. }
    | Op::Truncate { fd, .. }
    | Op::PollIn { fd }
    | Op::Recv { fd, .. }
    | Op::Send { fd, .. }) = *op;
    fd
}

/// In part: at least one sector of a read or write, none of the rest.
fn run(op: Op, in_part: bool) -> Result<u32, Errno> {
    let moved = |iov: *const libc::iovec, count: u32, call: &dyn Fn(*const libc::iovec, i32) -> isize| {
        // SAFETY: valid until the completion, by the contract of `submit`.
        let mut parts = unsafe { std::slice::from_raw_parts(iov, count as usize) }.to_vec();
        if in_part {
            let whole: usize = parts.iter().map(|part| part.iov_len).sum();
            let mut left = (whole / 2 / 512 * 512).max(512);
            for part in &mut parts {
                part.iov_len = part.iov_len.min(left);
                left -= part.iov_len;
            }
        }
        call(parts.as_ptr(), parts.len() as i32)
    };
    let result = match op {
        Op::Readv { fd, offset, iov, count } => moved(iov, count, &|iov, count| {
            // SAFETY: as above.
            unsafe { libc::preadv(fd, iov, count, offset as i64) }
        }),
        Op::Writev { fd, offset, iov, count } => moved(iov, count, &|iov, count| {
            // SAFETY: as above.
            unsafe { libc::pwritev(fd, iov, count, offset as i64) }
        }),
        // SAFETY: no memory is passed.
        Op::Sync { fd, .. } => unsafe { libc::fdatasync(fd) as isize },
        // SAFETY: as above.
        Op::Fallocate { fd, mode, offset, len } => unsafe {
            libc::fallocate(fd, mode, offset as i64, len as i64) as isize
        },
        // SAFETY: as above.
        Op::Truncate { fd, len } => unsafe { libc::ftruncate(fd, len as i64) as isize },
        Op::PollIn { .. } => 0,
        // SAFETY: valid until the completion, by the contract of `submit`.
        Op::Recv { fd, buf, len } => unsafe { libc::recv(fd, buf.cast(), len as usize, 0) },
        // SAFETY: as above.
        Op::Send { fd, buf, len } => unsafe { libc::send(fd, buf.cast(), len as usize, libc::MSG_NOSIGNAL) },
    };
    if result < 0 { Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)) } else { Ok(result as u32) }
}

impl Reactor for FaultyReactor {
    unsafe fn submit(&mut self, op: Op, token: Token) {
        if matches!(op, Op::PollIn { .. } | Op::Recv { .. } | Op::Send { .. }) {
            return self.polls.push((op, token));
        }
        self.faults.stand(&op);
        let longest = self.faults.of(fd_of(&op)).delay_most;
        let late = Duration::from_nanos(self.below(longest.as_nanos() as u64 + 1));
        self.files.push((Instant::now() + late, op, token));
    }

    fn turn(&mut self, wait: Wait, out: &mut Vec<Completion>) -> io::Result<()> {
        self.take_due(out);
        let mut limit = match wait {
            Wait::AtMost(limit) if out.is_empty() => limit,
            _ => Duration::ZERO,
        };
        if let Some(next) = self.files.iter().map(|(due, ..)| *due).min() {
            limit = limit.min(next.saturating_duration_since(Instant::now()));
        }
        let awaited = |op: &Op| if matches!(op, Op::Send { .. }) { libc::POLLOUT } else { libc::POLLIN };
        let polls = self.polls.iter();
        let mut fds: Vec<libc::pollfd> =
            polls.map(|(op, _)| libc::pollfd { fd: fd_of(op), events: awaited(op), revents: 0 }).collect();
        let timeout = libc::timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) };
        // SAFETY: `fds` holds as many entries as are passed; no signal mask is given.
        unsafe { libc::ppoll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, &timeout, std::ptr::null()) };
        for at in (0..fds.len()).rev().filter(|at| fds[*at].revents != 0) {
            let (op, token) = self.polls.swap_remove(at);
            out.push(Completion { token, result: run(op, false) });
        }
        self.take_due(out);
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.files.len() + self.polls.len()
    }

    fn name(&self) -> &'static str {
        "faulty"
    }
}
