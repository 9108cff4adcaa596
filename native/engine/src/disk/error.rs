//! What may go wrong below the addon. A format has its own reasons; they travel as context, the kind is small.

use std::path::{Path, PathBuf};

/// A positive errno value. On the data path an error is nothing but this number.
pub type Errno = i32;

/// Why an operation failed, in the few ways a caller acts upon. Maps to the codes of `src/model/errors.ts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    NotFound,
    AlreadyExists,
    PermissionDenied,
    NoSpace,
    /// Locked by somebody else: another worker, QEMU, qemu-img.
    Locked,
    /// A rule of the format is broken; the message names it.
    Corrupt,
    /// A valid file that asks for something this build refuses.
    Unsupported,
    InvalidArgument,
    InvalidState,
    ReadOnly,
    /// The operating system failed an I/O request.
    Io,
    /// The other side of a connection broke the protocol.
    Protocol,
    Cancelled,
    /// Others can change where a path leads: a folder of theirs, a link of theirs, a file exchanged.
    UnsafeFolder,
}

/// An error of the control path: kind, what was asked, on which file, and the cause. `Display` never prints the cause.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct DiskError {
    pub kind: ErrorKind,
    pub message: String,
    pub path: Option<PathBuf>,
    #[source]
    pub source: Option<std::io::Error>,
}

impl DiskError {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), path: None, source: None }
    }

    pub fn at(mut self, path: &Path) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    /// An I/O error while doing `what` on `path`; the kind follows from the errno.
    pub fn io(what: &str, path: &Path, source: std::io::Error) -> Self {
        let kind = match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => ErrorKind::NotFound,
            Some(libc::EISDIR) => ErrorKind::InvalidArgument,
            Some(libc::EEXIST) => ErrorKind::AlreadyExists,
            Some(libc::EACCES | libc::EPERM) => ErrorKind::PermissionDenied,
            Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => ErrorKind::NoSpace,
            Some(libc::EROFS) => ErrorKind::ReadOnly,
            _ => ErrorKind::Io,
        };
        Self {
            kind,
            message: format!("cannot {what} '{}'", path.display()),
            path: Some(path.to_owned()),
            source: Some(source),
        }
    }
}

/// What the system has said, in its words and without the number: "No space left on device".
pub fn cause_text(cause: &std::io::Error) -> String {
    let text = cause.to_string();
    match text.rfind(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}
