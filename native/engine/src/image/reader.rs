//! Reads an image's guest content with plain reads, without locking or changing it: for hashes, comparisons and tests.

use std::path::Path;

use super::open::map_of;
use super::pieces::Pieces;
use crate::disk::{ByteRange, DiskError, Geometry};
use crate::file::{HostFile, OpenMode, ReadAt, Trust};
use crate::formats::vhdx::Overlay;
use crate::formats::{Extent, Format, ImageMap};

pub struct ImageReader {
    file: std::fs::File,
    path: std::path::PathBuf,
    map: Box<dyn ImageMap>,
    overlay: Overlay,
}

impl ImageReader {
    /// A dirty VHDX log is replayed in memory.
    pub fn open(path: &Path, format: Format) -> Result<Self, DiskError> {
        let (map, overlay) = map_of(&HostFile::open(path, OpenMode::Examine, Trust::Anybody)?, format, false)?;
        // A descriptor of its own, without direct I/O: any buffer will do.
        let file = std::fs::File::open(path).map_err(|e| DiskError::io("open", path, e))?;
        Ok(Self { file, path: path.to_owned(), map, overlay })
    }

    pub fn geometry(&self) -> Geometry {
        self.map.geometry()
    }

    /// The next range at or behind `from` that may hold data, by the map and the file's holes; `None` when only zeros follow.
    pub fn next_data(&self, from: u64) -> Result<Option<ByteRange>, DiskError> {
        let mut at = from;
        while at < self.geometry().size_bytes {
            let page = Pieces::of(self.map.as_ref(), at, !self.overlay.is_empty());
            let found =
                page.next_data(&self.file, at).map_err(|e| DiskError::io("look for holes in", &self.path, e))?;
            if found.is_some() {
                return Ok(found);
            }
            at = page.range.end();
        }
        Ok(None)
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
                    self.read_file(at, piece)?;
                    self.overlay.apply(at, piece);
                }
            }
            rest = behind;
        }
        Ok(())
    }

    /// Behind the end of the file (a replayed log may lengthen it) there are zeros.
    fn read_file(&self, at: u64, piece: &mut [u8]) -> Result<(), DiskError> {
        let failed = |e| DiskError::io("read", &self.path, e);
        let there = self.file.len().map_err(failed)?.saturating_sub(at).min(piece.len() as u64) as usize;
        let short = at + piece.len() as u64 <= self.overlay.file_len();
        if there < piece.len() && !short {
            return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
        }
        self.file.read_exact_at(&mut piece[..there], at).map_err(failed)?;
        piece[there..].fill(0);
        Ok(())
    }
}
