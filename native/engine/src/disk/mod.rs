//! The waist: the words every other part speaks. Imports nothing else of the engine.

mod error;
mod range;
mod request;

pub use error::{DiskError, Errno, ErrorKind};
pub use range::{ByteRange, Geometry, SECTOR_BYTES};
pub use request::{IoVecs, Request, RequestKind};
