//! One open image file: direct I/O where the file system promises it, identity, holes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxFlags};

use crate::disk::{ByteRange, DiskError, ErrorKind, FileSystemId, SECTOR_BYTES};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    ReadOnly,
    ReadWrite,
    /// Must not exist yet: a move never overwrites.
    CreateNew,
}

/// What makes a file this file and no other with the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileIdentity {
    pub device: u64,
    pub inode: u64,
}

/// An open image file. The descriptor is the one the reactor uses, so that locks taken on it live as long as its I/O.
pub struct HostFile {
    file: File,
    path: PathBuf,
    /// Alignment that memory must have, in bytes; 1 when I/O goes through the page cache.
    memory_align: usize,
    direct: bool,
    block_device: bool,
    /// Known since it was opened: asking a file system that hangs would hang, and neither changes while a file is open.
    identity: FileIdentity,
    file_system: FileSystemId,
}

impl HostFile {
    /// Opens through the page cache: formats read their tables into any buffer. [`HostFile::use_direct_io`] follows for the data path.
    pub fn open(path: &Path, mode: OpenMode) -> Result<Self, DiskError> {
        let what = match mode {
            OpenMode::ReadOnly => "open for reading",
            OpenMode::ReadWrite => "open for writing",
            OpenMode::CreateNew => "create",
        };
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_CLOEXEC);
        match mode {
            OpenMode::ReadOnly => {}
            OpenMode::ReadWrite => {
                options.write(true);
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true).mode(0o600);
            }
        }
        let file = options.open(path).map_err(|e| DiskError::io(what, path, e))?;
        let metadata = file.metadata().map_err(|e| DiskError::io("examine", path, e))?;
        let kind = metadata.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            let message = format!("'{}' is neither a regular file nor a block device", path.display());
            return Err(DiskError::new(ErrorKind::InvalidArgument, message).at(path));
        }
        let block_device = kind.is_block_device();
        Ok(Self {
            file,
            path: path.to_owned(),
            memory_align: 1,
            direct: false,
            block_device,
            identity: FileIdentity { device: metadata.dev(), inode: metadata.ino() },
            file_system: FileSystemId(if block_device { metadata.rdev() } else { metadata.dev() }),
        })
    }

    /// From here on O_DIRECT, where offsets in sectors are allowed by the file system (statx DIOALIGN); else the page cache stays.
    /// A file system that promises nothing (btrfs, tmpfs: 0/0) or refuses is used through the page cache.
    pub fn use_direct_io(&mut self) {
        if let Some(align) = self.direct_alignment()
            && set_direct(&self.file).is_ok()
        {
            self.direct = true;
            self.memory_align = align;
        }
    }

    fn direct_alignment(&self) -> Option<usize> {
        let stat = rustix::fs::statx(&self.file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
        let (memory, offset) = (stat.stx_dio_mem_align as usize, u64::from(stat.stx_dio_offset_align));
        (memory > 0 && offset > 0 && offset <= SECTOR_BYTES).then(|| memory.max(1))
    }

    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn memory_align(&self) -> usize {
        self.memory_align
    }

    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// Length in bytes; of a block device its capacity.
    pub fn len(&self) -> Result<u64, DiskError> {
        if self.block_device {
            let end = rustix::fs::seek(&self.file, rustix::fs::SeekFrom::End(0));
            return end.map_err(|e| DiskError::io("measure", &self.path, e.into()));
        }
        Ok(self.file.metadata().map_err(|e| DiskError::io("examine", &self.path, e))?.len())
    }

    pub fn is_empty(&self) -> Result<bool, DiskError> {
        Ok(self.len()? == 0)
    }

    pub fn allocated_bytes(&self) -> Result<u64, DiskError> {
        Ok(self.file.metadata().map_err(|e| DiskError::io("examine", &self.path, e))?.blocks() * 512)
    }

    pub fn identity(&self) -> FileIdentity {
        self.identity
    }

    /// What has to answer for its operations to end.
    pub fn file_system(&self) -> FileSystemId {
        self.file_system
    }
}

/// The next range at or behind `from` that may hold data; `None` when only a hole follows before `end`. Blocking, and it moves
/// the descriptor's file offset: not for the reactor thread, no harm to positioned I/O.
pub fn next_data(file: &File, from: u64, end: u64) -> io::Result<Option<ByteRange>> {
    if from >= end {
        return Ok(None);
    }
    let start = match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(from)) {
        Ok(start) => start,
        Err(rustix::io::Errno::NXIO) => return Ok(None),
        // Block devices and old file systems know no holes: everything may be data.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => {
            return Ok(Some(ByteRange::new(from, end - from)));
        }
        Err(e) => return Err(e.into()),
    };
    if start >= end {
        return Ok(None);
    }
    let stop = match rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(start)) {
        Ok(stop) => stop.min(end),
        Err(_) => end,
    };
    Ok(Some(ByteRange::new(start, stop.max(start + 1) - start)))
}

fn set_direct(file: &File) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    rustix::fs::fcntl_setfl(file, flags | rustix::fs::OFlags::DIRECT)?;
    Ok(())
}
