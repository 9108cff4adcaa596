//! The fallback where io_uring is refused: a pool of threads doing preadv, pwritev and the like, same behaviour, about
//! two thirds of the throughput.
//!
//! Disk operations go to the pool. Polls and sockets stay with the owner's thread, which waits for all of them and for
//! the pool's eventfd in one poll(2).

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Completion, Op, Reactor, Token, Wait};

/// Enough to keep an NVMe queue busy; more only adds switches on a small machine.
const THREADS: usize = 8;

struct Job {
    op: Op,
    token: Token,
}

// SAFETY: the pointers in `op` are the submitter's promise (see `Reactor::submit`): valid until the completion, on any thread.
unsafe impl Send for Job {}

struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
    done: Mutex<Vec<Completion>>,
    wake: OwnedFd,
}

pub struct ThreadReactor {
    shared: Arc<Shared>,
    threads: Vec<std::thread::JoinHandle<()>>,
    /// Polls, receives and sends waiting for their descriptor.
    waiting: Vec<(Op, Token)>,
    poll_fds: Vec<libc::pollfd>,
    in_flight: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves these queues whole: every critical section is one push or pop.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ThreadReactor {
    pub fn new(_entries: u32) -> io::Result<Self> {
        let wake =
            rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue { jobs: VecDeque::new(), closed: false }),
            arrived: Condvar::new(),
            done: Mutex::new(Vec::new()),
            wake,
        });
        let mut threads = Vec::with_capacity(THREADS);
        for n in 0..THREADS {
            let shared = Arc::clone(&shared);
            threads.push(std::thread::Builder::new().name(format!("io{n}")).spawn(move || work(&shared))?);
        }
        Ok(Self { shared, threads, waiting: Vec::new(), poll_fds: Vec::new(), in_flight: 0 })
    }

    fn take_done(&mut self, out: &mut Vec<Completion>) {
        let mut done = lock(&self.shared.done);
        self.in_flight -= done.len();
        out.append(&mut done);
    }

    /// One attempt at a socket operation; `None` when it would block.
    fn attempt(op: &Op) -> Option<Result<u32, i32>> {
        let result = match *op {
            Op::PollIn { .. } => return Some(Ok(0)),
            // SAFETY: `buf` and `len` are valid until the completion by the contract of `submit`.
            Op::Recv { fd, buf, len } => unsafe { libc::recv(fd, buf.cast(), len as usize, libc::MSG_DONTWAIT) },
            // SAFETY: as above.
            Op::Send { fd, buf, len } => unsafe {
                libc::send(fd, buf.cast(), len as usize, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
            },
            _ => return Some(Err(libc::EINVAL)),
        };
        if result >= 0 {
            return Some(Ok(result as u32));
        }
        match io::Error::last_os_error().raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR) => None,
            Some(errno) => Some(Err(errno)),
            None => Some(Err(libc::EIO)),
        }
    }
}

impl Reactor for ThreadReactor {
    unsafe fn submit(&mut self, op: Op, token: Token) {
        self.in_flight += 1;
        if matches!(op, Op::PollIn { .. } | Op::Recv { .. } | Op::Send { .. }) {
            self.waiting.push((op, token));
        } else {
            lock(&self.shared.queue).jobs.push_back(Job { op, token });
            self.shared.arrived.notify_one();
        }
    }

    fn turn(&mut self, wait: Wait, out: &mut Vec<Completion>) -> io::Result<()> {
        self.take_done(out);
        let limit = match wait {
            Wait::AtMost(limit) if out.is_empty() => limit,
            _ => Duration::ZERO,
        };
        self.poll_fds.clear();
        self.poll_fds.push(libc::pollfd { fd: self.shared.wake.as_raw_fd(), events: libc::POLLIN, revents: 0 });
        for (op, _) in &self.waiting {
            let (fd, events): (RawFd, i16) = match *op {
                Op::PollIn { fd } | Op::Recv { fd, .. } => (fd, libc::POLLIN),
                Op::Send { fd, .. } => (fd, libc::POLLOUT),
                _ => (-1, 0),
            };
            self.poll_fds.push(libc::pollfd { fd, events, revents: 0 });
        }
        let timeout = libc::timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) };
        // SAFETY: `poll_fds` holds `len` initialised entries for the length of the call; no signal mask is given.
        let ready = unsafe {
            libc::ppoll(self.poll_fds.as_mut_ptr(), self.poll_fds.len() as libc::nfds_t, &timeout, std::ptr::null())
        };
        if ready < 0 {
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(libc::EINTR) { Ok(()) } else { Err(error) };
        }
        if ready > 0 {
            if self.poll_fds[0].revents != 0 {
                let mut count = [0u8; 8];
                match rustix::io::read(&self.shared.wake, &mut count) {
                    Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                    Err(e) => return Err(e.into()),
                }
            }
            for index in (0..self.waiting.len()).rev() {
                if self.poll_fds[index + 1].revents == 0 {
                    continue;
                }
                let (op, token) = self.waiting[index];
                if let Some(result) = Self::attempt(&op) {
                    self.waiting.swap_remove(index);
                    self.in_flight -= 1;
                    out.push(Completion { token, result });
                }
            }
        }
        self.take_done(out);
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn name(&self) -> &'static str {
        "threads"
    }
}

impl Drop for ThreadReactor {
    fn drop(&mut self) {
        lock(&self.shared.queue).closed = true;
        self.shared.arrived.notify_all();
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

fn work(shared: &Shared) {
    loop {
        let job = {
            let mut queue = lock(&shared.queue);
            loop {
                if let Some(job) = queue.jobs.pop_front() {
                    break job;
                }
                if queue.closed {
                    return;
                }
                queue = shared.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        };
        let result = run(&job.op);
        lock(&shared.done).push(Completion { token: job.token, result });
        if rustix::io::write(&shared.wake, &1u64.to_ne_bytes()).is_err() {
            // The counter is full (2^64 - 2 wakes unread): the owner is awake anyway.
        }
    }
}

fn run(op: &Op) -> Result<u32, i32> {
    loop {
        // SAFETY: every pointer is valid until the completion by the contract of `submit`; the descriptors stay open.
        let result = unsafe {
            match *op {
                Op::Readv { fd, offset, iov, count } => libc::preadv(fd, iov, count as i32, offset as i64),
                Op::Writev { fd, offset, iov, count } => libc::pwritev(fd, iov, count as i32, offset as i64),
                Op::Sync { fd, data_only: true } => libc::fdatasync(fd) as isize,
                Op::Sync { fd, data_only: false } => libc::fsync(fd) as isize,
                Op::Fallocate { fd, mode, offset, len } => {
                    libc::fallocate(fd, mode, offset as i64, len as i64) as isize
                }
                Op::Truncate { fd, len } => libc::ftruncate(fd, len as i64) as isize,
                Op::PollIn { .. } | Op::Recv { .. } | Op::Send { .. } => return Err(libc::EINVAL),
            }
        };
        if result >= 0 {
            return Ok(result as u32);
        }
        match io::Error::last_os_error().raw_os_error() {
            Some(libc::EINTR) => {}
            errno => return Err(errno.unwrap_or(libc::EIO)),
        }
    }
}
