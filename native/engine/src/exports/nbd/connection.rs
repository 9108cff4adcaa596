//! One client: a state machine on the reactor thread, driven by the completions of one receive and one send.
//!
//! ```text
//!            +--> decode --> handshake | plan --> job --> engine --> reply --+
//!   receive -+                                                              +--> send
//!            +-- (no room, or replies pile up: nothing is received)          |
//!
//!   Open ---DISC, ABORT, end of stream, stop()---> Draining ---all answered and sent---> closed
//!     \------violation, socket error, abort()----> Broken -----nothing lent any more---> closed
//! ```
//! Draining answers what was taken. Broken answers nothing, but waits: buffers are the kernel's or the engine's until
//! their completions are here.

use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::net::Shutdown;

use super::buffers::{BUFFER_ALIGN, Buffer, BufferPool};
use super::bytewise::{Gate, Span};
use super::codec::{Decoder, Event, Violation, put_greeting};
use super::handshake::{Handshake, Next as Outcome, Offer, Session};
use super::jobs::{JobId, JobTable};
use super::outbox::{Outbox, Sending};
use super::tiles::Tile;
use super::transmission::{Plan, Refusal, plan, put_refusal};
use super::wire::{CMD_WRITE, RequestHeader};
use crate::disk::Errno;
use crate::exports::ExportCx;
use crate::reactor::Op;

/// What one receive takes in: some four writes of 4 KiB with their headers.
const INBOX_BYTES: usize = 16 << 10;
/// A payload with less than this missing comes through the inbox, together with the requests behind it.
const DIRECT_BYTES: u32 = INBOX_BYTES as u32;
/// How long a client may take to negotiate, or to read its last replies, when others wait for its place.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a connection needs of its server during a callback.
pub struct Surroundings<'a> {
    pub cx: &'a mut dyn ExportCx,
    pub pool: &'a mut BufferPool,
    pub offer: &'a Offer,
    pub gate: &'a mut Gate,
    pub scratch: &'a mut Scratch,
}

/// Lists that are filled and emptied within one call; kept so that they are allocated once.
#[derive(Debug, Default)]
pub struct Scratch {
    pub pieces: Vec<(u64, bool)>,
    pub tiles: Vec<Tile>,
    pub descriptors: Vec<(u32, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Draining,
    Broken,
}

/// Where the receive under way writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiving {
    Nothing,
    Inbox,
    Payload,
}

/// Whose payload is arriving.
#[derive(Clone, Copy, Debug)]
enum Incoming {
    Nothing,
    Write(JobId),
    /// Thrown away; the answer follows it, as a client may not look for one while it sends.
    Refused(u64, Refusal),
}

pub struct Connection {
    pub(super) socket: OwnedFd,
    /// The place in the server's table; names this connection in slots and tags.
    pub(super) index: u16,
    phase: Phase,
    /// When the present phase began, for PATIENCE.
    since: Instant,
    decoder: Decoder,
    handshake: Handshake,
    session: Option<Session>,
    inbox: Buffer,
    unread: Range<usize>,
    receiving: Receiving,
    incoming: Incoming,
    /// A request there was no room for.
    parked: Option<(RequestHeader, Plan)>,
    /// A change that may not begin beside those under way. Nothing is taken in behind it.
    pub(super) held: Option<JobId>,
    pub(super) jobs: JobTable,
    pub(super) outbox: Outbox,
    pub(super) sending: Sending,
    /// Requests handed to the engine and not done.
    pub(super) engine_requests: usize,
}

impl Connection {
    /// Takes a connected stream socket in blocking mode: the reactor waits for it, not the thread.
    pub fn new(index: u16, socket: OwnedFd) -> std::io::Result<Self> {
        Ok(Self {
            socket,
            index,
            phase: Phase::Open,
            since: Instant::now(),
            decoder: Decoder::new(),
            handshake: Handshake::default(),
            session: None,
            inbox: Buffer::new(INBOX_BYTES)?,
            unread: 0..0,
            receiving: Receiving::Nothing,
            incoming: Incoming::Nothing,
            parked: None,
            held: None,
            jobs: JobTable::default(),
            outbox: Outbox::default(),
            sending: Sending::Nothing,
            engine_requests: 0,
        })
    }

    pub fn start(&mut self, with: &mut Surroundings<'_>) {
        put_greeting(self.outbox.replies());
        self.advance(with);
    }

    pub(super) fn session(&self) -> Session {
        self.session.unwrap_or_default()
    }

    pub fn is_closed(&self) -> bool {
        let idle = self.receiving == Receiving::Nothing && self.sending == Sending::Nothing && self.jobs.is_empty();
        idle && match self.phase {
            Phase::Open => false,
            Phase::Draining => self.outbox.is_empty(),
            Phase::Broken => true,
        }
    }

    /// The kernel may still write to or read from memory of this connection.
    pub fn is_lent(&self) -> bool {
        self.receiving != Receiving::Nothing || self.sending != Sending::Nothing
    }

    /// Has had its time to negotiate or to leave, should its place be needed.
    pub fn outstays(&self, now: Instant) -> bool {
        let settled = self.phase == Phase::Open && self.session.is_some();
        !settled && now.duration_since(self.since) >= PATIENCE
    }

    /// Takes no more requests; closes once those taken are answered.
    pub fn drain(&mut self, pool: &mut BufferPool) {
        if self.phase != Phase::Open {
            return;
        }
        self.phase = Phase::Draining;
        self.since = Instant::now();
        self.parked = None;
        if self.receiving == Receiving::Nothing {
            self.drop_incoming(pool);
        } else {
            // Wakes the receive; it fails only if the peer is gone, and then the receive is awake already.
            rustix::net::shutdown(&self.socket, Shutdown::Read).ok();
        }
    }

    /// Answers nothing more and closes as soon as nothing is lent.
    pub fn break_off(&mut self, pool: &mut BufferPool) {
        if self.phase == Phase::Broken {
            return;
        }
        self.phase = Phase::Broken;
        self.parked = None;
        // Fails only if the peer is gone; the receive and the send under way end either way.
        rustix::net::shutdown(&self.socket, Shutdown::Both).ok();
        for job in self.outbox.clear().chain(self.held.take()) {
            self.jobs.release(job, pool);
        }
        if self.receiving == Receiving::Nothing {
            self.drop_incoming(pool);
        }
    }

    fn drop_incoming(&mut self, pool: &mut BufferPool) {
        if let Incoming::Write(job) = std::mem::replace(&mut self.incoming, Incoming::Nothing) {
            self.jobs.release(job, pool);
        }
    }

    /// Works through what was received, then receives more. Called whenever something it waits for may have changed.
    pub(super) fn advance(&mut self, with: &mut Surroundings<'_>) {
        while self.phase == Phase::Open
            && self.receiving == Receiving::Nothing
            && !self.outbox.is_full()
            && self.held.is_none()
        {
            if let Some((request, plan)) = self.parked {
                if !self.jobs.has_room(plan.payload_bytes(&request)) {
                    return;
                }
                self.parked = None;
                self.begin(request, plan, with);
                continue;
            }
            // SAFETY: no receive is under way, so nobody writes to the inbox.
            let input = unsafe { self.inbox.bytes(self.unread.start, self.unread.len()) };
            let left = self.decoder.payload_left();
            let event = match self.decoder.decode(input) {
                Ok((taken, event)) => {
                    self.unread.start += taken;
                    event
                }
                Err(violation) => return self.violated(violation, with.pool),
            };
            match event {
                None => return self.receive(with),
                Some(Event::Payload(bytes)) => {
                    if let Incoming::Write(job) = self.incoming {
                        let job = self.jobs.get(job);
                        let lead = Span::of(&job.request, with.offer).lead;
                        let position = BUFFER_ALIGN + lead + (job.request.len - left) as usize;
                        if let Some(buffer) = &job.buffer {
                            // SAFETY: the payload is still arriving, so the buffer has not been lent to anyone.
                            unsafe { buffer.write(position, bytes) };
                        }
                    }
                    self.payload_arrived(with);
                }
                Some(Event::Request(request)) => match plan(&request, with.offer, self.session()) {
                    Ok(Plan::Disconnect) => return self.drain(with.pool),
                    Ok(plan) => self.parked = Some((request, plan)),
                    Err(refusal) => self.refuse(&request, refusal),
                },
                Some(Event::ClientFlags(flags)) => {
                    if let Err(violation) = self.handshake.client_flags(flags) {
                        return self.violated(violation, with.pool);
                    }
                }
                Some(Event::Option { option, data }) => {
                    let next = self.handshake.option(option, data, with.offer, self.outbox.replies());
                    self.negotiated(next, with.pool);
                }
                Some(Event::OptionTooLong { option }) => {
                    let next = self.handshake.option_too_long(option, self.outbox.replies());
                    self.negotiated(next, with.pool);
                }
            }
        }
    }

    fn negotiated(&mut self, next: Result<Outcome, Violation>, pool: &mut BufferPool) {
        match next {
            Ok(Outcome::Haggle) => {}
            Ok(Outcome::Transmit(session)) => {
                self.session = Some(session);
                self.decoder.enter_transmission();
            }
            Ok(Outcome::HangUp) => self.drain(pool),
            Err(violation) => self.violated(violation, pool),
        }
    }

    /// A client out of step cannot be told so: what follows in its stream is not understood any more.
    fn violated(&mut self, _violation: Violation, pool: &mut BufferPool) {
        self.break_off(pool);
    }

    fn refuse(&mut self, request: &RequestHeader, refusal: Refusal) {
        if request.command == CMD_WRITE && request.len > 0 {
            self.incoming = Incoming::Refused(request.cookie, refusal);
        } else {
            self.answer_refusal(request.cookie, &refusal);
        }
    }

    pub(super) fn answer_refusal(&mut self, cookie: u64, refusal: &Refusal) {
        put_refusal(self.outbox.replies(), self.session.unwrap_or_default(), cookie, refusal);
    }

    /// The next payload goes to `job`, or is thrown away and answered with the refusal.
    pub(super) fn expect_payload(&mut self, request: &RequestHeader, job: Result<JobId, Refusal>) {
        self.incoming = match job {
            Ok(job) => Incoming::Write(job),
            Err(refusal) => Incoming::Refused(request.cookie, refusal),
        };
    }

    fn payload_arrived(&mut self, with: &mut Surroundings<'_>) {
        if self.decoder.payload_left() > 0 {
            return;
        }
        match std::mem::replace(&mut self.incoming, Incoming::Nothing) {
            Incoming::Nothing => {}
            Incoming::Write(job) => self.start_change(job, with),
            Incoming::Refused(cookie, refusal) => self.answer_refusal(cookie, &refusal),
        }
    }

    /// Everything received is used up: asks for more, a large payload straight into its buffer.
    fn receive(&mut self, with: &mut Surroundings<'_>) {
        let left = self.decoder.payload_left();
        self.unread = 0..0;
        self.receiving = Receiving::Inbox;
        let mut target = (self.inbox.at(0), INBOX_BYTES as u32);
        if let Incoming::Write(job) = self.incoming
            && left >= DIRECT_BYTES
        {
            let job = self.jobs.get(job);
            if let Some(buffer) = &job.buffer {
                let lead = Span::of(&job.request, with.offer).lead;
                target = (buffer.at(BUFFER_ALIGN + lead + (job.request.len - left) as usize), left);
                self.receiving = Receiving::Payload;
            }
        }
        let op = Op::Recv { fd: self.socket.as_raw_fd(), buf: target.0, len: target.1 };
        // SAFETY: the inbox lives as long as the connection, the job's buffer until the job is released; while
        // `receiving` says that one is lent, neither happens, and nobody else touches it. The socket is closed with the
        // connection.
        unsafe { with.cx.submit(op, u32::from(self.index) << 1) };
    }

    pub fn on_received(&mut self, result: Result<u32, Errno>, with: &mut Surroundings<'_>) {
        let target = std::mem::replace(&mut self.receiving, Receiving::Nothing);
        if self.phase != Phase::Open {
            return self.drop_incoming(with.pool);
        }
        match (result, target) {
            (Err(libc::EINTR | libc::EAGAIN), _) => {}
            (Err(_), _) => return self.break_off(with.pool),
            // The client sends nothing more, but may still read: what it asked for is answered.
            (Ok(0), _) => return self.drain(with.pool),
            (Ok(count), Receiving::Payload) => {
                self.decoder.payload_received(count);
                self.payload_arrived(with);
            }
            (Ok(count), _) => self.unread = 0..(count as usize).min(INBOX_BYTES),
        }
        self.advance(with);
    }

    pub(super) fn is_broken(&self) -> bool {
        self.phase == Phase::Broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_get_to_the_point_may_lose_its_place() {
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut connection = Connection::new(0, socket.into()).unwrap();
        let now = Instant::now();
        assert!(!connection.outstays(now));
        assert!(connection.outstays(now + PATIENCE));
        connection.session = Some(Session::default());
        assert!(!connection.outstays(now + PATIENCE));
        connection.drain(&mut BufferPool::default());
        assert!(connection.outstays(now + PATIENCE * 2));
    }
}
