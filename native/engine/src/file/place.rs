//! Where a file is, in a way that does not lead elsewhere later: its name in a folder that is held, and which file it has to be.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use super::entry_facts::EntryFacts;
use super::held_folder::{HeldFolder, Removed};
use super::host_file::FileIdentity;
use super::trust::Trust;
use crate::disk::{DiskError, ErrorKind};

#[derive(Debug)]
pub struct Place {
    folder: Arc<HeldFolder>,
    name: OsString,
    facts: EntryFacts,
}

impl Place {
    pub(super) fn new(folder: HeldFolder, name: OsString, facts: EntryFacts) -> Self {
        Self { folder: Arc::new(folder), name, facts }
    }

    /// What has the name in that folder now.
    pub fn in_folder(folder: &Arc<HeldFolder>, name: &OsStr) -> Result<Option<Self>, DiskError> {
        let found = folder.entry(name)?;
        Ok(found.map(|facts| Self { folder: Arc::clone(folder), name: name.to_owned(), facts }))
    }

    /// What is at `path` now, the link itself where it is one; `None` when nothing is, or no folder leads there.
    pub fn find(path: &Path, trust: Trust) -> Result<Option<Self>, DiskError> {
        let (folder, name) = match HeldFolder::walk_to_place(path, trust) {
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        Self::in_folder(&Arc::new(folder), &name)
    }

    /// As it was when the place was found.
    pub fn facts(&self) -> &EntryFacts {
        &self.facts
    }

    pub fn identity(&self) -> FileIdentity {
        self.facts.identity
    }

    /// Of the folder that is held: what a thread with a table of its own has to keep.
    pub fn folder_descriptor(&self) -> RawFd {
        self.folder.as_fd().as_raw_fd()
    }

    /// For one that was found by a thread with a table of its own: goes on by `folder`, which is the same open folder. Nothing is closed.
    pub fn adopt(&mut self, folder: OwnedFd) {
        // Its thread is gone, and with it whoever shared the folder.
        if let Some(held) = Arc::get_mut(&mut self.folder) {
            held.adopt(folder);
        }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path_of(&self.name)
    }

    /// Whether it is still the file that has the name.
    pub fn is_held(&self) -> Result<bool, DiskError> {
        Ok(self.folder.entry(&self.name)?.is_some_and(|found| found.identity == self.facts.identity))
    }

    /// The very file, open for writing; `None` when it cannot be, or is another one by now.
    pub(super) fn open(&self) -> Option<File> {
        let file = self.folder.open(&self.name, OFlags::RDWR).ok()?;
        let found = super::entry_facts::facts_of_file(&file).ok()?;
        (found.identity == self.facts.identity).then_some(file)
    }

    /// Durable when it returns. What has the name instead is left alone.
    pub fn remove(&self) -> Result<Removed, DiskError> {
        self.folder.unlink(&self.name, self.facts.identity)
    }

    /// Makes the name durable.
    pub fn sync(&self) -> Result<(), DiskError> {
        self.folder.sync()
    }
}
