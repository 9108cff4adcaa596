//! Reads an image's guest content with plain reads, without locking or changing it: for hashes, comparisons and tests.

use std::os::unix::fs::FileExt;
use std::path::Path;

use super::open::read_only_map;
use crate::disk::{ByteRange, DiskError, Geometry};
use crate::file::{HostFile, OpenMode};
use crate::formats::{Extent, Format, ImageMap};

pub struct ImageReader {
    file: std::fs::File,
    path: std::path::PathBuf,
    map: Box<dyn ImageMap>,
    overlay: Vec<(u64, Vec<u8>)>,
}

impl ImageReader {
    /// A dirty VHDX log is replayed in memory.
    pub fn open(path: &Path, format: Format) -> Result<Self, DiskError> {
        let (map, overlay) = read_only_map(&HostFile::open(path, OpenMode::ReadOnly)?, format)?;
        // A descriptor of its own, without direct I/O: any buffer will do.
        let file = std::fs::File::open(path).map_err(|e| DiskError::io("open", path, e))?;
        Ok(Self { file, path: path.to_owned(), map, overlay })
    }

    pub fn geometry(&self) -> Geometry {
        self.map.geometry()
    }

    /// Fills `buffer` with the guest's bytes from `offset` on; the range lies inside the disk.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let mut extents = Vec::new();
        self.map.map_read(ByteRange::new(offset, buffer.len() as u64), &mut extents);
        let mut rest = buffer;
        for extent in extents {
            let (len, place) = match extent {
                Extent::Zero { len } => (len as usize, None),
                Extent::Data { file_offset, len } => (len as usize, Some(file_offset)),
            };
            let (piece, behind) = rest.split_at_mut(len);
            match place {
                None => piece.fill(0),
                Some(at) => {
                    self.file.read_exact_at(piece, at).map_err(|e| DiskError::io("read", &self.path, e))?;
                    self.patch(at, piece);
                }
            }
            rest = behind;
        }
        Ok(())
    }

    fn patch(&self, at: u64, piece: &mut [u8]) {
        let range = ByteRange::new(at, piece.len() as u64);
        for (offset, bytes) in &self.overlay {
            if let Some(common) = ByteRange::new(*offset, bytes.len() as u64).intersection(&range) {
                let from = &bytes[(common.start - offset) as usize..][..common.len as usize];
                piece[(common.start - at) as usize..][..from.len()].copy_from_slice(from);
            }
        }
    }
}
