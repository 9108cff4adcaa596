//! The digest of an image at rest, computed as a move's receipt computes it.

use std::path::Path;

use crate::disk::{ByteRange, DiskError};
use crate::formats::Format;
use crate::image::ImageReader;
use crate::mirror::VERIFY_UNIT_BYTES;
use crate::service::{UnitHashes, hash_unit};

/// (digest, guest bytes). Holes are not read: they are zeros.
pub fn hash_image(path: &Path, format: Format) -> Result<(u128, u64), DiskError> {
    let reader = ImageReader::open(path, format)?;
    let size = reader.geometry().size_bytes;
    let mut buffer = vec![0u8; VERIFY_UNIT_BYTES as usize];
    let mut hashes = UnitHashes::new(size);
    let mut at = 0;
    while let Some(data) = reader.next_data(at)? {
        let start = data.start / VERIFY_UNIT_BYTES * VERIFY_UNIT_BYTES;
        let range = ByteRange::new(start, VERIFY_UNIT_BYTES.min(size - start));
        let unit = &mut buffer[..range.len as usize];
        reader.read(range.start, unit)?;
        hashes.verified(range, hash_unit(unit));
        at = range.end();
    }
    Ok((hashes.digest(), size))
}
