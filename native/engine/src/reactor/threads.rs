//! The fallback where io_uring is refused: a pool of threads doing preadv, pwritev and the like, same behaviour, about
//! two thirds of the throughput.
//!
//! Disk operations go to the pool. Polls and sockets stay with the owner's thread, which waits for all of them and for
//! the pool's eventfd in one poll(2).

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Completion, Op, Reactor, Token, Wait};
use crate::vital_thread::spawn_vital;

/// Enough to keep an NVMe queue busy; more only adds switches on a small machine.
const THREADS: usize = 8;
/// A file that hangs (a target whose device went away) keeps its threads; the other files' operations must not wait for it. So the
/// pool grows when an operation was not begun for this long, up to what a guest's queues and a move have in flight.
const BEGIN_LIMIT: Duration = Duration::from_millis(20);
const THREADS_MAX: usize = 512;
/// A thread beyond the first `THREADS` ends after this long without work.
const SURPLUS_IDLE: Duration = Duration::from_secs(5);

struct Job {
    op: Op,
    token: Token,
    since: Instant,
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
        let mut reactor = Self { shared, threads: Vec::new(), waiting: Vec::new(), poll_fds: Vec::new(), in_flight: 0 };
        for _ in 0..THREADS {
            reactor.add_thread(None)?;
        }
        Ok(reactor)
    }

    fn add_thread(&mut self, idle_limit: Option<Duration>) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let name = format!("io{}", self.threads.len());
        self.threads.push(spawn_vital(&name, move || work(&shared, idle_limit))?);
        Ok(())
    }

    /// Operations wait and none was begun for too long: the threads hang somewhere.
    fn grow_if_stuck(&mut self) {
        let stuck = {
            let queue = lock(&self.shared.queue);
            queue.jobs.front().filter(|job| job.since.elapsed() > BEGIN_LIMIT).map_or(0, |_| queue.jobs.len())
        };
        if stuck == 0 {
            return;
        }
        self.threads.retain(|thread| !thread.is_finished());
        for _ in 0..stuck.min(THREADS_MAX.saturating_sub(self.threads.len())) {
            // No thread to be had now: the next turn asks again.
            if self.add_thread(Some(SURPLUS_IDLE)).is_err() {
                return;
            }
        }
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
            lock(&self.shared.queue).jobs.push_back(Job { op, token, since: Instant::now() });
            self.shared.arrived.notify_one();
        }
    }

    fn turn(&mut self, wait: Wait, out: &mut Vec<Completion>) -> io::Result<()> {
        self.take_done(out);
        self.grow_if_stuck();
        let limit = match wait {
            Wait::AtMost(limit) if out.is_empty() && self.in_flight > self.waiting.len() => limit.min(BEGIN_LIMIT),
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

/// Until the queue is closed, or nothing was to be done for `idle_limit`.
fn work(shared: &Shared, idle_limit: Option<Duration>) {
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
                let Some(limit) = idle_limit else {
                    queue = shared.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
                    continue;
                };
                let waited = shared.arrived.wait_timeout(queue, limit).unwrap_or_else(PoisonError::into_inner);
                queue = waited.0;
                if waited.1.timed_out() && queue.jobs.is_empty() {
                    return;
                }
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

#[cfg(test)]
mod tests {
    use std::os::fd::FromRawFd;

    use super::*;
    use crate::image::AlignedBuffer;

    /// A page whose first use waits until this is dropped: a read into it hangs in the kernel, as one from a disk that went away.
    struct HangingPage {
        page: *mut libc::c_void,
        faults: OwnedFd,
    }
    const PAGE: usize = 4096;

    impl HangingPage {
        /// `None` where userfaultfd(2) is not allowed (`vm.unprivileged_userfaultfd`, seccomp).
        fn new() -> Option<Self> {
            #[repr(C)]
            struct Api(u64, u64, u64);
            #[repr(C)]
            struct Register(u64, u64, u64, u64);
            const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
            const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
            const MISSING: u64 = 1;
            // SAFETY: plain system calls; the structures are those of <linux/userfaultfd.h>, the page is ours alone.
            unsafe {
                let fd = libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC);
                if fd < 0 {
                    return None;
                }
                let faults = OwnedFd::from_raw_fd(fd as RawFd);
                let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                let page = libc::mmap(std::ptr::null_mut(), PAGE, libc::PROT_READ | libc::PROT_WRITE, anonymous, -1, 0);
                assert_ne!(page, libc::MAP_FAILED);
                let mut api = Api(0xaa, 0, 0);
                assert_eq!(libc::ioctl(faults.as_raw_fd(), UFFDIO_API, &mut api), 0);
                let mut register = Register(page as u64, PAGE as u64, MISSING, 0);
                assert_eq!(libc::ioctl(faults.as_raw_fd(), UFFDIO_REGISTER, &mut register), 0);
                Some(Self { page, faults })
            }
        }

        /// Lets everything that hangs go on.
        fn release(self) -> *mut libc::c_void {
            drop(self.faults);
            self.page
        }
    }

    #[test]
    fn operations_that_hang_do_not_hold_up_the_others_however_many_they_are() {
        // Dropped last: its threads can be joined only when nothing hangs any more.
        let mut reactor = ThreadReactor::new(64).unwrap();
        let Some(hanging) = HangingPage::new() else {
            let what = "userfaultfd(2) is not allowed here";
            assert!(std::env::var_os("CI").is_none_or(|v| v != "true"), "{what}, and CI=true allows no skips");
            eprintln!("skipped: {what}");
            return;
        };
        let file = tempfile::tempfile().unwrap();
        file.set_len(PAGE as u64).unwrap();
        let fd = file.as_raw_fd();
        let hung = THREADS * 3;
        let iov = libc::iovec { iov_base: hanging.page, iov_len: PAGE };
        let buffer = AlignedBuffer::new(PAGE);
        let good = buffer.iovec();
        let mut out = Vec::new();
        // SAFETY: page, buffer, iovecs and file outlive the completions waited for below.
        unsafe {
            for n in 0..hung {
                reactor.submit(Op::Readv { fd, offset: 0, iov: &iov, count: 1 }, Token::from_u64(n as u64));
            }
            reactor.submit(Op::Readv { fd, offset: 0, iov: &good, count: 1 }, Token::from_u64(1000));
        }
        let until = Instant::now() + Duration::from_secs(30);
        while out.is_empty() && Instant::now() < until {
            reactor.turn(Wait::AtMost(Duration::from_secs(1)), &mut out).unwrap();
        }
        assert_eq!(out.len(), 1, "only the one that does not hang has ended");
        assert_eq!(out[0].token.to_u64(), 1000);
        let page = hanging.release();
        while reactor.in_flight() > 0 && Instant::now() < until {
            reactor.turn(Wait::AtMost(Duration::from_secs(1)), &mut out).unwrap();
        }
        assert_eq!(out.len(), hung + 1);
        // SAFETY: nothing uses the page any more.
        unsafe { libc::munmap(page, PAGE) };
    }
}
