//! What threads that look for data and for holes get of a moving disk's maps: a page at a time, so that no disk is too large.

use std::fs::File;
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt;

use super::turn::Service;
use crate::disk::ByteRange;
use crate::file::FileIdentity;
use crate::image::{Image, Pieces};
use crate::mirror::{Event, HOLE_BYTES_MAX};

/// One side of a page.
pub struct SidePage {
    /// Of this process's own table, while the move lasts.
    descriptor: RawFd,
    identity: FileIdentity,
    pub pieces: Pieces,
}

impl SidePage {
    fn of(image: &Image, from: u64) -> Self {
        let file = image.file();
        Self { descriptor: file.fd(), identity: file.identity(), pieces: image.pieces(from) }
    }

    /// Opens the file anew, for reading and without its locks: the look may outlive the move, and whoever is kept in the kernel by it keeps
    /// no lock. Blocking.
    pub fn look(&self) -> std::io::Result<Look<'_>> {
        let file = File::open(format!("/proc/self/fd/{}", self.descriptor))?;
        let found = file.metadata()?;
        if (FileIdentity { device: found.dev(), inode: found.ino() }) != self.identity {
            return Err(std::io::Error::other("the move is over, and the number is another file's"));
        }
        Ok(Look { file, pieces: &self.pieces })
    }
}

/// A page with its file open.
pub struct Look<'a> {
    file: File,
    pieces: &'a Pieces,
}

impl Look<'_> {
    /// The next range at or behind `from` that may hold data. Blocking.
    pub fn next_data(&self, from: u64) -> std::io::Result<Option<ByteRange>> {
        self.pieces.next_data(&self.file, from)
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
