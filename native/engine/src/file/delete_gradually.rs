//! Deletes large files without holding up everybody else on their file system. An unlink frees a file as a whole: ext4 then discards all
//! of its blocks in one commit of its journal, for which every fsync waits. Measured: silences of 60 to 450 ms for a guest on that file
//! system. The host deletes sources in the same way (src/os/delete-gradually.ts).
//!
//! ```text
//!   caller's thread:  open ─► unlink ─► fsync of the folder ─► answer          the file is deleted, whatever happens now
//!   own thread:                                                  └─► end cut off, pause, end cut off, pause ... close
//! ```
//! Nobody has to wait for the second line. A process that ends in between leaves the rest to the kernel, which frees it all at once.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::held_folder::Removed;
use super::place::Place;
use crate::disk::DiskError;

/// Deletions at work at a time. One per move is usual; more are behind a file system that hangs, and what comes then is freed at once.
const THREADS_MAX: u32 = 4;
/// Without a step for so long, a file system hangs: whoever waits for the space goes on without it.
const STEP_PATIENCE: Duration = Duration::from_secs(10);

/// How fast a file gives its space back.
#[derive(Clone, Copy)]
struct Pace {
    step_bytes: u64,
    /// A file of terabytes goes in larger steps: its end must not take hours.
    steps_max: u64,
    /// The least others get between two steps; a step that took longer is followed by as long a pause, up to `pause_most`.
    pause: Duration,
    pause_most: Duration,
}

const PACE: Pace = Pace {
    step_bytes: 32 << 20,
    steps_max: 2000,
    pause: Duration::from_millis(10),
    pause_most: Duration::from_secs(1),
};

/// The space of deleted files, on its way back. Dropping it changes nothing about that.
#[derive(Default)]
pub struct SpaceReturn {
    /// One word per step; disconnected when all of it is back. `None`: there was nothing to wait for.
    steps: Option<Receiver<()>>,
}

impl SpaceReturn {
    /// Returns when the space is back, or when the file system does not get on with it.
    pub fn wait(self) {
        let Some(steps) = self.steps else { return };
        loop {
            match steps.recv_timeout(STEP_PATIENCE) {
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => return,
            }
        }
    }
}

/// Removes every file that still has its place, durably: when this returns their names are gone. All are tried; the error is that of the
/// first that stays. What somebody has put into a place stays as well, and is no error.
pub fn delete_gradually<'a>(places: impl IntoIterator<Item = &'a Place>) -> (SpaceReturn, Result<(), DiskError>) {
    delete_at_pace(places, PACE)
}

fn delete_at_pace<'a>(places: impl IntoIterator<Item = &'a Place>, pace: Pace) -> (SpaceReturn, Result<(), DiskError>) {
    let mut files = Vec::new();
    let mut result = Ok(());
    for place in places {
        // A descriptor of its own: the locks of others on this file are not touched when it is closed. One that cannot be opened is
        // freed by the unlink, which also says what is wrong.
        let file = place.open();
        match place.remove() {
            Ok(Removed::Yes | Removed::NothingThere) => files.extend(file),
            Ok(Removed::NotThatFile) => {}
            Err(error) => result = result.and(Err(error)),
        }
    }
    (give_back(files, pace), result)
}

/// Empties what has lost its name, on a thread of its own. Where that is not possible the files are closed, which frees them at once.
fn give_back(files: Vec<File>, pace: Pace) -> SpaceReturn {
    static THREADS: AtomicU32 = AtomicU32::new(0);
    let nothing = SpaceReturn::default();
    if files.is_empty() {
        return nothing;
    }
    let free = |n| (n < THREADS_MAX).then_some(n + 1);
    if THREADS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).is_err() {
        return nothing;
    }
    let (done, steps) = channel();
    // Nobody's answer depends on this thread, so its end in a panic is no reason to end the process.
    let spawned = std::thread::Builder::new().name("deletion".to_owned()).spawn(move || {
        for file in files {
            // What a failure leaves is freed by the close.
            shrink(&file, pace, &done).ok();
        }
        THREADS.fetch_sub(1, Ordering::Relaxed);
    });
    match spawned {
        Ok(_) => SpaceReturn { steps: Some(steps) },
        Err(_) => {
            THREADS.fetch_sub(1, Ordering::Relaxed);
            nothing
        }
    }
}

fn shrink(file: &File, pace: Pace, done: &Sender<()>) -> std::io::Result<()> {
    let metadata = file.metadata()?;
    // With another name it is not ours to empty.
    if !metadata.is_file() || metadata.nlink() > 0 {
        return Ok(());
    }
    let steps = (metadata.blocks() * 512).div_ceil(pace.step_bytes).min(pace.steps_max);
    for left in (1..steps).rev() {
        let began = Instant::now();
        file.set_len(metadata.len() / steps * left)?;
        std::thread::sleep(began.elapsed().clamp(pace.pause, pace.pause_most));
        // Nobody may be waiting.
        done.send(()).ok();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::file::Trust;

    fn place(path: &Path) -> Place {
        Place::find(path, Trust::own()).expect("looked at").expect("there")
    }

    fn small_steps(pause_ms: u64) -> Pace {
        let pause = Duration::from_millis(pause_ms);
        Pace { step_bytes: 64 << 10, steps_max: 8, pause, pause_most: pause }
    }

    fn make(folder: &tempfile::TempDir, name: &str, kib: usize) -> (PathBuf, File) {
        let path = folder.path().join(name);
        std::fs::write(&path, vec![7u8; kib << 10]).expect("written");
        let file = File::open(&path).expect("opened");
        file.sync_all().expect("blocks are there");
        (path, file)
    }

    fn kib(file: &File) -> u64 {
        file.metadata().expect("metadata").len() >> 10
    }

    #[test]
    fn a_file_loses_its_name_at_once_and_its_space_step_by_step() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, file) = make(&folder, "disk", 320);
        let (space, deleted) = delete_at_pace([&place(&path)], small_steps(100));
        deleted.expect("deleted");
        assert!(!path.exists());
        assert!(kib(&file) > 64, "the caller has waited for the space");
        let steps = space.steps.as_ref().expect("a thread").iter().count();
        // A file system may count a block of its own.
        assert!((4..8).contains(&steps) && (1..=64).contains(&kib(&file)), "{steps} steps, {} KiB left", kib(&file));
    }

    #[test]
    fn a_huge_file_takes_no_more_steps_than_its_share() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, file) = make(&folder, "disk", 1600);
        let (space, _) = delete_at_pace([&place(&path)], small_steps(1));
        assert_eq!(space.steps.expect("a thread").iter().count(), 7);
        assert_eq!(kib(&file), 200);
    }

    #[test]
    fn a_file_with_another_name_keeps_its_content_and_a_link_loses_the_link_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, file) = make(&folder, "disk", 320);
        let other = folder.path().join("other");
        std::fs::hard_link(&path, &other).expect("linked");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&other, &link).expect("linked");
        let (space, deleted) = delete_at_pace([&place(&path), &place(&link)], small_steps(1));
        space.wait();
        deleted.expect("deleted");
        assert!(!path.exists() && link.symlink_metadata().is_err());
        assert_eq!(kib(&file), 320);
    }

    #[test]
    fn one_that_cannot_be_deleted_does_not_keep_the_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, _file) = make(&folder, "disk", 1);
        let (gone, _other) = make(&folder, "gone", 1);
        let places = [place(folder.path()), place(&gone), place(&path)];
        std::fs::remove_file(&gone).expect("removed");
        let (_, deleted) = delete_gradually(&places);
        assert!(deleted.is_err() && folder.path().exists());
        assert!(!path.exists());
    }

    #[test]
    fn what_took_the_place_meanwhile_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, _file) = make(&folder, "disk", 1);
        let found = place(&path);
        std::fs::rename(&path, folder.path().join("away")).expect("renamed");
        let (path, _file) = make(&folder, "disk", 2);
        let (_, deleted) = delete_gradually([&found]);
        deleted.expect("nothing to delete is no error");
        assert!(path.exists());
    }
}
