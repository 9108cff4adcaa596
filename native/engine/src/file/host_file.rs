//! One open image file: direct I/O where the file system promises it, identity, holes.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, OFlags, StatxFlags};

use super::entry_facts::{EntryKind, facts_of_file};
use super::held_folder::HeldFolder;
use super::place::Place;
use super::trust::Trust;
use super::users::Users;
use crate::disk::{ByteRange, DiskError, ErrorKind, FileSystemId, SECTOR_BYTES};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// To look at it, whoever uses it.
    Examine,
    ReadOnly,
    ReadWrite,
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
    /// The way to the file is walked once, through folders of those who are trusted (held_folder.rs).
    ///
    /// A block device is opened exclusively, for reading too: the kernel gives one that is mounted, swap, part of another device or whose
    /// partition is, to nobody else (`Locked`, with who has it). Writing to it would destroy what is on it, and reading gives an image of
    /// many moments. The claim lives as long as the descriptor.
    pub fn open(path: &Path, mode: OpenMode, trust: Trust) -> Result<Self, DiskError> {
        let what = match mode {
            OpenMode::Examine | OpenMode::ReadOnly => "open for reading",
            OpenMode::ReadWrite => "open for writing",
        };
        let (folder, name) = HeldFolder::walk_to_entry(path, trust)?;
        let before = folder.entry(&name)?;
        let before = before.ok_or_else(|| DiskError::io(what, path, io::Error::from_raw_os_error(libc::ENOENT)))?;
        // Before the open: that of a device may do something to it.
        refuse_other_kinds(before.kind, path)?;
        // Without O_CREAT, O_EXCL has a meaning for block devices only (open(2)).
        let claims = mode != OpenMode::Examine && before.kind == EntryKind::BlockDevice;
        let rights = if mode == OpenMode::ReadWrite { OFlags::RDWR } else { OFlags::RDONLY };
        let file = folder.try_open(&name, if claims { rights | OFlags::EXCL } else { rights }).map_err(|e| {
            if claims { not_claimed(what, path, e.into()) } else { DiskError::io(what, path, e.into()) }
        })?;
        folder.check_owner(&name, &file)?;
        let opened = Self::over(file, path)?;
        if opened.identity != before.identity {
            let message = format!("'{}' became another file while it was opened", path.display());
            return Err(DiskError::new(ErrorKind::InvalidState, message).at(path));
        }
        Ok(opened)
    }

    /// Makes a file that must not exist yet (a move never overwrites), and says where it is.
    pub fn create(path: &Path, trust: Trust) -> Result<(Self, Place), DiskError> {
        let (folder, name) = HeldFolder::walk_to_place(path, trust)?;
        let file = folder.create(&name)?;
        let facts = facts_of_file(&file).map_err(|e| DiskError::io("examine", path, e))?;
        Ok((Self::over(file, path)?, Place::new(folder, name, facts)))
    }

    fn over(file: File, path: &Path) -> Result<Self, DiskError> {
        let metadata = file.metadata().map_err(|e| DiskError::io("examine", path, e))?;
        let block_device = metadata.file_type().is_block_device();
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

    /// For one that was opened by a thread with a descriptor table of its own: goes on by `descriptor`, which is one of the same open file.
    /// The number that the file had there means nothing here, so nothing is closed.
    pub fn adopt(&mut self, descriptor: OwnedFd) {
        let _of_another_table = std::mem::replace(&mut self.file, File::from(descriptor)).into_raw_fd();
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

fn refuse_other_kinds(kind: EntryKind, path: &Path) -> Result<(), DiskError> {
    let what = match kind {
        EntryKind::File | EntryKind::BlockDevice => return Ok(()),
        EntryKind::Folder => "a directory",
        EntryKind::Link | EntryKind::Other => "neither a regular file nor a block device",
    };
    Err(DiskError::new(ErrorKind::InvalidArgument, format!("'{}' is {what}", path.display())).at(path))
}

/// A device that we may not open for want of rights is also told of as in use if it is: that is the better reason.
fn not_claimed(what: &str, path: &Path, cause: io::Error) -> DiskError {
    let device = std::fs::metadata(path).map_or(0, |found| found.rdev());
    let who = match Users::default().of_device(device) {
        Some(who) => format!("it is {who}"),
        None if cause.raw_os_error() == Some(libc::EBUSY) => {
            "the kernel or another program has it (lsblk and fuser may say more)".to_owned()
        }
        None => return DiskError::io(what, path, cause),
    };
    // Who has it is the cause; what open(2) says of it (EBUSY, EPERM) says less.
    DiskError::new(ErrorKind::Locked, format!("the block device '{}' is in use: {who}", path.display())).at(path)
}

/// Refuses (`Locked`) a disk that the kernel or another program works on at this moment, and says who: a block device that cannot be had
/// exclusively, a file that a loop device or swap uses. Locks on image files are asked for when they are opened to be served.
pub fn refuse_in_use(path: &Path) -> Result<(), DiskError> {
    let file = HostFile::open(path, OpenMode::ReadOnly, Trust::Anybody)?;
    if file.block_device {
        return Ok(());
    }
    match Users::default().of_file(file.identity()) {
        None => Ok(()),
        Some(who) => {
            let message = format!("the file '{}' is in use: it is {who}", path.display());
            Err(DiskError::new(ErrorKind::Locked, message).at(path))
        }
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
