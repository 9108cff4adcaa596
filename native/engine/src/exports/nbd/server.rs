//! The NBD export: a listening socket and a bounded table of clients, all on the reactor thread.
//!
//! ```text
//!   listening:  Armed --client--> accept --> Armed
//!                                   \--table full---------> Full ----place free, or someone outstays--> Armed
//!                                    \-no descriptor left--> Paused -----------a second later---------> Armed
//!   stop(): the listener closes, clients drain; abort(): clients are cut off. When all are gone: ExportCx::close.
//! ```
//! A client that closes, or breaks the protocol, loses its own connection and nothing else happens.

use std::any::Any;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use rustix::io::Errno as SystemError;
use rustix::net::{Shutdown, SocketFlags};

use super::buffers::BufferPool;
use super::bytewise::Gate;
use super::connection::{Connection, Scratch, Surroundings};
use super::handshake::{MAX_STRING_BYTES, Offer};
use super::listen::NbdListener;
use super::requests::untag;
use crate::disk::{DiskError, Errno, ErrorKind};
use crate::exports::{DiskFacts, Export, ExportCx};
use crate::reactor::Op;

/// Clients at once. Each may hold MAX_JOB_BYTES of payload, so this also bounds memory; more wait in the backlog.
pub const MAX_CONNECTIONS: usize = 16;
/// The slot of the listener's poll; connections use twice their index and the number after it.
const LISTENER_SLOT: u32 = u32::MAX;
/// How long to leave the listener alone when the process has no descriptors or memory for a client.
const PAUSE: Duration = Duration::from_secs(1);
/// The smallest preferred block size: a page, what direct I/O and file systems below work in.
const PREFERRED_BLOCK_BYTES: u32 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listening {
    /// A poll is under way.
    Armed,
    Full,
    Paused(Instant),
    Closed,
}

pub struct NbdServer {
    offer: Offer,
    listener: Option<NbdListener>,
    listening: Listening,
    /// Why the listener closed, if nobody asked for it.
    listen_error: Option<Errno>,
    connections: [Option<Box<Connection>>; MAX_CONNECTIONS],
    pool: BufferPool,
    gate: Gate,
    scratch: Scratch,
    stopping: bool,
    closed: bool,
    /// Something arrived since the service last asked.
    busy: bool,
}

impl NbdServer {
    /// Serves the disk described by `facts` as `name` (and as the default export) to clients of `listener`. Writes are
    /// refused if `read_only` or the disk is.
    pub fn new(name: &str, listener: NbdListener, facts: DiskFacts, read_only: bool) -> Result<Self, DiskError> {
        let geometry = facts.geometry;
        let invalid = |message: String| Err(DiskError::new(ErrorKind::InvalidArgument, message));
        if name.len() > MAX_STRING_BYTES || name.contains('\0') {
            return invalid(format!("an export name has at most {MAX_STRING_BYTES} bytes and no NUL"));
        }
        if !matches!(geometry.logical_sector_bytes, 512 | 4096) {
            return invalid(format!("cannot serve sectors of {} bytes: 512 or 4096", geometry.logical_sector_bytes));
        }
        let whole_sectors = geometry.size_bytes.is_multiple_of(u64::from(geometry.logical_sector_bytes));
        if !whole_sectors || geometry.size_bytes > i64::MAX as u64 {
            return invalid(format!("cannot serve a disk of {} bytes: it is not whole sectors", geometry.size_bytes));
        }
        let offer = Offer {
            name: name.to_owned(),
            size_bytes: geometry.size_bytes,
            read_only: read_only || facts.read_only,
            min_block_bytes: geometry.logical_sector_bytes,
            preferred_block_bytes: PREFERRED_BLOCK_BYTES.max(geometry.physical_sector_bytes),
        };
        Ok(Self {
            offer,
            listener: Some(listener),
            listening: Listening::Closed,
            listen_error: None,
            connections: [const { None }; MAX_CONNECTIONS],
            pool: BufferPool::default(),
            gate: Gate::default(),
            scratch: Scratch::default(),
            stopping: false,
            closed: false,
            busy: false,
        })
    }

    /// Takes no more clients or requests, answers those taken, then closes the export. A client that gets no answer may
    /// ask the next server; nothing is answered with an error for the stop's sake.
    pub fn stop(&mut self, cx: &mut dyn ExportCx) {
        self.leave(|connection, pool| connection.drain(pool));
        self.settle(cx);
    }

    /// As [`NbdServer::stop`], but cuts clients off: also one that never reads its replies ends.
    pub fn abort(&mut self, cx: &mut dyn ExportCx) {
        self.leave(|connection, pool| connection.break_off(pool));
        self.settle(cx);
    }

    fn leave(&mut self, mut part: impl FnMut(&mut Connection, &mut BufferPool)) {
        self.stopping = true;
        if let Some(listener) = &self.listener {
            // Wakes the poll under way. A listening socket of our own can always be shut down.
            rustix::net::shutdown(listener, Shutdown::Both).ok();
        }
        for connection in self.connections.iter_mut().flatten() {
            part(connection, &mut self.pool);
        }
    }

    pub fn connections(&self) -> usize {
        self.connections.iter().flatten().count()
    }

    /// Payload buffers mapped since the start; stands still while the data path is warm.
    pub fn buffers_mapped(&self) -> u64 {
        self.pool.mapped()
    }

    /// Bytes of idle payload buffers; none without clients.
    pub fn buffer_bytes_kept(&self) -> usize {
        self.pool.kept_bytes()
    }

    /// Why no more clients can be taken, if the listening socket failed.
    pub fn listen_error(&self) -> Option<Errno> {
        self.listen_error
    }

    fn arm(&mut self, cx: &mut dyn ExportCx) {
        let Some(listener) = &self.listener else { return };
        self.listening = Listening::Armed;
        let op = Op::PollIn { fd: listener.as_fd().as_raw_fd() };
        // SAFETY: no memory is passed; the listener is dropped only when `listening` is not Armed.
        unsafe { cx.submit(op, LISTENER_SLOT) };
    }

    /// Takes who waits, up to the table's size, then waits again.
    fn accept(&mut self, cx: &mut dyn ExportCx) {
        self.listening = Listening::Closed;
        while !self.stopping {
            let Some(listener) = &self.listener else { return };
            let Some(index) = self.connections.iter().position(Option::is_none) else {
                self.listening = Listening::Full;
                return;
            };
            let accepted = match rustix::net::accept_with(listener, SocketFlags::CLOEXEC) {
                Ok(socket) => Connection::new(index as u16, socket),
                Err(SystemError::AGAIN) => return self.arm(cx),
                Err(SystemError::INTR | SystemError::CONNABORTED) => continue,
                Err(error) => Err(error.into()),
            };
            match accepted {
                Ok(connection) => {
                    self.connections[index] = Some(Box::new(connection));
                    self.pool.resize(self.connections());
                    self.with(index, cx, |connection, with| connection.start(with));
                }
                Err(error) => {
                    self.listening = match error.raw_os_error() {
                        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS) => {
                            Listening::Paused(Instant::now() + PAUSE)
                        }
                        errno => {
                            self.listen_error = errno;
                            Listening::Closed
                        }
                    };
                    return;
                }
            }
        }
    }

    fn with(&mut self, index: usize, cx: &mut dyn ExportCx, act: impl FnOnce(&mut Connection, &mut Surroundings<'_>)) {
        if let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) {
            let scratch = &mut self.scratch;
            let gate = &mut self.gate;
            act(connection, &mut Surroundings { cx, pool: &mut self.pool, offer: &self.offer, gate, scratch });
        }
    }

    /// Sends what was answered, lets go of who has left, and takes up listening or closing where that is due.
    fn settle(&mut self, cx: &mut dyn ExportCx) {
        let mut left = false;
        for index in 0..MAX_CONNECTIONS {
            self.with(index, cx, |connection, with| {
                if connection.held.is_none() {
                    with.gate.give_up(index as u16);
                }
                connection.retry_held(with);
                connection.end_turn(with);
            });
            if self.connections[index].as_ref().is_some_and(|connection| connection.is_closed()) {
                self.connections[index] = None;
                self.gate.give_up(index as u16);
                left = true;
            }
        }
        if left {
            self.pool.resize(self.connections());
        }
        match self.listening {
            Listening::Armed => return,
            _ if self.stopping => self.listener = None,
            Listening::Full if self.connections() < MAX_CONNECTIONS => self.arm(cx),
            Listening::Full => self.make_room(),
            Listening::Paused(until) if Instant::now() >= until => self.arm(cx),
            Listening::Paused(_) | Listening::Closed => {}
        }
        if self.stopping && !self.closed && self.connections() == 0 {
            self.closed = true;
            cx.close();
        }
    }

    /// Others wait: whoever still negotiates, or does not fetch its last replies, has had its time.
    fn make_room(&mut self) {
        let now = Instant::now();
        if let Some(connection) = self.connections.iter_mut().flatten().find(|connection| connection.outstays(now)) {
            connection.break_off(&mut self.pool);
        }
    }
}

impl Export for NbdServer {
    fn start(&mut self, cx: &mut dyn ExportCx) {
        self.arm(cx);
    }

    fn on_io(&mut self, slot: u32, result: Result<u32, Errno>, cx: &mut dyn ExportCx) {
        self.busy = true;
        if slot == LISTENER_SLOT {
            return self.accept(cx);
        }
        self.with((slot >> 1) as usize, cx, |connection, with| {
            if slot & 1 == 0 { connection.on_received(result, with) } else { connection.on_sent(result, with) }
        });
    }

    fn on_done(&mut self, tag: u64, result: Result<(), Errno>, cx: &mut dyn ExportCx) {
        // Whoever waits at the gate is asked at the end of a turn; this may be behind the last one before a sleep.
        self.busy |= self.gate.is_contended();
        let (index, job) = untag(tag);
        self.with(usize::from(index), cx, |connection, with| connection.on_done(job, result, with));
    }

    fn end_turn(&mut self, cx: &mut dyn ExportCx) {
        self.settle(cx);
    }

    fn in_flight(&self) -> usize {
        self.connections.iter().flatten().map(|connection| connection.engine_requests).sum()
    }

    fn poll(&mut self, _cx: &mut dyn ExportCx) -> bool {
        std::mem::take(&mut self.busy)
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

impl Drop for NbdServer {
    /// A service that ends without `stop` may leave receives and sends in the ring: their memory and descriptors are
    /// then leaked rather than given to someone else while the kernel still writes.
    fn drop(&mut self) {
        self.leave(|connection, pool| connection.break_off(pool));
        for place in &mut self.connections {
            if place.as_ref().is_some_and(|connection| connection.is_lent()) {
                std::mem::forget(place.take());
            }
        }
    }
}
