//! One request of a guest, as an export hands it in. Exactly one completion comes back for each.

use std::any::Any;
use std::sync::Arc;

/// Pointers into memory that `Request::keep` keeps mapped. Recycled, so that a warm data path does not allocate.
pub type IoVecs = Vec<libc::iovec>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    Read,
    Write,
    Flush,
    /// The content becomes undefined for the guest; here it always reads as zeros, so that both sides of a mirror stay equal.
    Discard,
    /// The content becomes zeros; `unmap` allows the space to be given back.
    WriteZeroes {
        unmap: bool,
    },
}

pub struct Request {
    pub kind: RequestKind,
    /// Bytes, a multiple of 512. The export has checked nothing but the form; the service checks it against the disk's size.
    pub offset: u64,
    /// Bytes, a multiple of 512. For reads and writes the sum of `iov`.
    pub len: u64,
    /// The guest's memory for `Read` (filled) and `Write` (read); empty otherwise.
    pub iov: IoVecs,
    /// The write is acknowledged only after a flush that covers it.
    pub fua: bool,
    /// The export's own name for the request, given back unchanged.
    pub tag: u64,
    /// Keeps the memory behind `iov` mapped until the completion has been delivered.
    pub keep: Option<Arc<dyn Any + Send + Sync>>,
}

// SAFETY: the iovecs point into memory kept alive by `keep` (guest memory, or a buffer of the export that stays put
// until the completion); moving the pointers to another thread does not touch what they point at.
unsafe impl Send for Request {}
