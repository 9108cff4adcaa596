//! One image at work: a file, its map, and the requests in flight on it.

mod buffer;
mod executor;
mod iovecs;
mod open;
mod open_apart;
mod pieces;
mod reader;
mod slots;

pub use buffer::{AlignedBuffer, BufferPool};
pub use executor::{Finished, Image, ImageOp};
pub use iovecs::{copy_from_iovecs, copy_to_iovecs};
pub use open::{
    CreateImage, ImageFacts, ImageKind, NewImage, OpenImage, create_image, inspect_file, inspect_image, make_image,
    open_image,
};
pub use open_apart::opened_apart;
pub use pieces::Pieces;
pub use reader::ImageReader;
pub use slots::Slots;
