//! What a new worker makes of a journal that it finds while something of its dead predecessor is left.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step is a failed test

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use support::journal::leave_journal;
use vmstorage_engine::file::Trust;
use vmstorage_engine::formats::Format;
use vmstorage_engine::mirror::JournalPhase;
use vmstorage_engine::worker::{ServeDisk, Worker};

const DISK_BYTES: u64 = 8 << 20;
/// Long enough for a loaded machine, and shorter than anything waits for a lock.
const PATIENCE: Duration = Duration::from_secs(20);

fn new_disk(path: PathBuf) -> PathBuf {
    std::fs::File::create(&path).unwrap().set_len(DISK_BYTES).unwrap();
    path
}

#[test]
fn a_move_that_waits_for_what_its_predecessor_left_at_the_target_can_be_stopped() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (source, target) = (new_disk(folder.path().join("source")), folder.path().join("target"));
    let journal = folder.path().join("journal");
    leave_journal(&journal, &source, &target, DISK_BYTES, JournalPhase::Mirror);
    // In the order of a move: what is older than its journal is not its target, and is not deleted.
    new_disk(target.clone());
    // A write of the dead worker that hangs in the kernel keeps its lock.
    let fence = std::fs::File::open(&target).unwrap();
    flock(&fence, FlockOperation::LockExclusive).unwrap();
    let worker = Arc::new(Worker::start(Arc::new(|| {})).unwrap());
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
    worker.serve(&[disk], &journal, Duration::ZERO).unwrap();
    let (told, answer) = channel();
    let stopping = Arc::clone(&worker);
    std::thread::spawn(move || told.send(stopping.stop_move()));
    let stopped = answer.recv_timeout(PATIENCE).expect("an answer to the stop");
    assert!(stopped.unwrap());
    let outcome = worker.status().unwrap().r#move.unwrap().outcome.unwrap();
    assert_eq!((outcome.ok, outcome.code), (false, "OperationStopped"), "{}", outcome.message);
    assert!(!target.exists());
    worker.end_move().unwrap();
    assert!(!journal.exists());
    worker.close();
}
