//! The digest of an image at rest, computed as a move's receipt computes it.

use std::path::Path;

use crate::disk::DiskError;
use crate::formats::Format;
use crate::image::ImageReader;
use crate::mirror::VERIFY_UNIT_BYTES;
use crate::service::{digest, hash_unit};

/// (digest, guest bytes)
pub fn hash_image(path: &Path, format: Format) -> Result<(u128, u64), DiskError> {
    let reader = ImageReader::open(path, format)?;
    let size = reader.geometry().size_bytes;
    let mut buffer = vec![0u8; VERIFY_UNIT_BYTES as usize];
    let mut hashes = Vec::new();
    let mut at = 0;
    while at < size {
        let len = VERIFY_UNIT_BYTES.min(size - at) as usize;
        reader.read(at, &mut buffer[..len])?;
        hashes.push(hash_unit(&buffer[..len]));
        at += len as u64;
    }
    Ok((digest(hashes.into_iter()), size))
}
