//! The journal of a worker that died.

use std::path::Path;

use vmstorage_engine::mirror::{Journal, JournalPhase, RecordResult};

fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    uuid::Uuid::parse_str(text.trim()).unwrap().into_bytes()
}

/// Of a move of one raw disk, left in `phase`, in this boot.
pub fn leave_journal(path: &Path, source: &Path, target: &Path, size_bytes: u64, phase: JournalPhase) {
    let disk = serde_json::json!({"disk": 0, "source": source, "target": target, "format": "raw"});
    let plan = serde_json::json!({"schema": 1, "moveId": "m1", "disks": [disk]}).to_string();
    let (_journal, mut writer) = Journal::create(path, plan.as_bytes(), &[size_bytes], boot_id()).unwrap();
    assert_eq!(writer.record(phase).0, RecordResult::Durable);
}
