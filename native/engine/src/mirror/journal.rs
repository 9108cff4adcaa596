//! The journal of one move: its plan and its phase. In the state folder, never on the destination; what differs between the sides is in
//! its marks (`marks.rs`), in memory.
//!
//! It outlives the power: records are synced, each in both slots (`journal_layout.rs`). While it is open the file is locked (flock), by the
//! description that the writer shares.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, RenameFlags};
use zerocopy::IntoBytes;

use super::disk_state::DiskSetup;
use super::journal_layout::*;
use super::journal_writer::JournalWriter;
use super::marks::{Marks, MarksFound};
use super::revocation::Revocation;
use super::vocabulary::{JournalPhase, Side};
use super::witness::Witness;
use crate::disk::{DiskError, ErrorKind};

/// Where the record of a move is: what has to survive a power cut, and what only a kill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalPlace {
    pub journal: PathBuf,
    /// In a folder in memory that holds nothing but marks.
    pub marks: PathBuf,
}

/// With the marks beside the journal: for tests, and where there is no folder in memory.
impl From<&Path> for JournalPlace {
    fn from(journal: &Path) -> Self {
        let mut marks = journal.as_os_str().to_owned();
        marks.push(".marks");
        Self { journal: journal.to_owned(), marks: marks.into() }
    }
}

impl From<&JournalPlace> for JournalPlace {
    fn from(place: &JournalPlace) -> Self {
        place.clone()
    }
}

impl From<&PathBuf> for JournalPlace {
    fn from(journal: &PathBuf) -> Self {
        journal.as_path().into()
    }
}

/// An open journal. Its marks stay mapped as long as any word of them lives.
pub struct Journal {
    path: PathBuf,
    facts: Facts,
    plan: Vec<u8>,
    marks: Option<Marks>,
}

impl Journal {
    /// Makes the journal of a new move, in phase `Started`, and returns when it and its name are durable.
    /// `disk_bytes`: guest bytes of each disk.
    ///
    /// It appears under its path complete or not at all. Refused: a file that is there already (`AlreadyExists`), too
    /// many disks or too large a plan (`InvalidArgument`); no space is found out here and not later (`NoSpace`).
    pub fn create(
        place: impl Into<JournalPlace>,
        plan: &[u8],
        disk_bytes: &[u64],
        boot_id: [u8; 16],
    ) -> Result<(Journal, JournalWriter), DiskError> {
        let place = place.into();
        let path = place.journal.as_path();
        let refuse = |what: &str| DiskError::new(ErrorKind::InvalidArgument, format!("cannot keep a journal: {what}"));
        if disk_bytes.len() > JOURNAL_DISKS_MAX {
            return Err(refuse("a move has at most 256 disks").at(path));
        }
        if disk_bytes.iter().any(|size| *size > JOURNAL_DISK_BYTES_MAX) {
            return Err(refuse("a disk has at most 64 TiB").at(path));
        }
        if plan.len() as u64 > JOURNAL_PLAN_MAX {
            return Err(refuse("its plan is larger than 16 MiB").at(path));
        }
        if path.symlink_metadata().is_ok() {
            // Its marks are not to be replaced.
            let message = format!("there is a journal '{}' already", path.display());
            return Err(DiskError::new(ErrorKind::AlreadyExists, message).at(path));
        }
        let witness = Witness::of(path)?;
        if witness.stands() {
            return Err(missing_beside(path, &witness));
        }
        let facts = Facts {
            sequence: 1,
            phase: JournalPhase::Started,
            boot_id,
            plan_bytes: plan.len() as u64,
            plan_checksum: crc32c(plan),
            disk_bytes: disk_bytes.to_vec(),
            id: uuid::Uuid::new_v4().into_bytes(),
        };
        let draft = draft_of(path);
        // One that was left behind was never a journal.
        match std::fs::remove_file(&draft) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(DiskError::io("remove the unfinished journal", &draft, error));
            }
            _ => {}
        }
        let marks = Marks::create(&place.marks, facts.id, boot_id, disk_bytes)?;
        let made = write_new(&draft, path, plan, &facts).and_then(|file| {
            rustix::fs::renameat_with(rustix::fs::CWD, &draft, rustix::fs::CWD, path, RenameFlags::NOREPLACE)
                .map_err(|errno| DiskError::io("create the journal", path, errno.into()))?;
            sync_folder(path).inspect_err(|_| drop(std::fs::remove_file(path)))?;
            Ok(file)
        });
        let file = made.inspect_err(|_| {
            // The error that counts is the one above.
            drop((std::fs::remove_file(&draft), Marks::remove(&place.marks)));
        })?;
        marks.recorded(facts.sequence);
        let writer = JournalWriter {
            file,
            path: path.to_owned(),
            facts: facts.clone(),
            slot: 0,
            marks: Some(marks.clone()),
            witness,
        };
        Ok((Journal { path: path.to_owned(), facts, plan: plan.to_vec(), marks: Some(marks) }, writer))
    }

    /// Opens a journal that was left behind. What it says is durable in both slots when this returns: a record that was only in the page
    /// cache, or in one slot, must not be acted upon and then be lost.
    ///
    /// `Locked`: its move still runs (or its process is still dying). `Corrupt`: names the rule that is broken.
    /// `Unsupported`: by a newer version.
    pub fn open(place: impl Into<JournalPlace>) -> Result<(Journal, JournalWriter), DiskError> {
        let place = place.into();
        let path = place.journal.as_path();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW)
            .open(path)
            .map_err(|error| DiskError::io("open the journal", path, error))?;
        lock(&file, path)?;
        file.sync_data().map_err(|error| DiskError::io("sync the journal", path, error))?;
        let length = file.metadata().map_err(|error| DiskError::io("read the length of", path, error))?.len();
        if length < PLAN_OFFSET {
            return Err(corrupt(path, "it begins with two superblocks of 4096 bytes"));
        }
        let Newest { facts, slot, in_both } = newest(&file, path)?;
        if facts.file_bytes() != length {
            return Err(corrupt(path, "its length is what the superblock says"));
        }
        let mut plan = vec![0; facts.plan_bytes as usize];
        file.read_exact_at(&mut plan, PLAN_OFFSET).map_err(|error| DiskError::io("read the plan in", path, error))?;
        if crc32c(&plan) != facts.plan_checksum {
            return Err(corrupt(path, "the checksum of the plan is in the superblock"));
        }
        let marks = Marks::open(&place.marks, facts.id, &facts.disk_bytes)?;
        if let Some(marks) = marks.as_ref().filter(|marks| marks.sequence() > facts.sequence) {
            let message = format!(
                "the journal '{}' is an older copy: it holds record {}, and record {} was written",
                path.display(),
                facts.sequence,
                marks.sequence()
            );
            return Err(DiskError::new(ErrorKind::Corrupt, message).at(path));
        }
        let witness = Witness::of(path)?;
        if witness.stands() && facts.phase.authority() == Side::Source {
            let message = format!(
                "the journal '{}' is an older copy: '{}' shows that its move has switched to the destination",
                path.display(),
                witness.path().display()
            );
            return Err(DiskError::new(ErrorKind::Corrupt, message).at(path));
        }
        let mut writer = JournalWriter {
            file,
            path: path.to_owned(),
            facts: facts.clone(),
            slot: slot ^ 1,
            marks: marks.clone(),
            witness,
        };
        if !in_both {
            writer.write_both().map_err(|(_, error)| error)?;
            if let Some(marks) = &marks {
                marks.recorded(facts.sequence);
            }
        }
        writer.complete_witness()?;
        Ok((Journal { path: path.to_owned(), facts, plan, marks }, writer))
    }

    /// The phase when it was opened.
    pub fn phase(&self) -> JournalPhase {
        self.facts.phase
    }

    /// The plan's bytes as they were given to `create`.
    pub fn plan(&self) -> &[u8] {
        &self.plan
    }

    /// False after a reboot: the marks are then gone, the move is rolled back or completed.
    pub fn is_of_boot(&self, boot_id: [u8; 16]) -> bool {
        self.facts.boot_id == boot_id
    }

    pub fn disk_bytes(&self) -> &[u64] {
        &self.facts.disk_bytes
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The disks with their bitmaps, for `Move::new` or `Move::resume`; only one machine may use them at a time. `None` without marks.
    pub fn setups(&self) -> Option<Vec<DiskSetup>> {
        self.marks.as_ref().map(|marks| marks.setups(&self.facts.disk_bytes))
    }

    /// Whether COMMITTED counts, for the same machine. `None` without marks.
    pub fn revocation(&self) -> Option<Revocation> {
        self.marks.as_ref().and_then(Marks::revocation)
    }

    /// What the marks of a journal that is not there say of it. `Corrupt`: a witness stands, so its move has switched.
    pub fn missing(place: &JournalPlace, boot_id: [u8; 16]) -> Result<MarksFound, DiskError> {
        let witness = Witness::of(&place.journal)?;
        if witness.stands() {
            return Err(missing_beside(&place.journal, &witness));
        }
        Marks::find(&place.marks, boot_id)
    }

    /// Removes a journal, durably, and its marks behind it. No error if it is gone already.
    pub fn remove(place: impl Into<JournalPlace>) -> Result<(), DiskError> {
        let place = place.into();
        Marks::begin_ending(&place.marks)?;
        let mut witness = Witness::of(&place.journal)?;
        if witness.stands() {
            witness.clear()?;
        }
        match std::fs::remove_file(&place.journal) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(DiskError::io("remove the journal", &place.journal, error));
            }
            _ => {}
        }
        sync_folder(&place.journal)?;
        Marks::remove(&place.marks)
    }
}

fn draft_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn missing_beside(path: &Path, witness: &Witness) -> DiskError {
    let message = format!(
        "the journal '{}' is missing: '{}' shows that a move has switched to its destination",
        path.display(),
        witness.path().display()
    );
    DiskError::new(ErrorKind::Corrupt, message).at(path)
}

fn corrupt(path: &Path, rule: &str) -> DiskError {
    let message = format!("the journal '{}' is damaged; broken rule: {rule}", path.display());
    DiskError::new(ErrorKind::Corrupt, message).at(path)
}

fn lock(file: &File, path: &Path) -> Result<(), DiskError> {
    rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive).map_err(|errno| {
        if errno == rustix::io::Errno::WOULDBLOCK {
            let message = format!("the journal '{}' is in use: its move is still running", path.display());
            DiskError::new(ErrorKind::Locked, message).at(path)
        } else {
            DiskError::io("lock the journal", path, errno.into())
        }
    })
}

/// Errors name the journal it becomes at `path`: nobody knows the draft.
fn write_new(draft: &Path, path: &Path, plan: &[u8], facts: &Facts) -> Result<File, DiskError> {
    let failed = |error: std::io::Error| DiskError::io("write the journal", path, error);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW)
        .open(draft)
        .map_err(failed)?;
    lock(&file, path)?;
    // Small and written whole: what lacks space is found out here.
    file.write_all(&vec![0; facts.file_bytes() as usize]).map_err(failed)?;
    file.write_all_at(plan, PLAN_OFFSET).map_err(failed)?;
    for slot in 0..2 {
        file.write_all_at(facts.encode().as_bytes(), slot * SLOT_BYTES).map_err(failed)?;
    }
    file.sync_all().map_err(failed)?;
    Ok(file)
}

fn sync_folder(path: &Path) -> Result<(), DiskError> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| DiskError::io("sync the folder", folder, error))
}

struct Newest {
    facts: Facts,
    slot: u64,
    /// False: the other slot is damaged, or holds the record before.
    in_both: bool,
}

/// The newest valid superblock. One that is damaged or torn leaves the other; two are an error. Why the other is right:
/// docs/design/0007-records.md.
fn newest(file: &File, path: &Path) -> Result<Newest, DiskError> {
    let mut best: Option<Newest> = None;
    let mut flaw = Flaw::Empty;
    for slot in 0..2 {
        let mut bytes = vec![0; SLOT_BYTES as usize];
        file.read_exact_at(&mut bytes, slot * SLOT_BYTES)
            .map_err(|error| DiskError::io("read a superblock of", path, error))?;
        match Facts::decode(&bytes) {
            Ok(facts) => match &mut best {
                Some(found) if found.facts == facts => found.in_both = true,
                Some(found) if found.facts.id != facts.id => {
                    return Err(corrupt(path, "both superblocks are of one journal"));
                }
                Some(found) if found.facts.sequence == facts.sequence => {
                    return Err(corrupt(path, "two superblocks of one number say the same"));
                }
                Some(found) if found.facts.sequence > facts.sequence => {}
                _ => best = Some(Newest { facts, slot, in_both: false }),
            },
            // A newer program's record may be the newest: the older slot must not be believed then.
            Err(Flaw::Version(version)) => {
                let message = format!("the journal '{}' has version {version}; this program reads 2", path.display());
                return Err(DiskError::new(ErrorKind::Unsupported, message).at(path));
            }
            Err(found) => {
                if flaw == Flaw::Empty {
                    flaw = found;
                }
            }
        }
    }
    best.ok_or_else(|| match flaw {
        Flaw::Rule(rule) => corrupt(path, rule),
        Flaw::Empty | Flaw::Version(_) => corrupt(path, "one of its two superblocks is valid (both are empty)"),
    })
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
