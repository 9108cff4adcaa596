//! A destination that hangs for every call, not only for the reactor's: an ext4 of the test's own, frozen. For root; anybody else sees a
//! note and no failure.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step is a failed test

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use support::journal::leave_journal;
use vmstorage_engine::file::Trust;
use vmstorage_engine::formats::Format;
use vmstorage_engine::mirror::JournalPhase;
use vmstorage_engine::worker::{ServeDisk, Worker};

const DISK_BYTES: u64 = 8 << 20;
/// Long enough for a loaded machine; what waits for the destination waits until it is thawed.
const PATIENCE: Duration = Duration::from_secs(20);

fn run(program: &str, words: &[&str]) -> bool {
    Command::new(program).args(words).output().is_ok_and(|output| output.status.success())
}

/// Unmounted by its drop, thawed before.
struct Freezer(PathBuf);

impl Freezer {
    /// `None` where this process may not mount.
    fn mount(folder: &Path) -> Option<Self> {
        let (image, at) = (folder.join("ext4.img"), folder.join("hangs"));
        std::fs::File::create(&image).unwrap().set_len(1 << 30).unwrap();
        std::fs::create_dir(&at).unwrap();
        let (image, mounted) = (image.to_str().unwrap(), at.to_str().unwrap());
        if !run("mkfs.ext4", &["-q", "-F", image]) || !run("mount", &["-o", "loop", image, mounted]) {
            eprintln!("skipped: an ext4 on a loop device cannot be had here");
            return None;
        }
        Some(Self(at))
    }

    fn freeze(&self) {
        assert!(run("fsfreeze", &["--freeze", self.0.to_str().unwrap()]));
    }

    fn thaw(&self) {
        run("fsfreeze", &["--unfreeze", self.0.to_str().unwrap()]);
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        self.thaw();
        let at = self.0.to_str().unwrap();
        let since = Instant::now();
        // The last of what hung is on its way out.
        while !run("umount", &[at]) && since.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn a_worker_that_finds_a_cancelled_move_serves_before_its_targets_are_deleted() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let Some(destination) = Freezer::mount(folder.path()) else { return };
    let (source, target) = (folder.path().join("source"), destination.0.join("target"));
    let journal = folder.path().join("journal");
    leave_journal(&journal, &source, &target, DISK_BYTES, JournalPhase::Cancelled);
    // In the order of a move: what is older than its journal is not its target, and is not deleted.
    for path in [&source, &target] {
        std::fs::File::create(path).unwrap().set_len(DISK_BYTES).unwrap();
    }
    destination.freeze();
    let worker = Arc::new(Worker::start(Arc::new(|| {})).unwrap());
    let serving = Arc::clone(&worker);
    let (told, served) = channel();
    let path = journal.clone();
    std::thread::spawn(move || {
        let disk = ServeDisk {
            index: 0,
            path: source,
            format: Format::Raw,
            read_only: false,
            vhost_user_socket: None,
            nbd_socket: None,
            queues: 1,
            trust: Trust::own(),
        };
        told.send(serving.serve(&[disk], &path, Duration::ZERO)).unwrap();
    });
    let answer = served.recv_timeout(PATIENCE);
    destination.thaw();
    answer.expect("the guest waits for its disk as long as the destination hangs").unwrap();
    assert!(worker.stop_move().unwrap());
    assert!(!target.exists());
    worker.end_move().unwrap();
    assert!(!journal.exists());
    worker.close();
}
