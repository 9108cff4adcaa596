//! A folder that was walked to once (walk.rs) and is used through its descriptor from then on. A path is a question that others can answer
//! differently the next time it is asked; a descriptor is not.
//!
//! Whoever may write to a held folder may still exchange the names in it, between a look at one and what is done with it. Where the
//! folder passes the rule that is root, the process's own user or the machine's owner, and with an entry of a folder that he can write to
//! the last one gets nothing done that he could not do himself: a name there is removed or replaced, nothing behind it is followed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use super::entry_facts::{EntryFacts, facts_of};
use super::host_file::FileIdentity;
use super::trust::{Hold, Trust, unsafe_folder, user_name};
use super::walk::{Last, Step, Walk};
use crate::disk::{DiskError, ErrorKind};

const NEW_FILE: OFlags = OFlags::RDWR
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

/// An open folder that passed the rule. Everything is by descriptor; the path is for messages.
#[derive(Debug)]
pub struct HeldFolder {
    folder: OwnedFd,
    path: PathBuf,
    hold: Hold,
    trust: Trust,
}

/// What became of a name that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    Yes,
    NothingThere,
    /// Something else has the name by now; it was left alone.
    NotThatFile,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// Whatever has the name loses it.
    Yes,
    /// `AlreadyExists` if something has the name.
    No,
}

impl HeldFolder {
    /// Walks to the folder at `path`.
    pub fn walk(path: &Path, trust: Trust) -> Result<Self, DiskError> {
        match Walk::start(path, trust)?.follow(path, Last::Folder)? {
            (walk, None) => Self::holding(walk, trust),
            (_, Some(_)) => Err(DiskError::io("open", path, Errno::NOTDIR.into())),
        }
    }

    /// Walks to the folder that holds what `path` names, and the name in it. A last component that is a link is followed as the others
    /// are: only if it is root's. What is there need not exist.
    pub fn walk_to_entry(path: &Path, trust: Trust) -> Result<(Self, OsString), DiskError> {
        match Walk::start(path, trust)?.follow(path, Last::Entry)? {
            (walk, Some(name)) => Ok((Self::holding(walk, trust)?, name)),
            (_, None) => {
                Err(DiskError::new(ErrorKind::InvalidArgument, format!("'{}' is a directory", path.display())).at(path))
            }
        }
    }

    /// The folder for a new name: the last component is not looked at.
    pub fn walk_to_place(path: &Path, trust: Trust) -> Result<(Self, OsString), DiskError> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            let message = format!("'{}' names no file", path.display());
            return Err(DiskError::new(ErrorKind::InvalidArgument, message).at(path));
        };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        Ok((Self::walk(folder, trust)?, name.to_owned()))
    }

    fn holding(walk: Walk, trust: Trust) -> Result<Self, DiskError> {
        let Step { folder, path, hold } = walk.end()?;
        Ok(Self { folder, path, hold, trust })
    }

    /// With links resolved, as it was walked.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn path_of(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }

    pub fn facts(&self) -> Result<EntryFacts, DiskError> {
        facts_of(&self.folder, c"", AtFlags::EMPTY_PATH).map_err(|e| DiskError::io("examine", &self.path, e.into()))
    }

    /// What has the name; `None` when nothing has.
    pub fn entry(&self, name: &OsStr) -> Result<Option<EntryFacts>, DiskError> {
        self.check_name(name)?;
        match facts_of(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(facts) => Ok(Some(facts)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(self.error("examine", name, e)),
        }
    }

    /// A folder in this one.
    pub fn enter(&self, name: &OsStr) -> Result<Self, DiskError> {
        self.check_name(name)?;
        let here = Step { folder: self.again()?, path: self.path.clone(), hold: self.hold };
        let mut walk = Walk::from(here, self.trust);
        match walk.step(name, Last::Folder)? {
            Some(_) => Err(self.error("open", name, Errno::NOTDIR)),
            None => Self::holding(walk, self.trust),
        }
    }

    /// Makes a folder, 0700; false when the name is taken.
    pub fn make_folder(&self, name: &OsStr) -> Result<bool, DiskError> {
        self.check_name(name)?;
        match rustix::fs::mkdirat(&self.folder, name, Mode::RWXU) {
            Ok(()) => self.sync().map(|()| true),
            Err(Errno::EXIST) => Ok(false),
            Err(e) => Err(self.error("make the folder", name, e)),
        }
    }

    /// A new file, 0600, open for reading and writing. The descriptor is the file's owner from here on: nobody opens it by name again.
    pub fn create(&self, name: &OsStr) -> Result<File, DiskError> {
        self.check_name(name)?;
        let file = rustix::fs::openat(&self.folder, name, NEW_FILE, Mode::RUSR | Mode::WUSR)
            .map_err(|e| self.error("create", name, e))?;
        unblock(&file).map_err(|e| self.error("create", name, e))?;
        Ok(File::from(file))
    }

    /// What has the name, neither followed nor waited for: the kind is the caller's to look at, before it goes on with it. `flags`: how.
    pub fn open(&self, name: &OsStr, flags: OFlags) -> Result<File, DiskError> {
        self.check_name(name)?;
        let file = self.try_open(name, flags).map_err(|e| self.error("open", name, e))?;
        self.check_owner(name, &file)?;
        Ok(file)
    }

    /// The same without words of its own; [`HeldFolder::check_owner`] is left to do.
    pub(super) fn try_open(&self, name: &OsStr, flags: OFlags) -> rustix::io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.folder, name, flags, Mode::empty())?;
        unblock(&file)?;
        Ok(File::from(file))
    }

    /// In a folder where others make names too, only what is of those who are trusted is theirs alone.
    pub(super) fn check_owner(&self, name: &OsStr, file: &File) -> Result<(), DiskError> {
        if self.hold == Hold::Firm {
            return Ok(());
        }
        let stat = rustix::fs::fstat(file).map_err(|e| self.error("examine", name, e))?;
        if self.trust.has(stat.st_uid) {
            return Ok(());
        }
        Err(unsafe_folder(
            &self.path,
            &self.stat()?,
            &format!("every user can write to it, and '{}' in it is of {}", name.display(), user_name(stat.st_uid)),
        ))
    }

    /// Removes the name if it is that very file's. Between the look and the removal only those can exchange the name who may write here
    /// (see above).
    pub fn unlink(&self, name: &OsStr, identity: FileIdentity) -> Result<Removed, DiskError> {
        match self.entry(name)? {
            None => return Ok(Removed::NothingThere),
            Some(found) if found.identity != identity => return Ok(Removed::NotThatFile),
            Some(_) => {}
        }
        match rustix::fs::unlinkat(&self.folder, name, AtFlags::empty()) {
            Ok(()) => self.sync().map(|()| Removed::Yes),
            Err(Errno::NOENT) => Ok(Removed::NothingThere),
            Err(e) => Err(self.error("remove", name, e)),
        }
    }

    /// Removes a folder in this one if it is empty; false when it is not, or is something else.
    pub fn remove_folder(&self, name: &OsStr) -> Result<bool, DiskError> {
        self.check_name(name)?;
        match rustix::fs::unlinkat(&self.folder, name, AtFlags::REMOVEDIR) {
            Ok(()) => self.sync().map(|()| true),
            Err(Errno::NOENT) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => Ok(false),
            Err(e) => Err(self.error("remove the folder", name, e)),
        }
    }

    /// Gives a file of this folder another name in it, durably.
    pub fn rename(&self, from: &OsStr, to: &OsStr, replace: Replace) -> Result<(), DiskError> {
        self.check_name(from)?;
        self.check_name(to)?;
        let renamed = match replace {
            Replace::Yes => rustix::fs::renameat(&self.folder, from, &self.folder, to),
            Replace::No => self.rename_exclusively(from, to),
        };
        renamed.map_err(|e| self.error("rename to", to, e))?;
        self.sync()
    }

    fn rename_exclusively(&self, from: &OsStr, to: &OsStr) -> rustix::io::Result<()> {
        match rustix::fs::renameat_with(&self.folder, from, &self.folder, to, RenameFlags::NOREPLACE) {
            // NFS has no such rename. A second name fails just as well where there is one already, and the first one goes.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                match rustix::fs::linkat(&self.folder, from, &self.folder, to, AtFlags::empty()) {
                    // Nor has it links (vfat, some FUSE): nobody else makes names here, so a look is enough.
                    Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => {
                        match facts_of(&self.folder, to, AtFlags::SYMLINK_NOFOLLOW) {
                            Ok(_) => Err(Errno::EXIST),
                            Err(Errno::NOENT) => rustix::fs::renameat(&self.folder, from, &self.folder, to),
                            Err(e) => Err(e),
                        }
                    }
                    Err(e) => Err(e),
                    Ok(()) => rustix::fs::unlinkat(&self.folder, from, AtFlags::empty()),
                }
            }
            other => other,
        }
    }

    /// Names in this folder that begin with `prefix`.
    pub fn names(&self, prefix: &[u8]) -> Result<Vec<OsString>, DiskError> {
        let failed = |e: Errno| DiskError::io("list", &self.path, e.into());
        let mut found = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.again_to_read().map_err(failed)?).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if name.starts_with(prefix) && name != b"." && name != b".." {
                found.push(OsStr::from_bytes(name).to_owned());
            }
        }
        Ok(found)
    }

    /// fsync: after it a creation, a rename or a removal in this folder is durable. Some file systems refuse it because names are durable
    /// at once.
    pub fn sync(&self) -> Result<(), DiskError> {
        let synced = self.again_to_read().and_then(|folder| match rustix::fs::fsync(&folder) {
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
            other => other,
        });
        synced.map_err(|e| DiskError::io("sync folder", &self.path, e.into()))
    }

    fn again(&self) -> Result<OwnedFd, DiskError> {
        self.folder.try_clone().map_err(|e| DiskError::io("open", &self.path, e))
    }

    /// The descriptor that is held cannot be read or synced.
    fn again_to_read(&self) -> rustix::io::Result<OwnedFd> {
        rustix::fs::openat(&self.folder, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    }

    /// As [`HostFile::adopt`](super::HostFile::adopt).
    pub(super) fn adopt(&mut self, descriptor: OwnedFd) {
        let _of_another_table = std::mem::replace(&mut self.folder, descriptor).into_raw_fd();
    }

    fn stat(&self) -> Result<Stat, DiskError> {
        rustix::fs::fstat(&self.folder).map_err(|e| DiskError::io("examine", &self.path, e.into()))
    }

    fn check_name(&self, name: &OsStr) -> Result<(), DiskError> {
        let mut parts = Path::new(name).components();
        if matches!((parts.next(), parts.next()), (Some(Component::Normal(only)), None) if only == name) {
            return Ok(());
        }
        let message = format!("'{}' is not the name of one entry of a folder", name.display());
        Err(DiskError::new(ErrorKind::InvalidArgument, message).at(&self.path))
    }

    fn error(&self, what: &str, name: &OsStr, errno: Errno) -> DiskError {
        let path = self.path_of(name);
        if errno == Errno::LOOP {
            let message = format!("'{}' is a symbolic link, which is not followed", path.display());
            return DiskError::new(ErrorKind::UnsafeFolder, message).at(&path);
        }
        DiskError::io(what, &path, errno.into())
    }
}

/// O_NONBLOCK was for the open alone: io_uring would give up on a request that has to wait.
fn unblock(file: &OwnedFd) -> rustix::io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    rustix::fs::fcntl_setfl(file, flags.difference(OFlags::NONBLOCK))
}

impl AsFd for HeldFolder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

#[cfg(test)]
#[path = "held_folder_tests.rs"]
mod tests;
