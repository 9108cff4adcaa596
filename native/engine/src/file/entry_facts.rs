//! What a file is, asked of its name in an open folder or of its descriptor.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, StatxFlags};

use super::host_file::FileIdentity;

/// An entry of a folder as fstatat(2) sees it: the link itself where it is one.
#[derive(Clone, Copy, Debug)]
pub struct EntryFacts {
    pub identity: FileIdentity,
    /// Nanoseconds since 1970; 0 where the file system keeps no time of birth.
    pub born_ns: u64,
    pub kind: EntryKind,
    pub uid: u32,
    /// Permission bits.
    pub mode: u32,
    pub links: u64,
    pub size: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    File,
    Folder,
    Link,
    BlockDevice,
    Other,
}

pub(super) fn facts_of(
    folder: impl AsFd,
    name: impl rustix::path::Arg,
    flags: AtFlags,
) -> rustix::io::Result<EntryFacts> {
    let found = rustix::fs::statx(folder, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?;
    let has_birth = found.stx_mask & StatxFlags::BTIME.bits() != 0;
    let (seconds, nanoseconds) = (found.stx_btime.tv_sec.max(0).unsigned_abs(), u64::from(found.stx_btime.tv_nsec));
    Ok(EntryFacts {
        identity: FileIdentity {
            device: rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
        },
        born_ns: if has_birth { seconds * 1_000_000_000 + nanoseconds } else { 0 },
        kind: match FileType::from_raw_mode(u32::from(found.stx_mode)) {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Folder,
            FileType::Symlink => EntryKind::Link,
            FileType::BlockDevice => EntryKind::BlockDevice,
            _ => EntryKind::Other,
        },
        uid: found.stx_uid,
        mode: u32::from(found.stx_mode) & 0o7777,
        links: u64::from(found.stx_nlink),
        size: found.stx_size,
    })
}

/// Of an open file: the same as of its entry.
pub fn facts_of_file(file: &File) -> io::Result<EntryFacts> {
    Ok(facts_of(file, c"", AtFlags::EMPTY_PATH)?)
}
