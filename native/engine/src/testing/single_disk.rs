//! The smallest service that keeps every promise of `ExportCx`: one export, one file, one thread, system calls that block.
//! It can hold requests back and let them overtake each other, fail some, and die in the middle like a killed process.
//!
//! ```text
//!   door ─► calls ┐
//!   poll(2) ──────┼─► export.on_io / on_done ─► end_turn ─► poll ─► sleep, or not
//!   due requests ─┘
//! ```

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::disk::{ByteRange, Errno, Geometry, IoVecs, Request, RequestKind};
use crate::exports::{DiskFacts, Export, ExportCall, ExportCx, ExportDoor, ExportGone};
use crate::reactor::Op;
use crate::testing::random::Random;

/// How a disk misbehaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Behaviour {
    /// Requests complete up to this much later, in an order of their own.
    pub held_at_most: Duration,
    /// Requests that touch this range fail with EIO.
    pub bad_range: Option<ByteRange>,
    /// Of so many writes one is acknowledged and not done; 0: none. To prove that the oracle sees it.
    pub lost_one_in: u64,
    /// Makes runs repeatable.
    pub seed: u64,
}

/// A disk in a file, served by a thread of its own.
pub struct SingleDisk {
    shared: Arc<Shared>,
    facts: DiskFacts,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    calls: Mutex<VecDeque<ExportCall>>,
    wake: OwnedFd,
    gone: AtomicBool,
    killed: AtomicBool,
    counters: Counters,
}

/// Requests the service was handed, by kind.
#[derive(Default)]
pub struct Counters {
    pub reads: AtomicU64,
    pub writes: AtomicU64,
    pub durable_writes: AtomicU64,
    pub flushes: AtomicU64,
    pub zeroes: AtomicU64,
}

struct Door(Arc<Shared>);

impl ExportDoor for Door {
    fn post(&self, call: ExportCall) -> Result<(), ExportGone> {
        let mut calls = self.0.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if self.0.gone.load(Ordering::Acquire) {
            return Err(ExportGone);
        }
        calls.push_back(call);
        let _ = rustix::io::write(&self.0.wake, &1u64.to_ne_bytes()); // full: woken already
        Ok(())
    }
}

impl SingleDisk {
    /// `file` holds the disk from its first byte to its last; a multiple of 4096 bytes.
    pub fn start(export: Box<dyn Export>, file: File, read_only: bool, behaviour: Behaviour) -> std::io::Result<Self> {
        let geometry =
            Geometry { size_bytes: file.metadata()?.len(), logical_sector_bytes: 512, physical_sector_bytes: 4096 };
        let facts = DiskFacts { geometry, read_only };
        let shared = Arc::new(Shared {
            calls: Mutex::default(),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            gone: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            counters: Counters::default(),
        });
        let theirs = shared.clone();
        let thread = std::thread::Builder::new().name("single-disk".into()).spawn(move || {
            run(export, &theirs, facts, file, behaviour);
            let mut calls = theirs.calls.lock().unwrap_or_else(PoisonError::into_inner);
            theirs.gone.store(true, Ordering::Release);
            calls.clear(); // whoever waits for an answer learns that the export is gone
        })?;
        Ok(Self { shared, facts, thread: Some(thread) })
    }

    pub fn door(&self) -> Arc<dyn ExportDoor> {
        Arc::new(Door(self.shared.clone()))
    }

    pub fn facts(&self) -> DiskFacts {
        self.facts
    }

    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Stops at once, as SIGKILL would: requests in flight are done, half done or not done, and never reported.
    pub fn kill(mut self) {
        self.shared.killed.store(true, Ordering::Release);
        self.join();
    }

    /// Waits until the export has closed itself (`ExportCx::close`). Close its listener first.
    pub fn wait_closed(mut self) {
        self.join();
    }

    fn join(&mut self) {
        let _ = rustix::io::write(&self.shared.wake, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Drop for SingleDisk {
    fn drop(&mut self) {
        self.shared.killed.store(true, Ordering::Release);
        self.join();
    }
}

struct Cx<'a> {
    facts: DiskFacts,
    pending: VecDeque<(Instant, Request)>,
    polls: Vec<(RawFd, u32)>,
    pool: Vec<IoVecs>,
    close: bool,
    behaviour: Behaviour,
    random: Random,
    counters: &'a Counters,
}

impl ExportCx for Cx<'_> {
    fn request(&mut self, request: Request) {
        let counter = match request.kind {
            RequestKind::Read => &self.counters.reads,
            RequestKind::Write if request.fua => &self.counters.durable_writes,
            RequestKind::Write => &self.counters.writes,
            RequestKind::Flush => &self.counters.flushes,
            RequestKind::Discard | RequestKind::WriteZeroes { .. } => &self.counters.zeroes,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let longest = self.behaviour.held_at_most.as_nanos() as u64;
        let due = if longest == 0 {
            Instant::now()
        } else {
            Instant::now() + Duration::from_nanos(self.random.below(longest))
        };
        self.pending.push_back((due, request));
    }

    unsafe fn submit(&mut self, op: Op, slot: u32) {
        match op {
            Op::PollIn { fd } => self.polls.push((fd, slot)),
            other => unimplemented!("a single disk polls and nothing else, not {other:?}"),
        }
    }

    fn take_iovecs(&mut self) -> IoVecs {
        self.pool.pop().unwrap_or_default()
    }

    fn facts(&self) -> DiskFacts {
        self.facts
    }

    fn allocation(&mut self, _offset: u64, len: u64, out: &mut Vec<(u64, bool)>) {
        out.push((len, false));
    }

    fn close(&mut self) {
        self.close = true;
    }
}

fn run(mut export: Box<dyn Export>, shared: &Shared, facts: DiskFacts, file: File, behaviour: Behaviour) {
    let mut cx = Cx {
        facts,
        pending: VecDeque::new(),
        polls: Vec::new(),
        pool: Vec::new(),
        close: false,
        behaviour,
        random: Random::new(behaviour.seed),
        counters: &shared.counters,
    };
    export.start(&mut cx);
    loop {
        if shared.killed.load(Ordering::Acquire) {
            return die(export, cx, &file);
        }
        loop {
            let call = shared.calls.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(call) = call else { break };
            call(&mut *export, &mut cx);
        }
        complete_due(&mut *export, &mut cx, &file);
        export.end_turn(&mut cx);
        if cx.close && export.in_flight() == 0 {
            return;
        }
        let awake = export.poll(&mut cx);
        wait(&mut *export, &mut cx, shared, awake);
    }
}

fn complete_due(export: &mut dyn Export, cx: &mut Cx<'_>, file: &File) {
    let now = Instant::now();
    for _ in 0..cx.pending.len() {
        let Some((due, request)) = cx.pending.pop_front() else { return };
        if due > now {
            cx.pending.push_back((due, request));
            continue;
        }
        let lost_one_in = cx.behaviour.lost_one_in;
        let lost = request.kind == RequestKind::Write && lost_one_in > 0 && cx.random.below(lost_one_in) == 0;
        let result = if lost { Ok(()) } else { execute(&request, cx, file) };
        export.on_done(request.tag, result, cx);
        recycle(request, cx);
    }
}

fn recycle(request: Request, cx: &mut Cx<'_>) {
    let mut iov = request.iov;
    iov.clear();
    if iov.capacity() > 0 {
        cx.pool.push(iov);
    }
}

fn execute(request: &Request, cx: &Cx<'_>, file: &File) -> Result<(), Errno> {
    let size = cx.facts.geometry.size_bytes;
    let range = ByteRange::checked(request.offset, request.len).ok_or(libc::EINVAL)?;
    if range.end() > size {
        return Err(libc::EIO);
    }
    let writes = !matches!(request.kind, RequestKind::Read | RequestKind::Flush);
    if cx.facts.read_only && writes {
        return Err(libc::EROFS);
    }
    if cx.behaviour.bad_range.is_some_and(|bad| bad.overlaps(&range)) {
        return Err(libc::EIO);
    }
    match request.kind {
        RequestKind::Read | RequestKind::Write => transfer(request, request.len, file),
        RequestKind::Flush => file.sync_data().map_err(|e| e.raw_os_error().unwrap_or(libc::EIO)),
        RequestKind::Discard | RequestKind::WriteZeroes { .. } => rustix::fs::fallocate(
            file,
            rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE,
            range.start,
            range.len,
        )
        .map_err(rustix::io::Errno::raw_os_error),
    }
}

/// Moves the first `len` bytes of a read or write.
fn transfer(request: &Request, len: u64, file: &File) -> Result<(), Errno> {
    let (mut offset, mut left) = (request.offset, len as usize);
    for range in &request.iov {
        let mut here = libc::iovec { iov_base: range.iov_base, iov_len: range.iov_len.min(left) };
        while here.iov_len > 0 {
            // SAFETY: the range lies in memory that `request.keep` keeps mapped, and it is handed to the kernel alone.
            let moved = unsafe {
                match request.kind {
                    RequestKind::Read => libc::preadv(file.as_raw_fd(), &raw const here, 1, offset as i64),
                    _ => libc::pwritev(file.as_raw_fd(), &raw const here, 1, offset as i64),
                }
            };
            if moved <= 0 {
                return Err(std::io::Error::last_os_error().raw_os_error().filter(|_| moved < 0).unwrap_or(libc::EIO));
            }
            here.iov_base = here.iov_base.cast::<u8>().wrapping_add(moved as usize).cast();
            here.iov_len -= moved as usize;
            (offset, left) = (offset + moved as u64, left - moved as usize);
        }
    }
    Ok(())
}

fn wait(export: &mut dyn Export, cx: &mut Cx<'_>, shared: &Shared, awake: bool) {
    let due = cx.pending.iter().map(|(due, _)| *due).min();
    let longest = Duration::from_secs(5); // long, so that a lost kick shows as a long wait
    let sleep = match due {
        _ if awake => Duration::ZERO,
        Some(due) => due.saturating_duration_since(Instant::now()).min(longest),
        None => longest,
    };
    let polls = std::mem::take(&mut cx.polls);
    // SAFETY: an export keeps the descriptors it polls open until it was told (`ExportCx::submit`).
    let borrowed: Vec<BorrowedFd<'_>> = polls.iter().map(|(fd, _)| unsafe { BorrowedFd::borrow_raw(*fd) }).collect();
    let mut set = vec![PollFd::new(&shared.wake, PollFlags::IN)];
    set.extend(borrowed.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
    let timeout = Timespec { tv_sec: sleep.as_secs() as _, tv_nsec: sleep.subsec_nanos() as _ };
    let _ = poll(&mut set, Some(&timeout)); // interrupted: the loop looks at everything anyway
    let ready: Vec<bool> = set.iter().map(|fd| !fd.revents().is_empty()).collect();
    if ready[0] {
        let _ = rustix::io::read(&shared.wake, &mut [0; 8]);
    }
    for ((fd, slot), ready) in polls.into_iter().zip(&ready[1..]) {
        if *ready {
            export.on_io(slot, Ok(0), cx);
        } else {
            cx.polls.push((fd, slot));
        }
    }
}

/// What is left of a killed process: some requests were done, some in part, none was reported.
fn die(export: Box<dyn Export>, mut cx: Cx<'_>, file: &File) {
    while let Some((_, request)) = cx.pending.pop_front() {
        match (cx.random.below(3), request.kind) {
            (0, _) => {}
            (1, RequestKind::Write) => drop(transfer(&request, request.len / 512 / 2 * 512, file)),
            _ => drop(execute(&request, &cx, file)),
        }
    }
    drop(export);
}
