//! What becomes of a request: handed to the engine in pieces, and answered when they are done.

use std::sync::Arc;

use super::block_status::describe;
use super::buffers::BUFFER_ALIGN;
use super::bytewise::{Pass, Span};
use super::codec::{hole_chunk, put_block_status, simple_reply};
use super::connection::{Connection, Surroundings};
use super::handshake::ALLOCATION_CONTEXT;
use super::jobs::JobId;
use super::read_reply::{READ_CUT, place, put_chunk_headers, put_simple_header};
use super::tiles::{Tile, tile};
use super::transmission::{Plan, Refusal};
use super::wire::RequestHeader;
use crate::disk::{Errno, IoVecs, Request, RequestKind};

/// A READ's answer up to this size is copied to the other small replies: one send for many is worth more than the copy.
const COPY_BYTES: usize = 16 << 10;
const OUT_OF_MEMORY: Refusal = Refusal::from_errno(libc::ENOMEM);

/// What names an engine request: connection, job and run.
pub fn tag(connection: u16, job: JobId, run: u16) -> u64 {
    u64::from(connection) << 32 | u64::from(job) << 16 | u64::from(run)
}

/// Connection and job of a tag.
pub fn untag(tag: u64) -> (u16, JobId) {
    ((tag >> 32) as u16, (tag >> 16) as JobId)
}

impl Connection {
    /// Starts a request there is room for.
    pub(super) fn begin(&mut self, request: RequestHeader, plan: Plan, with: &mut Surroundings<'_>) {
        match plan {
            Plan::Read { whole } => self.begin_read(request, whole, with),
            Plan::Write { .. } => self.begin_write(request, plan, with),
            Plan::BlockStatus { one } => self.answer_block_status(&request, one, with),
            Plan::Cache => self.outbox.replies().extend_from_slice(&simple_reply(0, request.cookie)),
            Plan::Flush => self.begin_plain(request, plan, RequestKind::Flush, with),
            Plan::Trim { .. } => self.begin_trim(request, plan, with),
            Plan::WriteZeroes { .. } => {
                let id = self.jobs.add(request, plan, None);
                self.start_change(id, with);
            }
            Plan::Disconnect => {}
        }
    }

    /// Asks the disk's map first: zeros cost neither I/O nor bytes on the wire.
    fn begin_read(&mut self, request: RequestHeader, whole: bool, with: &mut Surroundings<'_>) {
        let span = Span::of(&request, with.offer);
        let (offset, len) = (span.start, span.len());
        let scratch = &mut *with.scratch;
        scratch.tiles.clear();
        if self.session().structured && span.is_whole() {
            scratch.pieces.clear();
            with.cx.allocation(offset, len, &mut scratch.pieces);
            tile(offset, len, &scratch.pieces, READ_CUT, &mut scratch.tiles);
        }
        if scratch.tiles.is_empty() || (whole && scratch.tiles.len() > 1) {
            scratch.tiles.clear();
            scratch.tiles.push(Tile { len, zero: false });
        }
        if let [Tile { zero: true, .. }] = scratch.tiles[..] {
            let chunk = hole_chunk(true, request.cookie, offset, request.len);
            return self.outbox.replies().extend_from_slice(&chunk);
        }
        let Ok(buffer) = with.pool.take(request.len as usize) else {
            return self.answer_refusal(request.cookie, &OUT_OF_MEMORY);
        };
        let id = self.jobs.add(request, Plan::Read { whole }, Some(Arc::clone(&buffer)));
        let job = self.jobs.get_mut(id);
        job.hole_after = place(offset, &with.scratch.tiles, &mut job.runs);
        job.waiting = job.runs.len() as u32;
        self.engine_requests += job.runs.len();
        for (index, run) in job.runs.iter().enumerate() {
            let mut iov = with.cx.take_iovecs();
            iov.push(libc::iovec { iov_base: buffer.at(run.position).cast(), iov_len: run.len as usize });
            with.cx.request(Request {
                kind: RequestKind::Read,
                offset: run.disk_offset,
                len: u64::from(run.len),
                iov,
                fua: false,
                tag: tag(self.index, id, index as u16),
                keep: Some(buffer.clone()),
            });
        }
    }

    fn begin_write(&mut self, request: RequestHeader, plan: Plan, with: &mut Surroundings<'_>) {
        let job = match with.pool.take(request.len as usize) {
            Ok(buffer) => Ok(self.jobs.add(request, plan, Some(buffer))),
            Err(_) => Err(OUT_OF_MEMORY),
        };
        self.expect_payload(&request, job);
    }

    /// What is not whole blocks at the ends of a TRIM is left as it is: it is a hint.
    fn begin_trim(&mut self, mut request: RequestHeader, plan: Plan, with: &mut Surroundings<'_>) {
        let (from, to) = Span::of(&request, with.offer).inner();
        if from == to {
            return self.outbox.replies().extend_from_slice(&simple_reply(0, request.cookie));
        }
        (request.offset, request.len) = (from, (to - from) as u32);
        let id = self.jobs.add(request, plan, None);
        self.start_change(id, with);
    }

    /// A WRITE whose payload is complete, a TRIM or a WRITE_ZEROES: begins, or is held until it may.
    pub(super) fn start_change(&mut self, id: JobId, with: &mut Surroundings<'_>) {
        let job = self.jobs.get(id);
        let pass = if Span::of(&job.request, with.offer).is_whole() { Pass::Shared } else { Pass::Alone };
        if !with.gate.enter(self.index, pass) {
            self.held = Some(id);
            return;
        }
        self.held = None;
        let job = self.jobs.get_mut(id);
        job.pass = pass;
        match (pass, job.plan) {
            (Pass::Alone, _) => self.read_edges(id, with),
            (_, Plan::Trim { .. }) => self.request_plain(id, RequestKind::Discard, with),
            (_, Plan::WriteZeroes { unmap, .. }) => self.request_plain(id, RequestKind::WriteZeroes { unmap }, with),
            _ => self.start_write(id, with),
        }
    }

    /// A change that had to wait asks again.
    pub(super) fn retry_held(&mut self, with: &mut Surroundings<'_>) {
        if let Some(id) = self.held {
            self.start_change(id, with);
            if self.held.is_none() {
                self.advance(with);
            }
        }
    }

    /// The job is over, whatever became of it.
    pub(super) fn finish(&mut self, id: JobId, with: &mut Surroundings<'_>) {
        with.gate.leave(self.jobs.get(id).pass);
        self.jobs.release(id, with.pool);
    }

    fn start_write(&mut self, id: JobId, with: &mut Surroundings<'_>) {
        let job = self.jobs.get_mut(id);
        let Some(buffer) = job.buffer.clone() else { return };
        job.waiting = 1;
        self.engine_requests += 1;
        let mut iov = with.cx.take_iovecs();
        iov.push(libc::iovec { iov_base: buffer.at(BUFFER_ALIGN).cast(), iov_len: job.request.len as usize });
        with.cx.request(Request {
            kind: RequestKind::Write,
            offset: job.request.offset,
            len: u64::from(job.request.len),
            iov,
            fua: job.plan == Plan::Write { fua: true },
            tag: tag(self.index, id, 0),
            keep: Some(buffer),
        });
    }

    fn begin_plain(&mut self, request: RequestHeader, plan: Plan, kind: RequestKind, with: &mut Surroundings<'_>) {
        let id = self.jobs.add(request, plan, None);
        self.request_plain(id, kind, with);
    }

    fn request_plain(&mut self, id: JobId, kind: RequestKind, with: &mut Surroundings<'_>) {
        let job = self.jobs.get_mut(id);
        job.waiting = 1;
        self.engine_requests += 1;
        let (offset, len) = match kind {
            RequestKind::Flush => (0, 0),
            _ => (job.request.offset, u64::from(job.request.len)),
        };
        let tag = tag(self.index, id, 0);
        with.cx.request(Request { kind, offset, len, iov: IoVecs::new(), fua: false, tag, keep: None });
    }

    fn answer_block_status(&mut self, request: &RequestHeader, one: bool, with: &mut Surroundings<'_>) {
        let scratch = &mut *with.scratch;
        let cx = &mut *with.cx;
        describe(
            request.offset,
            u64::from(request.len),
            one,
            u64::from(with.offer.min_block_bytes),
            |offset, len, pieces| cx.allocation(offset, len, pieces),
            (&mut scratch.pieces, &mut scratch.tiles),
            &mut scratch.descriptors,
        );
        let descriptors = scratch.descriptors.iter().copied();
        put_block_status(self.outbox.replies(), request.cookie, ALLOCATION_CONTEXT, descriptors);
    }

    /// One engine request of the job is done.
    pub fn on_done(&mut self, id: JobId, result: Result<(), Errno>, with: &mut Surroundings<'_>) {
        self.engine_requests -= 1;
        let job = self.jobs.get_mut(id);
        job.waiting -= 1;
        if let Err(errno) = result {
            job.failed.get_or_insert(errno);
        }
        if job.waiting == 0 {
            self.answer(id, with);
            self.advance(with);
        }
    }

    /// All of the job's requests are done.
    fn answer(&mut self, id: JobId, with: &mut Surroundings<'_>) {
        let session = self.session();
        let broken = self.is_broken();
        let job = self.jobs.get_mut(id);
        let cookie = job.request.cookie;
        if broken {
            return self.finish(id, with);
        }
        if let Some(errno) = job.failed {
            self.answer_refusal(cookie, &Refusal::from_errno(errno));
            return self.finish(id, with);
        }
        if let Some(edges) = job.edges.take() {
            self.write_edges(id, &edges, with);
            // Referred to by the requests just made, if at all.
            return with.pool.put(edges);
        }
        match (job.plan, &job.buffer) {
            (Plan::Read { .. }, Some(buffer)) => {
                let span = Span::of(&job.request, with.offer);
                if let ([run], false) = (&mut job.runs[..], span.is_whole()) {
                    run.narrow(span.lead, job.request.len);
                }
                // SAFETY: every engine request of the job is done and nothing of it is being sent yet.
                unsafe {
                    match job.runs.first_mut() {
                        Some(run) if !session.structured => put_simple_header(buffer, cookie, run),
                        _ => put_chunk_headers(buffer, cookie, &mut job.runs, job.hole_after),
                    }
                }
                if job.runs.iter().map(|run| run.send_len).sum::<usize>() > COPY_BYTES {
                    return self.outbox.push_read(id);
                }
                for run in &job.runs {
                    // SAFETY: as above.
                    let bytes = unsafe { buffer.bytes(run.send_position, run.send_len) };
                    self.outbox.replies().extend_from_slice(bytes);
                }
            }
            // The engine promises FUA for writes only; here a flush of its own covers what was zeroed.
            (Plan::Trim { fua: true } | Plan::WriteZeroes { fua: true, .. }, _) if !job.flushing => {
                job.flushing = true;
                return self.request_plain(id, RequestKind::Flush, with);
            }
            _ => self.outbox.replies().extend_from_slice(&simple_reply(0, cookie)),
        }
        self.finish(id, with);
    }
}
