//! Files as the engine sees them.

mod at;

pub use at::{ReadAt, WriteAt};
