//! A second file that says "this move has switched": `<journal>.committed`, beside the journal.
//!
//! The journal alone cannot tell that it is an older copy of itself (a state folder restored from a backup, a snapshot of its file system).
//! Until the host has written its ledger no other record on disk knows of COMMITTED; its witness does:
//!
//! ```text
//!   COMMITTED in both slots ─▶ witness made ─▶ reported, reads flip          a record before COMMITTED again: witness removed ─▶ slots
//!   the end: witness removed ─▶ journal removed
//! ```
//! So at no moment does a witness stand beside a journal that says less than COMMITTED, or beside none: who finds that refuses. A journal
//! at COMMITTED without one was killed in between, and is believed as ever. That the file is there is all it says; its text is for people.

use std::fs::OpenOptions;
use std::io::{ErrorKind as IoErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::disk::DiskError;
use crate::file::{sync_folder_of, unlink_durably};

#[derive(Clone, Debug)]
pub(super) struct Witness {
    path: PathBuf,
    /// It is there, or may be: a change of it has failed half way.
    may_stand: bool,
}

impl Witness {
    pub(super) fn of(journal: &Path) -> Result<Self, DiskError> {
        let path = place_of(journal);
        let may_stand = match path.symlink_metadata() {
            Ok(_) => true,
            Err(error) if error.kind() == IoErrorKind::NotFound => false,
            // A folder that cannot be looked into is no proof that nothing is in it.
            Err(error) => return Err(DiskError::io("look for", &path, error)),
        };
        Ok(Self { path, may_stand })
    }

    pub(super) fn stands(&self) -> bool {
        self.may_stand
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Durable when it returns.
    pub(super) fn set(&mut self) -> Result<(), DiskError> {
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW)
            .open(&self.path);
        let mut file = match made {
            Ok(file) => file,
            // Made before, perhaps not yet durable.
            Err(error) if error.kind() == IoErrorKind::AlreadyExists => return sync_folder_of(&self.path),
            Err(error) => return Err(DiskError::io("make", &self.path, error)),
        };
        self.may_stand = true;
        let text = b"The move whose journal lies beside this file has switched: the destination holds the disks.\n";
        file.write_all(text)
            .and_then(|()| file.sync_all())
            .map_err(|error| DiskError::io("write", &self.path, error))?;
        sync_folder_of(&self.path)
    }

    /// Durable when it returns. No error if it is gone already.
    pub(super) fn clear(&mut self) -> Result<(), DiskError> {
        unlink_durably(&self.path)?;
        self.may_stand = false;
        Ok(())
    }
}

fn place_of(journal: &Path) -> PathBuf {
    let mut name = journal.as_os_str().to_owned();
    name.push(".committed");
    name.into()
}
