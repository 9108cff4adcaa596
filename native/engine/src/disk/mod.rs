//! The waist: the words every other part speaks. Imports nothing else of the engine.

mod error;
mod file_system;
mod range;
mod request;

pub use error::{DiskError, Errno, ErrorKind, cause_text};
pub use file_system::FileSystemId;
pub use range::{ByteRange, Geometry, SECTOR_BYTES};
pub use request::{IoVecs, Request, RequestKind};
