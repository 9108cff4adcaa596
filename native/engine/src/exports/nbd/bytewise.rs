//! Requests that are not whole blocks, of clients that never asked for block sizes: served to the byte, by reading the blocks at the two
//! ends, changing the bytes that are meant, and writing whole blocks.
//!
//! ```text
//!   block:      |--------|--------|--------|--------|
//!   request:        [=====================]
//!   read:       |--------|                 |--------|      both ends, into `edges`
//!   written:    |----====|========|========|====----|      a WRITE in one piece, a WRITE_ZEROES as end, zeros, end
//! ```
//! Between reading and writing an end nobody else may write to it: the bytes beside the request would go back to what they were. So such
//! a request has the disk's writes to itself, over all connections: it waits until those under way are done, and later ones wait for it.
//! That is slow, and who wants it fast asks for whole blocks. What has the disk beside this server (a guest) is not held up by it.

use std::sync::Arc;

use super::buffers::{BUFFER_ALIGN, Buffer};
use super::connection::{Connection, Surroundings};
use super::handshake::Offer;
use super::jobs::JobId;
use super::requests::tag;
use super::transmission::{Plan, Refusal};
use super::wire::RequestHeader;
use crate::disk::{IoVecs, Request, RequestKind};

/// Which writes may be under way at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pass {
    /// Not started, or no write.
    #[default]
    None,
    /// Whole blocks: beside others like it.
    Shared,
    /// Nothing else.
    Alone,
}

/// The writes of all connections of a server.
#[derive(Debug, Default)]
pub struct Gate {
    shared: usize,
    alone: bool,
    /// The connection that waits to be alone: until then nobody else begins, or it would wait for ever.
    wanted_by: Option<u16>,
}

impl Gate {
    /// True when it may begin; otherwise it is to ask again.
    pub fn enter(&mut self, connection: u16, pass: Pass) -> bool {
        let admitted = match pass {
            Pass::None => true,
            Pass::Shared => !self.alone && self.wanted_by.is_none(),
            Pass::Alone => !self.alone && self.shared == 0 && self.wanted_by.is_none_or(|by| by == connection),
        };
        match pass {
            Pass::Shared if admitted => self.shared += 1,
            Pass::Alone if admitted => {
                self.alone = true;
                self.wanted_by = None;
            }
            Pass::Alone => {
                self.wanted_by.get_or_insert(connection);
            }
            _ => {}
        }
        admitted
    }

    pub fn leave(&mut self, pass: Pass) {
        match pass {
            Pass::None => {}
            Pass::Shared => self.shared -= 1,
            Pass::Alone => self.alone = false,
        }
    }

    pub fn is_contended(&self) -> bool {
        self.alone || self.wanted_by.is_some()
    }

    /// The connection that waited has gone.
    pub fn give_up(&mut self, connection: u16) {
        if self.wanted_by == Some(connection) {
            self.wanted_by = None;
        }
    }
}

/// A request and the whole blocks around it.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    block: u64,
    /// Of the first block.
    pub start: u64,
    /// Behind the last block.
    pub end: u64,
    /// Bytes of the first block before the request, and of the last one behind it.
    pub lead: usize,
    trail: usize,
}

impl Span {
    pub fn of(request: &RequestHeader, offer: &Offer) -> Self {
        let block = u64::from(offer.min_block_bytes);
        let request_end = request.offset + u64::from(request.len);
        let (start, end) = (request.offset - request.offset % block, request_end.next_multiple_of(block));
        let (lead, trail) = ((request.offset - start) as usize, (end - request_end) as usize);
        Self { block, start, end, lead, trail }
    }

    pub fn is_whole(&self) -> bool {
        self.lead == 0 && self.trail == 0
    }

    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// The whole blocks inside the request: from and to, equal when there are none.
    pub fn inner(&self) -> (u64, u64) {
        let from = if self.lead > 0 { self.start + self.block } else { self.start };
        let to = if self.trail > 0 { self.end - self.block } else { self.end };
        (from, to.max(from))
    }

    /// The blocks that have to be read: where on the disk, and where in `edges`. One when both ends are in the same.
    fn edges(&self) -> impl Iterator<Item = (u64, usize)> + use<> {
        let last = self.end - self.block;
        let first = (self.lead > 0 || last == self.start).then_some((self.start, BUFFER_ALIGN));
        let behind = (self.trail > 0 && last != self.start).then_some((last, 2 * BUFFER_ALIGN));
        first.into_iter().chain(behind)
    }

    /// Where in `edges` the last block lies.
    fn last_position(&self) -> usize {
        if self.end - self.block == self.start { BUFFER_ALIGN } else { 2 * BUFFER_ALIGN }
    }
}

impl Connection {
    /// Reads the ends. The request is alone.
    pub(super) fn read_edges(&mut self, id: JobId, with: &mut Surroundings<'_>) {
        let span = Span::of(&self.jobs.get(id).request, with.offer);
        let Ok(edges) = with.pool.take(2 * BUFFER_ALIGN) else {
            let cookie = self.jobs.get(id).request.cookie;
            self.answer_refusal(cookie, &Refusal::from_errno(libc::ENOMEM));
            return self.finish(id, with);
        };
        self.jobs.get_mut(id).edges = Some(Arc::clone(&edges));
        for (offset, position) in span.edges() {
            self.start_piece(id, RequestKind::Read, (offset, span.block), Some((&edges, position)), with);
        }
    }

    /// The ends are there: puts the request's bytes among them and writes.
    pub(super) fn write_edges(&mut self, id: JobId, edges: &Arc<Buffer>, with: &mut Surroundings<'_>) {
        let job = self.jobs.get(id);
        let (span, plan) = (Span::of(&job.request, with.offer), job.plan);
        let tail = span.last_position() + span.block as usize - span.trail;
        if let (Plan::Write { .. }, Some(buffer)) = (plan, job.buffer.clone()) {
            let behind = BUFFER_ALIGN + span.lead + job.request.len as usize;
            // SAFETY: the reads are done and nothing is written yet: both buffers are this job's alone.
            unsafe {
                buffer.write(BUFFER_ALIGN, edges.bytes(BUFFER_ALIGN, span.lead));
                buffer.write(behind, edges.bytes(tail, span.trail));
            }
            let place = (span.start, span.len());
            return self.start_piece(id, RequestKind::Write, place, Some((&buffer, BUFFER_ALIGN)), with);
        }
        let (from, to) = span.inner();
        let zeros = |position: usize, len: usize| {
            // SAFETY: as above.
            unsafe { edges.write(position, &[0; BUFFER_ALIGN][..len]) };
        };
        let block = span.block as usize;
        if span.last_position() == BUFFER_ALIGN {
            zeros(BUFFER_ALIGN + span.lead, block - span.lead - span.trail);
        } else {
            zeros(BUFFER_ALIGN + span.lead, if span.lead > 0 { block - span.lead } else { 0 });
            zeros(2 * BUFFER_ALIGN, if span.trail > 0 { block - span.trail } else { 0 });
        }
        for (offset, position) in span.edges() {
            self.start_piece(id, RequestKind::Write, (offset, span.block), Some((edges, position)), with);
        }
        if let Plan::WriteZeroes { unmap, .. } = plan
            && from < to
        {
            self.start_piece(id, RequestKind::WriteZeroes { unmap }, (from, to - from), None, with);
        }
    }

    fn start_piece(
        &mut self,
        id: JobId,
        kind: RequestKind,
        (offset, len): (u64, u64),
        memory: Option<(&Arc<Buffer>, usize)>,
        with: &mut Surroundings<'_>,
    ) {
        let job = self.jobs.get_mut(id);
        job.waiting += 1;
        self.engine_requests += 1;
        let fua = kind == RequestKind::Write && job.plan == Plan::Write { fua: true };
        let mut iov = IoVecs::new();
        let mut keep = None;
        if let Some((buffer, position)) = memory {
            iov = with.cx.take_iovecs();
            iov.push(libc::iovec { iov_base: buffer.at(position).cast(), iov_len: len as usize });
            keep = Some(Arc::clone(buffer) as _);
        }
        with.cx.request(Request { kind, offset, len, iov, fua, tag: tag(self.index, id, 0), keep });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wants_to_be_alone_waits_for_those_under_way_and_nobody_overtakes() {
        let mut gate = Gate::default();
        assert!(gate.enter(0, Pass::Shared) && gate.enter(1, Pass::Shared));
        assert!(!gate.enter(2, Pass::Alone));
        assert!(!gate.enter(0, Pass::Shared), "it would wait for ever");
        assert!(!gate.enter(3, Pass::Alone));
        gate.leave(Pass::Shared);
        assert!(!gate.enter(2, Pass::Alone));
        gate.leave(Pass::Shared);
        assert!(!gate.enter(3, Pass::Alone), "in the order they came");
        assert!(gate.enter(2, Pass::Alone));
        assert!(!gate.enter(0, Pass::Shared) && !gate.enter(3, Pass::Alone));
        gate.leave(Pass::Alone);
        gate.give_up(3);
        assert!(gate.enter(0, Pass::Shared));
    }
}
