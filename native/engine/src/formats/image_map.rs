//! The contract between a format and the code that does I/O for it.
//!
//! A map is sans-IO: it answers where bytes live, and asks for metadata I/O through [`ImageMap::next_io`]. It is driven by
//! one thread. Payload I/O is the caller's, to the offsets it was told.
//!
//! Crash rules every implementation keeps (argued in docs/design):
//! * `kill -9` loses nothing that was acknowledged: `map_write` answers `Ready` only when the mapping has been handed to the
//!   kernel (a log entry written, not necessarily synced), so a payload write that follows is found again by the next open.
//! * New space reads as zeros until written (fresh space behind the end of the file), so a mapping may become durable before its payload.
//! * After a power cut the file is consistent: metadata in place only after the log entry that describes it is durable.

use std::borrow::Cow;

use uuid::Uuid;

use crate::disk::{ByteRange, Errno, Geometry};

/// A piece of a guest range. Pieces tile the range asked for, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// `len` bytes at `file_offset` of the image file.
    Data { file_offset: u64, len: u64 },
    /// Reads as zeros and has no place in the file.
    Zero { len: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// The extents tile the range and are all `Data`.
    Ready,
    /// Space is being allocated. `waiter` comes back through [`ImageMap::take_ready`]; then ask again. Nothing was appended to `out`.
    Pending,
}

/// Why a mapping cannot be had. `Errno` is what the guest gets (EIO, ENOSPC, EROFS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapError(pub Errno);

/// Metadata I/O a map asks for. Done in any order relative to payload, but each `MetaIo` only after the previous was answered with
/// [`ImageMap::io_done`], unless `next_io` hands out more than one: those may run in parallel.
#[derive(Debug)]
pub struct MetaIo {
    /// The map's own name for it.
    pub id: u32,
    pub op: MetaOp,
}

#[derive(Debug)]
pub enum MetaOp {
    /// Offsets and lengths are multiples of 4096; the caller copies to an aligned buffer where O_DIRECT needs one.
    Write { offset: u64, data: Vec<u8> },
    /// fdatasync of the image file (payload included).
    Flush,
    /// ftruncate to a larger length; the new space reads as zeros.
    Extend { len: u64 },
}

pub trait ImageMap: Send {
    fn geometry(&self) -> Geometry;

    /// Where `range` (inside the disk) is read from. Always answers at once: the tables are in memory.
    fn map_read(&self, range: ByteRange, out: &mut Vec<Extent>);

    /// The longest range `map_read` answers for in some tens of microseconds: who looks at a whole disk goes page by page.
    fn page_bytes(&self) -> u64 {
        u64::MAX
    }

    /// Where `range` is to be written; allocates what has no place yet. `waiter` is the caller's name for the attempt.
    fn map_write(&mut self, range: ByteRange, waiter: u64, out: &mut Vec<Extent>) -> Result<Mapping, MapError>;

    /// The next metadata I/O to start, if any. Call until `None` after every `map_write` and `io_done`.
    fn next_io(&mut self) -> Option<MetaIo>;

    fn io_done(&mut self, id: u32, result: Result<(), Errno>);

    /// Waiters whose allocation ended; on `Ok` call `map_write` again.
    fn take_ready(&mut self, out: &mut Vec<(u64, Result<(), Errno>)>);

    /// Asks for a clean end: metadata applied in place, log empty. The image may be closed when `next_io` stays `None`
    /// and `is_clean` is true. No `map_write` may follow.
    fn begin_close(&mut self);

    /// True when nothing is under way and (after `begin_close`) the file needs no replay.
    fn is_clean(&self) -> bool;

    /// Why the map will never be clean again, if so: metadata I/O failed. Reads, and writes to places that exist, go on; the file
    /// is right but needs a replay when it is opened next.
    fn failure(&self) -> Option<&str> {
        None
    }

    /// Bytes of the image file this image may still need beyond its present length when every block is allocated.
    fn growth_bytes(&self) -> u64;

    /// The name of the format, for messages.
    fn name(&self) -> Cow<'static, str>;

    /// What names the present content, for formats that have such a name (VHDX: DataWriteGuid); `None` also while it is being changed.
    fn content_name(&self) -> Option<Uuid> {
        None
    }

    /// For the target of a move, before its first write: what is written is the content that has this name already.
    fn keep_content_name(&mut self) {}

    /// The guest is about to change the content: a kept name has to go before. True when there is metadata I/O to do.
    fn content_changes(&mut self) -> bool {
        false
    }

    /// A flush of the file failed outside the map: the kernel reports lost pages once, so the map must not rely on its own next flush.
    /// Reads and writes to what is allocated go on; allocation and a clean close do not.
    fn flush_failed(&mut self, _errno: Errno) {}
}
