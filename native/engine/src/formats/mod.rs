//! Image formats: where a guest's bytes live in a file. Metadata only; payload I/O is `image`'s.

mod foreign;
pub mod image_map;
pub mod raw;
pub mod vhdx;

pub use foreign::foreign_content;
pub use image_map::{Extent, ImageMap, MapError, Mapping, MetaIo, MetaOp};

/// A disk's format. It comes from the file's extension when the disk is attached and is never probed from content a guest can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Raw,
    Vhdx,
}
