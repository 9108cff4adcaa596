//! A lane: a thread with a reactor of its own, for files that must not be able to hold the others up.
//!
//! Submission is not free of waiting: inside io_uring_enter(2) a file system may stand still (ext4 waits for a commit of its journal
//! before it touches a time stamp). On a lane it is the lane's thread that stands there.
//!
//! ```text
//!   reactor's thread                                   lane's thread
//!   submit ──► submissions, a ring of fixed size ──► submit, which may stand in the kernel
//!   turn   ◄── completions, the same             ◄── turn
//! ```
//! Both rings are lock-free and made once. A bell at either end wakes who sleeps. The front end never waits for the thread, not even
//! when the lane ends: a thread that hangs then ends when its file system lets go.
//!
//! The thread has a descriptor table of its own (`thread_apart.rs`): the files it works on, under the numbers they had when it was
//! opened, and nothing that a successor of a killed process would wait for.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use rtrb::{Consumer, Producer, RingBuffer};

use super::bell::Bell;
use super::{Completion, Op, OpenReactor, Reactor, Token, Wait};
use crate::disk::FileSystemId;
use crate::thread_apart::leave_table;
use crate::vital_thread::{die, spawn_vital};

/// Operations on their way in either direction: what a guest's queues and a move have in flight. What does not fit waits beside it.
const RING: usize = 1024;
/// Submissions between two looks for completions.
const SUBMIT_AT_ONCE: usize = 32;
/// The thread is woken by its bell. The limit only bounds a lost wake-up.
const IDLE_SLEEP: Duration = Duration::from_millis(500);
/// The poll of a bell, in whatever reactor it waits: no owner has this number.
pub(super) const BELL: Token = Token { owner: u32::MAX, slot: 0 };

struct Submission {
    op: Op,
    token: Token,
}

// SAFETY: the pointers in `op` are the submitter's promise (see `Reactor::submit`): valid until the completion, on any thread.
unsafe impl Send for Submission {}

/// What both ends know of each other. Each has the bells by descriptors of its own.
#[derive(Clone)]
struct Link {
    /// Wakes the lane's thread.
    submitted: Bell,
    /// Wakes the thread of the front end.
    completed: Bell,
    closed: Arc<AtomicBool>,
}

impl Link {
    fn new() -> io::Result<Self> {
        Ok(Self { submitted: Bell::new()?, completed: Bell::new()?, closed: Arc::default() })
    }

    fn other_end(&self) -> io::Result<Self> {
        let (submitted, completed) = (self.submitted.other_end()?, self.completed.other_end()?);
        Ok(Self { submitted, completed, closed: Arc::clone(&self.closed) })
    }
}

/// The end that the reactor's thread holds. Dropping it ends the lane: first what was submitted is done.
pub struct Lane {
    file_system: FileSystemId,
    submissions: Producer<Submission>,
    /// What found the ring full; goes in first. Bounded by what the owners keep in flight.
    waiting: VecDeque<Submission>,
    completions: Consumer<Completion>,
    link: Link,
    in_flight: usize,
    /// Disconnected when the thread has closed what it had.
    ended: Receiver<Never>,
}

/// Of a channel that is only ever disconnected.
enum Never {}

impl Lane {
    /// Starts the thread, which makes its reactor and keeps `files`: descriptors that stay open here as long as operations name them.
    /// Returns when that is done: not for the reactor's thread.
    ///
    /// # Errors
    /// What the operating system says when there is no thread, descriptor or reactor to be had.
    pub fn open(file_system: FileSystemId, open: &OpenReactor, files: &[RawFd]) -> io::Result<Self> {
        let (submissions, submitted) = RingBuffer::new(RING);
        let (completed, completions) = RingBuffer::new(RING);
        let link = Link::new()?;
        let of_thread = link.other_end()?;
        let bells = [of_thread.submitted.fd(), of_thread.completed.fd()];
        let kept = [files, &bells].concat();
        let (started, wait) = sync_channel(1);
        let (end, ended) = sync_channel(0);
        let open = Arc::clone(open);
        spawn_vital(&format!("lane-{file_system}"), move || {
            let is_apart = leave_table(&kept);
            match open() {
                Ok(reactor) => {
                    let thread =
                        Thread { reactor, submitted, completed, link: of_thread, done: Vec::with_capacity(RING) };
                    if started.send((is_apart, Ok(()))).is_ok() {
                        thread.run();
                    }
                }
                Err(e) => {
                    drop(of_thread);
                    // Nobody waits any more: then there is nobody to tell.
                    started.send((is_apart, Err(e))).ok();
                }
            }
            end_of_thread(is_apart, end);
        })?;
        let (is_apart, result) = wait.recv().map_err(|_| io::Error::other("the lane's thread has ended"))?;
        if is_apart {
            // SAFETY: in this table these two numbers are nobody's: their owner took them along into the thread's.
            drop(bells.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
        result?;
        Ok(Self { file_system, submissions, waiting: VecDeque::new(), completions, link, in_flight: 0, ended })
    }

    pub fn file_system(&self) -> FileSystemId {
        self.file_system
    }

    /// Readable when completions came while the front end slept.
    pub(super) fn bell_fd(&self) -> RawFd {
        self.link.completed.fd()
    }

    pub(super) fn silence(&self) {
        self.link.completed.silence();
    }

    /// The bell, which is to be kept until its poll, which completes now, has been heard.
    pub(super) fn leave(&self) -> Bell {
        self.link.completed.sound();
        self.link.completed.clone()
    }

    /// Ends the lane. False when its files are still open after `patience`: their file system hangs, and they are closed when it does not
    /// any more. Not for the reactor's thread.
    pub fn end(self, patience: Duration) -> bool {
        self.close();
        matches!(self.ended.recv_timeout(patience), Err(RecvTimeoutError::Disconnected))
    }

    fn close(&self) {
        self.link.closed.store(true, Ordering::Release);
        self.link.submitted.ring();
    }

    /// Before the front end's thread sleeps: false when completions are there.
    pub(super) fn may_sleep(&self) -> bool {
        self.link.completed.may_sleep(|| self.completions.is_empty())
    }

    /// Appends what has completed. Never waits; a system call only to hand over what found the ring full.
    pub(super) fn take(&mut self, out: &mut Vec<Completion>) {
        self.link.completed.is_awake();
        self.hand_over();
        while let Ok(completion) = self.completions.pop() {
            self.in_flight -= 1;
            out.push(completion);
        }
    }

    fn hand_over(&mut self) {
        let mut some = false;
        while let Some(submission) = self.waiting.pop_front() {
            if let Err(rtrb::PushError::Full(submission)) = self.submissions.push(submission) {
                self.waiting.push_front(submission);
                break;
            }
            some = true;
        }
        if some {
            self.link.submitted.ring();
        }
    }
}

impl Reactor for Lane {
    unsafe fn submit(&mut self, op: Op, token: Token) {
        self.in_flight += 1;
        self.waiting.push_back(Submission { op, token });
        self.hand_over();
    }

    fn turn(&mut self, wait: Wait, out: &mut Vec<Completion>) -> io::Result<()> {
        let before = out.len();
        self.take(out);
        if let Wait::AtMost(limit) = wait
            && out.len() == before
            && self.may_sleep()
        {
            let mut bell = libc::pollfd { fd: self.bell_fd(), events: libc::POLLIN, revents: 0 };
            let limit_ms = limit.as_millis().min(i32::MAX as u128) as i32;
            // SAFETY: one initialised entry for the length of the call. A failure is an interrupted sleep.
            if unsafe { libc::poll(&mut bell, 1, limit_ms) } > 0 {
                self.silence();
            }
            self.take(out);
        }
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn name(&self) -> &'static str {
        "lane"
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.close();
    }
}

/// Closes what the thread still has. By the kernel's own end of the thread it would be closed as well, but after whoever waits was told.
fn end_of_thread(is_apart: bool, end: SyncSender<Never>) {
    if is_apart {
        leave_table(&[]);
    }
    drop(end);
}

/// The other end.
struct Thread {
    reactor: Box<dyn Reactor>,
    submitted: Consumer<Submission>,
    completed: Producer<Completion>,
    link: Link,
    /// Completions on their way back.
    done: Vec<Completion>,
}

impl Thread {
    fn run(mut self) {
        self.listen();
        while !self.is_over() {
            for _ in 0..SUBMIT_AT_ONCE {
                let Ok(Submission { op, token }) = self.submitted.pop() else { break };
                // SAFETY: the front end's submitter promised everything until the completion, which is not given back earlier.
                unsafe { self.reactor.submit(op, token) };
            }
            let wait = if self.done.is_empty() && self.may_sleep() { Wait::AtMost(IDLE_SLEEP) } else { Wait::No };
            if self.reactor.turn(wait, &mut self.done).is_err() {
                // As with the reactor's own ring: the process ends and its successor takes over.
                die();
            }
            self.link.submitted.is_awake();
            self.hear();
            self.give_back();
        }
    }

    fn is_over(&self) -> bool {
        // The bell's own poll is always in flight.
        self.link.closed.load(Ordering::Acquire)
            && self.submitted.is_empty()
            && self.done.is_empty()
            && self.reactor.in_flight() <= 1
    }

    fn may_sleep(&self) -> bool {
        let nothing_there = || self.submitted.is_empty() && !self.link.closed.load(Ordering::Relaxed);
        self.link.submitted.may_sleep(nothing_there)
    }

    fn listen(&mut self) {
        // SAFETY: no memory is involved; the descriptor lives as long as this thread.
        unsafe { self.reactor.submit(Op::PollIn { fd: self.link.submitted.fd() }, BELL) };
    }

    /// Takes the bell's completion out of the others.
    fn hear(&mut self) {
        if let Some(place) = self.done.iter().position(|completion| completion.token == BELL) {
            self.done.remove(place);
            self.link.submitted.silence();
            self.listen();
        }
    }

    fn give_back(&mut self) {
        let given = self.done.len().min(self.completed.slots());
        for completion in self.done.drain(..given) {
            // There is room: this is the only producer.
            self.completed.push(completion).ok();
        }
        if given > 0 {
            self.link.completed.ring();
        }
    }
}
