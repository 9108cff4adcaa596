//! What a worker tells of itself; the JSON is that of src/protocol/worker.ts.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::value::RawValue;

use super::moving::Moving;
use super::outcome::errno_text;
use super::receipt::{DiskReceipt, iso_time};
use crate::disk::RequestKind;
use crate::service::{DiskStats, GuestError, TurnLength};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerStatus {
    pub io: &'static str,
    pub disks: Vec<DiskStatus>,
    pub r#move: Option<MoveStatus>,
    pub journal: Option<JournalStatus>,
    /// Of the last minute or two.
    pub longest_turn: TurnStatus,
}

/// The longest turn of the reactor; each figure may be of another turn.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TurnStatus {
    pub operations: u32,
    pub processor_us: u64,
    pub wall_us: u64,
}

impl From<TurnLength> for TurnStatus {
    fn from(turn: TurnLength) -> Self {
        Self { operations: turn.operations, processor_us: turn.processor_us, wall_us: turn.wall_us }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskStatus {
    pub index: u32,
    pub path: PathBuf,
    pub device: String,
    pub inode: String,
    pub size_bytes: String,
    pub peer_pid: Option<i32>,
    pub waiting_for: Option<String>,
    /// The last request of the guest that its storage refused, or none since `path` began to serve it.
    pub failed: Option<FailedRequest>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedRequest {
    /// How many there were.
    pub count: u64,
    pub errno: i32,
    /// The errno in the words of the system.
    pub text: String,
    /// `read`, `write`, `flush`, `discard` or `write zeroes`.
    pub request: &'static str,
    pub offset: String,
    pub length: String,
    pub at: String,
}

impl FailedRequest {
    pub fn of(stats: &DiskStats) -> Option<Self> {
        let GuestError { errno, kind, range, at } = stats.last_error?;
        Some(Self {
            count: stats.errors,
            errno,
            text: errno_text(errno),
            request: match kind {
                Some(RequestKind::Read) => "read",
                Some(RequestKind::Write) => "write",
                Some(RequestKind::Discard) => "discard",
                Some(RequestKind::WriteZeroes { .. }) => "write zeroes",
                Some(RequestKind::Flush) | None => "flush",
            },
            offset: range.start.to_string(),
            length: range.len.to_string(),
            at: iso_time(at),
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalStatus {
    pub path: PathBuf,
    pub phase: &'static str,
    pub plan: Box<RawValue>,
}

impl JournalStatus {
    pub fn of(moving: &Moving) -> Self {
        Self::new(moving.journal_path(), moving.journal_phase(), moving.plan_json())
    }

    pub(super) fn new(path: &Path, phase: &'static str, plan_json: &str) -> Self {
        let plan = RawValue::from_string(plan_json.to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned());
        Self { path: path.to_owned(), phase, plan }
    }
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutcomeStatus {
    pub ok: bool,
    pub code: &'static str,
    pub message: String,
    /// The worker's number of the disk that it is about, and the file; none when it is about all or none of them.
    pub disk: Option<u32>,
    pub path: Option<PathBuf>,
}

impl OutcomeStatus {
    pub fn switched(note: &str) -> Self {
        let message = format!("The virtual machine runs on the destination.{note}");
        Self { ok: true, code: "", message, disk: None, path: None }
    }
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MoveStatus {
    pub move_id: String,
    pub phase: &'static str,
    pub percent: f64,
    pub bytes_total: String,
    pub bytes_copied: String,
    pub bytes_recopied: String,
    pub bytes_mirrored: String,
    pub bytes_verified: String,
    /// Bytes of data: what is to be copied, and to be compared after it. None until the disks were looked through.
    pub bytes_data: Option<String>,
    pub bytes_compared: String,
    pub bytes_per_second: u64,
    pub seconds_remaining: Option<u64>,
    pub guest_p99_us: Option<u64>,
    pub guest_max_us: Option<u64>,
    pub guest_rest_max_us: Option<u64>,
    pub blackout_us: Option<u64>,
    pub bound_bytes: Option<String>,
    /// While the move ran.
    pub longest_turn: Option<TurnStatus>,
    pub outcome: Option<OutcomeStatus>,
    pub receipt: Option<Vec<DiskReceipt>>,
    pub warnings: Vec<String>,
}
