//! What a new worker makes of a journal that it finds while something of its dead predecessor is left.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step is a failed test

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use vmstorage_engine::formats::Format;
use vmstorage_engine::mirror::{Journal, JournalPhase, RecordResult};
use vmstorage_engine::worker::{ServeDisk, Worker};

const DISK_BYTES: u64 = 8 << 20;
/// Long enough for a loaded machine, and shorter than anything waits for a lock.
const PATIENCE: Duration = Duration::from_secs(20);

fn new_disk(path: PathBuf) -> PathBuf {
    std::fs::File::create(&path).unwrap().set_len(DISK_BYTES).unwrap();
    path
}

fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    uuid::Uuid::parse_str(text.trim()).unwrap().into_bytes()
}

/// The journal of a worker that died in `phase`.
fn leave_journal(path: &Path, source: &Path, target: &Path, phase: JournalPhase) {
    let disk = serde_json::json!({"disk": 0, "source": source, "target": target, "format": "raw"});
    let plan = serde_json::json!({"schema": 1, "moveId": "m1", "disks": [disk]}).to_string();
    let (_journal, mut writer) = Journal::create(path, plan.as_bytes(), &[DISK_BYTES], boot_id()).unwrap();
    assert_eq!(writer.record(phase).0, RecordResult::Durable);
}

#[test]
fn a_move_that_waits_for_what_its_predecessor_left_at_the_target_can_be_stopped() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (source, target) = (new_disk(folder.path().join("source")), new_disk(folder.path().join("target")));
    let journal = folder.path().join("journal");
    leave_journal(&journal, &source, &target, JournalPhase::Mirror);
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
