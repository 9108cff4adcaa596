//! What the thread of a lane keeps open. A test of its own process: descriptors are counted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step is a failed test

use std::fs::{File, read_link};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use vmstorage_engine::disk::FileSystemId;
use vmstorage_engine::reactor::{Lane, OpenReactor, open_reactor};

const PATIENCE: Duration = Duration::from_secs(60);

/// What the descriptors of a thread are of.
fn open_files(task: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(task.join("fd")).unwrap().map(|entry| entry.unwrap().path());
    // One that is gone by now was that of the look itself.
    entries.filter_map(|entry| read_link(entry).ok()).collect()
}

fn task_named(name: &str) -> PathBuf {
    let mut tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|entry| entry.unwrap().path());
    tasks.find(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name)).unwrap()
}

fn lock(file: &File) -> bool {
    // SAFETY: no memory is passed.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
}

#[test]
fn a_lane_has_its_own_files_open_and_no_other_and_its_end_closes_them() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (target, source) = (folder.path().join("target"), folder.path().join("source"));
    let of_guest = File::create(&source).unwrap();
    assert!(lock(&of_guest));
    let here = Path::new("/proc/self");
    let before = open_files(here).len();
    let open: OpenReactor = Arc::new(|| open_reactor(64));
    for _ in 0..3 {
        let file = File::create(&target).unwrap();
        assert!(lock(&file));
        let lane = Lane::open(FileSystemId(1), &open, &[file.as_raw_fd()]).unwrap();
        let of_lane = open_files(&task_named("lane-0:1"));
        assert!(of_lane.contains(&target) && !of_lane.contains(&source), "{of_lane:?}");
        assert_eq!(open_files(here).len(), before + 3, "the file and two bells: the reactor of a lane is nowhere else");
        drop(file);
        let other = File::open(&target).unwrap();
        assert!(!lock(&other), "what the lane may have in flight is fenced");
        assert!(lane.end(PATIENCE));
        assert!(lock(&other), "the end of a lane is the end of its hold");
        drop(other);
        assert_eq!(open_files(here).len(), before);
    }
}
