//! What threads that look for data and for holes get of a moving disk's maps: a page at a time, so that no disk is too large.

use std::fs::File;
use std::path::PathBuf;

use super::turn::Service;
use crate::disk::ByteRange;
use crate::image::{Image, Pieces};
use crate::mirror::{Event, HOLE_BYTES_MAX};

/// One side of a page. The descriptor is a duplicate: the look may outlive the move.
pub struct SidePage {
    /// An error when no descriptor is to be had: then everything may be data, for the move waits until every disk is known.
    pub file: std::io::Result<File>,
    pub path: PathBuf,
    pub pieces: Pieces,
}

impl SidePage {
    fn of(image: &Image, from: u64) -> Self {
        let file = image.file();
        Self { file: file.file().try_clone(), path: file.path().to_owned(), pieces: image.pieces(from) }
    }

    /// The next range at or behind `from` that may hold data. Blocking.
    pub fn next_data(&self, from: u64) -> std::io::Result<Option<ByteRange>> {
        let file = self.file.as_ref().map_err(|e| std::io::Error::from(e.kind()))?;
        self.pieces.next_data(file, from)
    }
}

/// Both sides of a page.
pub struct PagePair {
    pub range: ByteRange,
    pub source: SidePage,
    pub target: SidePage,
}

impl Service {
    /// Disks of a move; none when it is over.
    pub fn members(&self, driver: u32) -> u32 {
        self.drivers.get(driver).map_or(0, |driver| driver.members.len() as u32)
    }

    /// The page of a source that begins at the byte `from`; `None` behind its end, and when the move is over.
    pub fn source_page(&self, driver: u32, member: u32, from: u64) -> Option<SidePage> {
        let source = self.drivers.get(driver)?.members.get(member as usize)?.source;
        let image = self.images.get(source)?;
        (from < image.geometry().size_bytes).then(|| SidePage::of(image, from))
    }

    pub fn page_pair(&self, driver: u32, member: u32, from: u64) -> Option<PagePair> {
        let source = self.source_page(driver, member, from)?;
        let target = self.drivers.get(driver)?.members.get(member as usize)?.target;
        let target = SidePage::of(self.images.get(target)?, from);
        let len = source.pieces.range.len.min(target.pieces.range.len).min(HOLE_BYTES_MAX);
        Some(PagePair { range: ByteRange::new(from, len), source, target })
    }

    /// The answer to `Notice::FindHoles`.
    pub fn holes_found(&mut self, driver: u32, member: u32, holes: &[ByteRange], until: u64) {
        for range in holes {
            self.drive(driver, Event::Hole { disk: member, range: *range });
        }
        self.move_event(driver, Event::HolesKnown { disk: member, until });
    }
}
