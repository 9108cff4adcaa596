//! The map of an open VHDX: block to file offset, allocation, and the metadata I/O that makes both survive a crash.
//!
//! ```text
//!                 first map_write            block without a place
//!     Shut ──────────▶ OPEN ──────────▶ Idle ──────▶ Extend ──▶ log entry ──▶ Idle, waiters told
//!      ▲                │ error          │ ▲ │
//!      └────────────────┘   log is full  │ │ └ begin_close ──▶ CLOSE ──▶ Closed
//!                                        ▼ │
//!                                CHECKPOINT, RENEW      error anywhere but OPEN, RENEW and Extend ──▶ Poisoned
//! ```
//! One metadata operation at a time. The scripts are in `script.rs`, the log's layout in `lap.rs`.
//!
//! * New blocks come only from behind the end of the file, which reads as zeros, so a mapping may become durable before its
//!   payload. What a crash leaves behind the last block is never used again (it may hold somebody's late write).
//! * A block counts as present in memory, and a write to it is `Ready`, once its log entry has been written: a process killed
//!   after that loses nothing. Allocations that wait meanwhile share the next entry.
//! * The BAT in place changes only after a flush that made its log entries durable.
//! * DataWriteGuid names the content. A session gives a new one before its first write, but for the target of a move, whose writes make
//!   the content that the source's names: that one keeps it until the guest changes something (`ContentName`).

use std::borrow::Cow;
use std::collections::BTreeSet;

use uuid::Uuid;

use super::allocation::AllocationQueue;
use super::bat::Bat;
use super::extents::push;
use super::header::Headers;
use super::lap::{ENTRY_PAGES_MAX, FileLengths, LogLap};
use super::layout::*;
use super::metadata::Metadata;
use super::region::Regions;
use super::script::{self, Step};
use crate::disk::{ByteRange, Errno, Geometry};
use crate::formats::image_map::{Extent, ImageMap, MapError, Mapping, MetaIo, MetaOp};

/// BAT pages one write in place carries: 64 KiB.
const APPLY_PAGES_MAX: u64 = 16;

/// Blocks of a page of the map: 4096 entries are looked at in some 20 us.
const PAGE_BLOCKS: u64 = 4096;

/// Blocks on their way to a place, in the order of their tickets.
struct Batch {
    blocks: Vec<(u64, u64)>,
    pages: Vec<u64>,
    file_len: u64,
}

enum State {
    /// Nothing was written in this session. `unsure`: a header update failed and may or may not have reached the disk.
    Shut {
        unsure: bool,
    },
    Script {
        steps: &'static [Step],
        at: usize,
    },
    Idle,
    Extending(Batch),
    Logging(Batch),
    Poisoned,
    Closed,
}

/// What becomes of the DataWriteGuid the file was opened with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ContentName {
    /// OPEN gives a new one.
    Fresh,
    /// OPEN leaves it: this session copies the content that has this name.
    Kept,
    /// It was kept and the content is about to change: no write goes on before there is a new one.
    Due,
}

/// Why nothing is allocated any more, and what a request that needed it is told.
struct Failure {
    why: String,
    errno: Errno,
}

pub struct VhdxMap {
    geometry: Geometry,
    writable: bool,
    bat: Bat,
    /// Of the BAT region in the file.
    bat_start: u64,
    headers: Headers,
    /// Written and not yet flushed.
    next_headers: Option<Headers>,
    log: LogLap,
    lengths: FileLengths,
    /// BAT pages that differ from what is in place.
    changed_pages: BTreeSet<u64>,
    /// The run of pages being applied.
    applying: std::ops::Range<u64>,
    queue: AllocationQueue,
    gate_open: bool,
    gate_waiters: Vec<u64>,
    content_name: ContentName,
    /// The name that a kept one gives way to; both headers get the same.
    renewed: Uuid,
    /// RENEW (or OPEN) is to run. One that failed waits for the next write: it would fail again at once.
    renewal_wanted: bool,
    state: State,
    /// The operation under way.
    outstanding: Option<u32>,
    last_id: u32,
    closing: bool,
    failure: Option<Failure>,
}

impl VhdxMap {
    /// `file_len` is the length of the file; for a writable map it is durable.
    pub(super) fn new(
        bat: Bat,
        metadata: &Metadata,
        regions: &Regions,
        headers: Headers,
        file_len: u64,
        writable: bool,
    ) -> Self {
        Self {
            geometry: Geometry {
                size_bytes: metadata.disk_bytes,
                logical_sector_bytes: metadata.logical_sector_bytes,
                physical_sector_bytes: metadata.physical_sector_bytes,
            },
            writable,
            bat,
            bat_start: regions.bat.start,
            headers,
            next_headers: None,
            log: LogLap::new(headers.current.log),
            lengths: FileLengths { durable: file_len, current: file_len },
            changed_pages: BTreeSet::new(),
            applying: 0..0,
            queue: AllocationQueue::default(),
            gate_open: false,
            gate_waiters: Vec::new(),
            content_name: ContentName::Fresh,
            renewed: Uuid::nil(),
            renewal_wanted: false,
            state: State::Shut { unsure: false },
            outstanding: None,
            last_id: 0,
            closing: false,
            failure: None,
        }
    }

    /// Ends allocation for good: for a caller who learned elsewhere that metadata may be lost (a guest's flush of this file
    /// failed: the kernel reports that once, and the map's own next flush would succeed over lost pages).
    ///
    /// `errno` is what it failed with: a file system that is full stays ENOSPC for whoever waits now or asks later.
    pub fn poison(&mut self, why: impl Into<String>, errno: Errno) {
        if self.failure.is_none() && !matches!(self.state, State::Closed) {
            let errno = growth_errno(errno);
            self.failure = Some(Failure { why: why.into(), errno });
            self.state = State::Poisoned;
            self.queue.fail_all(errno);
            for waiter in std::mem::take(&mut self.gate_waiters) {
                self.queue.tell(waiter, Err(errno));
            }
        }
    }

    /// Blocks that have a place in the file.
    pub fn allocated_blocks(&self) -> u64 {
        self.bat.allocated_blocks
    }

    /// Splits a range at block borders: (block, offset in it, length).
    fn pieces(&self, range: ByteRange) -> impl Iterator<Item = (u64, u64, u64)> + use<> {
        let (shift, mut at, end) = (self.bat.geometry.block_shift, range.start, range.end());
        std::iter::from_fn(move || {
            let (block, within) = (at >> shift, at & ((1 << shift) - 1));
            let len = (end - at).min((1 << shift) - within);
            at += len;
            (len > 0).then_some((block, within, len))
        })
    }

    /// Where the next new block goes.
    fn free_offset(&self) -> u64 {
        self.lengths.current.max(self.bat.space_end).next_multiple_of(ALIGNMENT)
    }

    /// Takes what waits, up to what one log entry carries.
    fn take_batch(&mut self) -> Batch {
        let (bat, mut pages) = (&self.bat, Vec::new());
        let blocks = self.queue.take(|block| {
            let page = bat.page_of(block);
            let fits = pages.contains(&page) || pages.len() < ENTRY_PAGES_MAX;
            if fits && !pages.contains(&page) {
                pages.push(page);
            }
            fits
        });
        pages.sort_unstable();
        let mut file_len = self.free_offset();
        let place = |block| {
            let offset = file_len;
            file_len += self.bat.geometry.block_bytes();
            (block, offset)
        };
        let blocks = blocks.into_iter().map(place).collect();
        Batch { blocks, pages, file_len }
    }

    fn issue(&mut self, op: MetaOp) -> Option<MetaIo> {
        self.last_id = self.last_id.wrapping_add(1);
        self.outstanding = Some(self.last_id);
        Some(MetaIo { id: self.last_id, op })
    }

    fn header_write(&mut self, step: Step) -> MetaOp {
        if step == Step::FreshHeader {
            self.log.renew();
        }
        let (log_guid, renewed) = (self.log.guid(), self.renewed);
        let (keeps_name, name_is_due) = (self.content_name == ContentName::Kept, self.content_name == ContentName::Due);
        if step == Step::FreshHeader && !keeps_name {
            self.content_name = ContentName::Fresh;
        }
        let next = self.headers.next(|header| match step {
            Step::FreshHeader => {
                header.file_write_guid = Uuid::new_v4();
                if !keeps_name {
                    header.data_write_guid = Uuid::new_v4();
                }
                header.log_guid = Uuid::nil();
            }
            Step::DirtyHeader => header.log_guid = log_guid,
            Step::RenewedHeader => header.data_write_guid = renewed,
            _ => {
                header.log_guid = Uuid::nil();
                if name_is_due {
                    header.data_write_guid = renewed;
                }
            }
        });
        self.next_headers = Some(next);
        MetaOp::Write { offset: next.offset(), data: next.current.to_bytes() }
    }

    /// The next run of changed BAT pages, or `None` when the table in place is up to date.
    fn apply_write(&mut self) -> Option<MetaOp> {
        let first = *self.changed_pages.first()?;
        let count =
            (1..APPLY_PAGES_MAX).take_while(|step| self.changed_pages.contains(&(first + step))).count() as u64 + 1;
        self.applying = first..first + count;
        let data = self.applying.clone().flat_map(|page| self.bat.page_image(page, &[])).collect();
        Some(MetaOp::Write { offset: self.bat_start + first * PAGE, data })
    }

    /// The operation of a step, or `None` when it has nothing to do.
    fn step_op(&mut self, step: Step) -> Option<MetaOp> {
        match step {
            Step::FreshHeader | Step::DirtyHeader | Step::CleanHeader | Step::RenewedHeader => {
                Some(self.header_write(step))
            }
            Step::Anchor => {
                let (offset, data) = self.log.write_anchor(self.lengths);
                Some(MetaOp::Write { offset, data })
            }
            Step::Apply => self.apply_write(),
            Step::Flush => Some(MetaOp::Flush),
        }
    }

    /// A step's operation succeeded. Says whether the step is done.
    fn step_done(&mut self, step: Step) -> bool {
        match step {
            Step::Flush => {
                self.lengths.durable = self.lengths.current;
                if let Some(headers) = self.next_headers.take() {
                    self.headers = headers;
                }
                true
            }
            Step::Apply => {
                for page in std::mem::take(&mut self.applying) {
                    self.changed_pages.remove(&page);
                }
                self.changed_pages.is_empty()
            }
            Step::FreshHeader | Step::DirtyHeader | Step::CleanHeader | Step::RenewedHeader | Step::Anchor => true,
        }
    }

    fn script_ended(&mut self, steps: &'static [Step]) {
        if steps == script::CLOSE {
            self.state = State::Closed;
            return;
        }
        self.state = State::Idle;
        if steps == script::RENEW {
            self.content_name = ContentName::Fresh;
        } else {
            self.log.restart();
        }
        // What OPEN wrote may be out of date by the time it ends: RENEW follows then.
        if steps != script::CHECKPOINT && self.content_name != ContentName::Due {
            self.gate_open = true;
            for waiter in std::mem::take(&mut self.gate_waiters) {
                self.queue.tell(waiter, Ok(()));
            }
        }
    }

    /// What RENEW or OPEN has failed with: nothing was promised, the next attempt writes the headers afresh.
    fn gate_stays_shut(&mut self, errno: Errno) {
        self.next_headers = None;
        for waiter in std::mem::take(&mut self.gate_waiters) {
            self.queue.tell(waiter, Err(growth_errno(errno)));
        }
    }

    fn log_write(&mut self, batch: &Batch) -> MetaOp {
        let pages: Vec<_> = batch
            .pages
            .iter()
            .map(|&page| (self.bat_start + page * PAGE, self.bat.page_image(page, &batch.blocks)))
            .collect();
        let (offset, data) = self.log.append(&pages, self.lengths);
        MetaOp::Write { offset, data }
    }

    fn failed(&mut self, doing: &str, errno: Errno) {
        let error = std::io::Error::from_raw_os_error(errno);
        self.poison(format!("could not {doing} of the VHDX file: {error}; nothing new is allocated in it"), errno);
    }
}

/// What a guest is told when the file cannot grow.
fn growth_errno(errno: Errno) -> Errno {
    match errno {
        libc::ENOSPC | libc::EDQUOT | libc::EFBIG => libc::ENOSPC,
        _ => libc::EIO,
    }
}

impl ImageMap for VhdxMap {
    fn flush_failed(&mut self, errno: Errno) {
        self.poison("a flush of the file failed: what was written before may be lost", errno);
    }

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn map_read(&self, range: ByteRange, out: &mut Vec<Extent>) {
        let from = out.len();
        for (block, within, len) in self.pieces(range) {
            let offset = if block < self.bat.geometry.blocks { self.bat.offset_of(block) } else { None };
            push(out, from, offset.map(|offset| offset + within), len);
        }
    }

    fn page_bytes(&self) -> u64 {
        PAGE_BLOCKS * self.bat.geometry.block_bytes()
    }

    fn map_write(&mut self, range: ByteRange, waiter: u64, out: &mut Vec<Extent>) -> Result<Mapping, MapError> {
        if !self.writable {
            return Err(MapError(libc::EROFS));
        }
        if self.closing || range.end() > self.geometry.size_bytes {
            return Err(MapError(libc::EIO));
        }
        if !self.gate_open {
            if let Some(failure) = &self.failure {
                return Err(MapError(failure.errno));
            }
            self.gate_waiters.push(waiter);
            self.renewal_wanted = self.content_name == ContentName::Due;
            return Ok(Mapping::Pending);
        }
        let from = out.len();
        let mut ticket = 0;
        for (block, within, len) in self.pieces(range) {
            match self.bat.offset_of(block) {
                Some(offset) => push(out, from, Some(offset + within), len),
                None => match &self.failure {
                    Some(failure) => {
                        out.truncate(from);
                        return Err(MapError(failure.errno));
                    }
                    None => ticket = self.queue.want(block).max(ticket),
                },
            }
        }
        if ticket == 0 {
            return Ok(Mapping::Ready);
        }
        out.truncate(from);
        self.queue.wait(waiter, ticket);
        Ok(Mapping::Pending)
    }

    fn next_io(&mut self) -> Option<MetaIo> {
        if self.outstanding.is_some() {
            return None;
        }
        loop {
            match std::mem::replace(&mut self.state, State::Idle) {
                State::Shut { unsure } => {
                    let nobody_waits = self.gate_waiters.is_empty() && !std::mem::take(&mut self.renewal_wanted);
                    let steps = match (nobody_waits, self.closing) {
                        (false, _) => script::OPEN,
                        (true, true) if unsure => script::CLOSE,
                        (true, closing) => {
                            self.state = if closing { State::Closed } else { State::Shut { unsure } };
                            return None;
                        }
                    };
                    self.state = State::Script { steps, at: 0 };
                }
                State::Script { steps, at } => match steps.get(at) {
                    None => self.script_ended(steps),
                    Some(&step) => match self.step_op(step) {
                        Some(op) => {
                            self.state = State::Script { steps, at };
                            return self.issue(op);
                        }
                        None => self.state = State::Script { steps, at: at + 1 },
                    },
                },
                State::Idle if self.renewal_wanted => {
                    self.renewal_wanted = false;
                    self.state = State::Script { steps: script::RENEW, at: 0 };
                }
                State::Idle if !self.queue.is_empty() => {
                    if !self.log.fits(ENTRY_PAGES_MAX.min(self.bat.pages())) {
                        self.state = State::Script { steps: script::CHECKPOINT, at: 0 };
                        continue;
                    }
                    let batch = self.take_batch();
                    if batch.file_len > FILE_BYTES_MAX {
                        self.queue.resolve(batch.blocks.iter().map(|(block, _)| *block), Err(libc::ENOSPC));
                        continue;
                    }
                    let len = batch.file_len;
                    self.state = State::Extending(batch);
                    return self.issue(MetaOp::Extend { len });
                }
                State::Idle if self.closing => self.state = State::Script { steps: script::CLOSE, at: 0 },
                State::Logging(batch) => {
                    let op = self.log_write(&batch);
                    self.state = State::Logging(batch);
                    return self.issue(op);
                }
                state => {
                    self.state = state;
                    return None;
                }
            }
        }
    }

    fn io_done(&mut self, id: u32, result: Result<(), Errno>) {
        if self.outstanding != Some(id) {
            return;
        }
        self.outstanding = None;
        match (std::mem::replace(&mut self.state, State::Idle), result) {
            (State::Script { steps, at }, Ok(())) => {
                let done = self.step_done(steps[at]);
                self.state = State::Script { steps, at: at + usize::from(done) };
                if at + usize::from(done) == steps.len() {
                    self.script_ended(steps);
                }
            }
            // Nothing was promised yet and the headers are written afresh by the next attempt: no reason to give up.
            (State::Script { steps: script::OPEN, .. }, Err(errno)) => {
                self.state = State::Shut { unsure: true };
                self.gate_stays_shut(errno);
            }
            (State::Script { steps: script::RENEW, .. }, Err(errno)) => self.gate_stays_shut(errno),
            (State::Script { steps, at }, Err(errno)) => self.failed(steps[at].describe(), errno),
            (State::Extending(batch), Ok(())) => {
                self.lengths.current = batch.file_len;
                self.state = State::Logging(batch);
            }
            // The file is as long as it was; a later attempt may find room.
            (State::Extending(batch), Err(errno)) => {
                self.queue.resolve(batch.blocks.iter().map(|(block, _)| *block), Err(growth_errno(errno)));
            }
            (State::Logging(batch), Ok(())) => {
                for &(block, offset) in &batch.blocks {
                    self.bat.set_present(block, offset);
                }
                self.changed_pages.extend(&batch.pages);
                self.queue.resolve(batch.blocks.iter().map(|(block, _)| *block), Ok(()));
            }
            (State::Logging(_), Err(errno)) => self.failed("write the log", errno),
            // Poisoned while the operation was under way: its result no longer matters.
            (state, _) => self.state = state,
        }
    }

    fn take_ready(&mut self, out: &mut Vec<(u64, Result<(), Errno>)>) {
        self.queue.take_ready(out);
    }

    fn begin_close(&mut self) {
        self.closing = true;
    }

    fn is_clean(&self) -> bool {
        let quiet = self.outstanding.is_none() && self.gate_waiters.is_empty() && !self.renewal_wanted;
        match self.state {
            State::Closed => quiet,
            State::Shut { unsure } => quiet && !(self.closing && unsure),
            State::Idle => quiet && self.queue.is_empty() && !self.closing,
            State::Script { .. } | State::Extending(_) | State::Logging(_) | State::Poisoned => false,
        }
    }

    fn growth_bytes(&self) -> u64 {
        let placed = match &self.state {
            State::Logging(batch) => batch.blocks.len() as u64,
            _ => 0,
        };
        let left = self.bat.unallocated_blocks() - placed;
        match left {
            0 => 0,
            _ => self.free_offset() - self.lengths.current + left * self.bat.geometry.block_bytes(),
        }
    }

    fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed("VHDX")
    }

    fn content_name(&self) -> Option<Uuid> {
        // While OPEN is on its way the name on disk is an old one or not durable.
        let shut = matches!(self.state, State::Shut { .. }) && self.gate_waiters.is_empty();
        let settled = (shut || self.gate_open) && self.next_headers.is_none();
        settled.then_some(self.headers.current.data_write_guid)
    }

    fn keep_content_name(&mut self) {
        if matches!(self.state, State::Shut { .. }) {
            self.content_name = ContentName::Kept;
        }
    }

    fn content_changes(&mut self) -> bool {
        let kept = self.content_name == ContentName::Kept;
        if kept {
            self.content_name = ContentName::Due;
            self.renewed = Uuid::new_v4();
            self.renewal_wanted = true;
            self.gate_open = false;
        }
        kept
    }

    fn failure(&self) -> Option<&str> {
        self.failure.as_ref().map(|failure| failure.why.as_str())
    }
}
