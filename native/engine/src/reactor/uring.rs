//! The io_uring reactor: one ring, one thread, one system call per turn and per group of operations.
//!
//! SINGLE_ISSUER + DEFER_TASKRUN + NO_SQARRAY + SUBMIT_ALL: completions are run only when this thread asks for them, which is
//! what a loop that batches wants. No SQPOLL (it would take half of a two-core machine), no registered buffers (no gain was
//! measured). The ring has to be made on the thread that uses it.

use std::collections::VecDeque;
use std::io;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::{Completion, Op, Reactor, Token, Wait};

/// Completions may pile up between two turns (copier, exports, polls); the kernel keeps what does not fit (NODROP), at a cost.
const COMPLETIONS_PER_ENTRY: u32 = 4;

/// Kernel threads for what cannot be done without waiting: fallocate, fdatasync, writes into holes. The kernel's own limit is four
/// per core: on two cores eight slow calls of a target held up every write of the guest to its source, and a target that hangs held
/// up the source's flushes. So: as many as a guest's queues and a move have in flight. Threads are made when all others are blocked
/// and end when idle for five seconds.
const IO_WORKERS: u32 = 512;

/// Operations are given to the kernel in groups of so many, not a turn's worth at once: with 32 in one call the disk got them in one
/// burst, answered in one burst, and was idle a third of the time in between. Measured at queue depth 32 beside one call per turn:
/// writes 1.3 times, reads 1.2 times as many per second, for one microsecond of processor more each.
const SUBMIT_AT_ONCE: usize = 4;

pub struct UringReactor {
    ring: IoUring<squeue::Entry, cqueue::Entry>,
    /// What found the submission queue full; goes in first next time. Bounded by what the owners keep in flight.
    overflow: VecDeque<squeue::Entry>,
    /// Completions of operations that were done at once (ftruncate on kernels before 6.9).
    immediate: Vec<Completion>,
    truncate_in_ring: bool,
    in_flight: usize,
}

impl UringReactor {
    /// `Err` where io_uring is refused (seccomp, `kernel.io_uring_disabled`, an old kernel): the caller falls back to threads.
    pub fn new(entries: u32) -> io::Result<Self> {
        let ring: IoUring<squeue::Entry, cqueue::Entry> = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_no_sqarray()
            .setup_submit_all()
            .setup_cqsize(entries * COMPLETIONS_PER_ENTRY)
            .build(entries)?;
        let mut probe = io_uring::Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        let needed = [
            opcode::Readv::CODE,
            opcode::Writev::CODE,
            opcode::Fsync::CODE,
            opcode::Fallocate::CODE,
            opcode::PollAdd::CODE,
            opcode::Recv::CODE,
            opcode::Send::CODE,
        ];
        if needed.iter().any(|&code| !probe.is_supported(code)) {
            return Err(io::Error::from_raw_os_error(libc::ENOSYS));
        }
        let truncate_in_ring = probe.is_supported(opcode::Ftruncate::CODE);
        ring.submitter().register_iowq_max_workers(&mut [IO_WORKERS, IO_WORKERS])?;
        Ok(Self { ring, overflow: VecDeque::new(), immediate: Vec::new(), truncate_in_ring, in_flight: 0 })
    }

    fn entry(op: Op, token: Token) -> squeue::Entry {
        let entry = match op {
            Op::Readv { fd, offset, iov, count } => {
                opcode::Readv::new(types::Fd(fd), iov, count).offset(offset).build()
            }
            Op::Writev { fd, offset, iov, count } => {
                opcode::Writev::new(types::Fd(fd), iov, count).offset(offset).build()
            }
            Op::Sync { fd, data_only } => {
                let flags = if data_only { types::FsyncFlags::DATASYNC } else { types::FsyncFlags::empty() };
                opcode::Fsync::new(types::Fd(fd)).flags(flags).build()
            }
            Op::Fallocate { fd, mode, offset, len } => {
                opcode::Fallocate::new(types::Fd(fd), len).offset(offset).mode(mode).build()
            }
            Op::Truncate { fd, len } => opcode::Ftruncate::new(types::Fd(fd), len).build(),
            Op::PollIn { fd } => opcode::PollAdd::new(types::Fd(fd), libc::POLLIN as u32).build(),
            Op::Recv { fd, buf, len } => opcode::Recv::new(types::Fd(fd), buf, len).build(),
            Op::Send { fd, buf, len } => opcode::Send::new(types::Fd(fd), buf, len).flags(libc::MSG_NOSIGNAL).build(),
        };
        entry.user_data(token.to_u64())
    }

    fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: the caller of `submit` promised that everything the entry points at stays valid until its completion.
        if unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.overflow.push_back(entry);
        }
    }

    fn refill(&mut self) {
        while let Some(entry) = self.overflow.pop_front() {
            // SAFETY: as in `push`.
            if unsafe { self.ring.submission().push(&entry) }.is_err() {
                self.overflow.push_front(entry);
                return;
            }
        }
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let entered = match wait {
            Wait::No => {
                let to_submit = self.ring.submission().len() as u32;
                const GETEVENTS: u32 = 1;
                // SAFETY: no argument is passed (None); GETEVENTS lets the kernel run the deferred completions.
                unsafe { self.ring.submitter().enter::<libc::sigset_t>(to_submit, 0, GETEVENTS, None) }
            }
            Wait::AtMost(limit) => {
                let timespec = types::Timespec::from(limit);
                let args = types::SubmitArgs::new().timespec(&timespec);
                self.ring.submitter().submit_with_args(1, &args)
            }
        };
        match entered {
            Ok(_) => Ok(()),
            Err(e) => match e.raw_os_error() {
                // A wait that ran out, a signal, or a completion queue to be emptied first: all are an ordinary turn.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(e),
            },
        }
    }
}

impl Reactor for UringReactor {
    unsafe fn submit(&mut self, op: Op, token: Token) {
        self.in_flight += 1;
        if let Op::Truncate { fd, len } = op
            && !self.truncate_in_ring
        {
            // SAFETY: the descriptor is open by the contract of `submit`; no memory is passed.
            let done = unsafe { libc::ftruncate(fd, len as i64) };
            let errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
            self.immediate.push(Completion { token, result: if done == 0 { Ok(0) } else { Err(errno) } });
            return;
        }
        let entry = Self::entry(op, token);
        if self.overflow.is_empty() {
            self.push(entry)
        } else {
            self.overflow.push_back(entry)
        }
        if self.ring.submission().len() >= SUBMIT_AT_ONCE {
            // What was not taken stays in the queue: the turn enters again, and says so if it fails.
            self.ring.submit().ok();
        }
    }

    fn turn(&mut self, wait: Wait, out: &mut Vec<Completion>) -> io::Result<()> {
        self.refill();
        let wait = if self.overflow.is_empty() && self.immediate.is_empty() { wait } else { Wait::No };
        self.enter(wait)?;
        let before = out.len();
        out.append(&mut self.immediate);
        for cqe in self.ring.completion() {
            let result = if cqe.result() >= 0 { Ok(cqe.result() as u32) } else { Err(-cqe.result()) };
            out.push(Completion { token: Token::from_u64(cqe.user_data()), result });
        }
        self.in_flight -= out.len() - before;
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn name(&self) -> &'static str {
        "io_uring"
    }
}
