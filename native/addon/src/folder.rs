//! Folders that the host holds: Node has no call that opens, renames or removes by descriptor.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use napi::bindgen_prelude::{Either, Null};
use napi_derive::napi;
use vmstorage_engine::disk::{DiskError, ErrorKind};
use vmstorage_engine::file::{
    EntryFacts, EntryKind, FileIdentity, HeldFolder, OpenFlags, Place, Removed, Replace, Trust, delete_gradually,
    facts_of_file,
};

use crate::error::{blocking, invalid};

#[napi(object, object_from_js = false)]
pub struct NativeEntry {
    pub kind: String,
    pub device: u64,
    pub inode: u64,
    /// Nanoseconds since 1970; 0 where the file system keeps no time of birth.
    pub born_ns: u64,
    pub uid: u32,
    /// Permission bits.
    pub mode: u32,
    pub links: u64,
    pub size: u64,
}

#[napi(object, object_from_js = false)]
pub struct NativeText {
    pub text: String,
    pub facts: NativeEntry,
}

impl From<EntryFacts> for NativeEntry {
    fn from(facts: EntryFacts) -> Self {
        let kind = match facts.kind {
            EntryKind::File => "file",
            EntryKind::Folder => "folder",
            EntryKind::Link => "link",
            EntryKind::BlockDevice | EntryKind::Other => "other",
        };
        Self {
            kind: kind.to_owned(),
            device: facts.identity.device,
            inode: facts.identity.inode,
            born_ns: facts.born_ns,
            uid: facts.uid,
            mode: facts.mode,
            links: facts.links,
            size: facts.size,
        }
    }
}

/// Held until it is closed, or forgotten.
#[napi]
pub struct NativeFolder {
    held: Mutex<Option<Arc<HeldFolder>>>,
    entry_name: String,
}

fn trust(owner: Either<u32, Null>) -> Trust {
    Trust::of_owner(match owner {
        Either::A(uid) => Some(uid),
        Either::B(Null) => None,
    })
}

fn or_null<T>(value: Option<T>) -> Either<T, Null> {
    value.map_or(Either::B(Null), Either::A)
}

/// Walks to a folder, through folders that nobody but root, our own user and `owner` can change.
#[napi]
pub async fn hold_folder(path: String, owner: Either<u32, Null>) -> napi::Result<NativeFolder> {
    let trust = trust(owner);
    blocking(move || HeldFolder::walk(&PathBuf::from(path), trust)).await.map(NativeFolder::new)
}

/// Walks to the folder that holds what a path names, links of root's followed to the end; `entryName` is the name in it.
#[napi]
pub async fn hold_entry(path: String, owner: Either<u32, Null>) -> napi::Result<NativeFolder> {
    let trust = trust(owner);
    let (folder, name) = blocking(move || HeldFolder::walk_to_entry(&PathBuf::from(path), trust)).await?;
    let name = name.into_string().map_err(|_| invalid("the name of the file is not text"))?;
    Ok(NativeFolder { entry_name: name, ..NativeFolder::new(folder) })
}

#[napi]
impl NativeFolder {
    fn new(held: HeldFolder) -> Self {
        Self { held: Mutex::new(Some(Arc::new(held))), entry_name: String::new() }
    }

    fn held(&self) -> napi::Result<Arc<HeldFolder>> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        held.ok_or_else(|| invalid("the folder was closed"))
    }

    /// With links resolved.
    #[napi(getter)]
    pub fn path(&self) -> napi::Result<String> {
        Ok(self.held()?.path().to_string_lossy().into_owned())
    }

    /// Of what it was walked to for; empty where it was for the folder itself.
    #[napi(getter)]
    pub fn entry_name(&self) -> String {
        self.entry_name.clone()
    }

    /// Its descriptor is closed when nothing is at work with it any more.
    #[napi]
    pub fn close(&self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    #[napi]
    pub async fn facts(&self) -> napi::Result<NativeEntry> {
        let held = self.held()?;
        blocking(move || held.facts()).await.map(NativeEntry::from)
    }

    /// What has the name: the link itself where it is one.
    #[napi]
    pub async fn entry(&self, name: String) -> napi::Result<Either<NativeEntry, Null>> {
        let held = self.held()?;
        blocking(move || held.entry(OsStr::new(&name))).await.map(|found| or_null(found.map(NativeEntry::from)))
    }

    #[napi]
    pub async fn enter(&self, name: String) -> napi::Result<NativeFolder> {
        let held = self.held()?;
        blocking(move || held.enter(OsStr::new(&name))).await.map(NativeFolder::new)
    }

    /// 0700 and durable; false when the name is taken.
    #[napi]
    pub async fn make_folder(&self, name: String) -> napi::Result<bool> {
        let held = self.held()?;
        blocking(move || held.make_folder(OsStr::new(&name))).await
    }

    /// A new file with this content, 0600, synced; its name is made durable by the rename that follows, or by `sync`. Nothing is left of
    /// one that fails.
    #[napi]
    pub async fn create(&self, name: String, text: String) -> napi::Result<NativeEntry> {
        let held = self.held()?;
        blocking(move || create(&held, OsStr::new(&name), &text)).await.map(NativeEntry::from)
    }

    /// A regular file of at most `most_bytes`, read whole; null when nothing has the name. A link is not followed, a pipe not waited for.
    #[napi]
    pub async fn read(&self, name: String, most_bytes: u32) -> napi::Result<Either<NativeText, Null>> {
        let held = self.held()?;
        let read = blocking(move || read(&held, OsStr::new(&name), u64::from(most_bytes))).await?;
        Ok(or_null(read.map(|(text, facts)| NativeText { text, facts: facts.into() })))
    }

    /// Durable when it resolves.
    #[napi]
    pub async fn rename(&self, from: String, to: String, replace: bool) -> napi::Result<()> {
        let held = self.held()?;
        let replace = if replace { Replace::Yes } else { Replace::No };
        blocking(move || held.rename(OsStr::new(&from), OsStr::new(&to), replace)).await
    }

    /// Removes the name of that very file: "removed", "nothing" or "other" (which is left alone). Durable when it resolves. `gradually`: for
    /// a disk's file, whose size would hold up others on its file system; it resolves when the space is back.
    #[napi]
    pub async fn remove(&self, name: String, device: String, inode: String, gradually: bool) -> napi::Result<String> {
        let held = self.held()?;
        let number = |text: &str| text.parse().map_err(|_| invalid(&format!("'{text}' is not a number")));
        let identity = FileIdentity { device: number(&device)?, inode: number(&inode)? };
        let removed = blocking(move || remove(&held, OsStr::new(&name), identity, gradually)).await?;
        Ok(match removed {
            Removed::Yes => "removed",
            Removed::NothingThere => "nothing",
            Removed::NotThatFile => "other",
        }
        .to_owned())
    }

    /// False when something is in it, or it is no folder. One that is not there is as good as removed.
    #[napi]
    pub async fn remove_folder(&self, name: String) -> napi::Result<bool> {
        let held = self.held()?;
        blocking(move || held.remove_folder(OsStr::new(&name))).await
    }

    #[napi]
    pub async fn names(&self, prefix: String) -> napi::Result<Vec<String>> {
        let held = self.held()?;
        let found = blocking(move || held.names(prefix.as_bytes())).await?;
        Ok(found.into_iter().map(|name| name.to_string_lossy().into_owned()).collect())
    }
}

fn create(held: &HeldFolder, name: &OsStr, text: &str) -> Result<EntryFacts, DiskError> {
    let mut file = held.create(name)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| facts_of_file(&file));
    written.map_err(|cause| {
        if let Ok(facts) = facts_of_file(&file) {
            // What was asked for has failed, and says why; a file without a name of its own is swept up by the next write.
            held.unlink(name, facts.identity).ok();
        }
        DiskError::io("write", &held.path_of(name), cause)
    })
}

fn read(held: &HeldFolder, name: &OsStr, most_bytes: u64) -> Result<Option<(String, EntryFacts)>, DiskError> {
    let path = held.path_of(name);
    let file = match held.open(name, OpenFlags::RDONLY) {
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let failed = |cause| DiskError::io("read", &path, cause);
    let facts = facts_of_file(&file).map_err(failed)?;
    if facts.kind != EntryKind::File {
        let message = format!("'{}' is not a regular file", path.display());
        return Err(DiskError::new(ErrorKind::InvalidArgument, message).at(&path));
    }
    let mut text = Vec::new();
    file.take(most_bytes + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > most_bytes {
        let message = format!("'{}' is larger than {most_bytes} bytes", path.display());
        return Err(DiskError::new(ErrorKind::InvalidArgument, message).at(&path));
    }
    Ok(Some((String::from_utf8_lossy(&text).into_owned(), facts)))
}

fn remove(held: &Arc<HeldFolder>, name: &OsStr, identity: FileIdentity, gradually: bool) -> Result<Removed, DiskError> {
    if !gradually {
        return held.unlink(name, identity);
    }
    let Some(place) = Place::in_folder(held, name)? else { return Ok(Removed::NothingThere) };
    if place.identity() != identity {
        return Ok(Removed::NotThatFile);
    }
    let (space, deleted) = delete_gradually([&place]);
    deleted?;
    space.wait();
    Ok(Removed::Yes)
}
