//! Why a move ended, as a code and a sentence for the administrator. Codes are those of src/model/errors.ts.

use std::io;
use std::path::Path;

use super::plan::{Plan, PlannedDisk};
use super::status::OutcomeStatus;
use crate::disk::{DiskError, Errno, ErrorKind, cause_text};
use crate::mirror::EndReason;

/// An error with its cause, for one line of text.
pub fn describe(error: &DiskError) -> String {
    match &error.source {
        Some(cause) => format!("{error}: {}", cause_text(cause)),
        None => error.to_string(),
    }
}

/// The words of the system, without the number: "No space left on device".
pub fn errno_text(errno: Errno) -> String {
    cause_text(&io::Error::from_raw_os_error(errno))
}

/// The code of an error that ended a move. What is not there or not as it was is a failure of the storage: the move had seen it.
pub fn code_of(error: &DiskError) -> &'static str {
    match error.kind {
        ErrorKind::NoSpace => "NoSpace",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnly => "AccessDenied",
        ErrorKind::AlreadyExists => "AlreadyExists",
        ErrorKind::UnsafeFolder => "UnsafeFolder",
        _ => "StorageFailure",
    }
}

/// Why the journal could not be written: kept until the outcome is told, which comes later.
#[derive(Clone)]
pub struct JournalError {
    code: &'static str,
    /// The words of the system where it has said something, else of the error.
    why: String,
}

impl JournalError {
    pub fn of(error: &DiskError) -> Self {
        Self { code: code_of(error), why: error.source.as_ref().map_or_else(|| error.to_string(), cause_text) }
    }
}

fn code(errno: Errno) -> &'static str {
    match errno {
        libc::ENOSPC | libc::EDQUOT | libc::EFBIG => "NoSpace",
        libc::EACCES | libc::EPERM | libc::EROFS => "AccessDenied",
        _ => "StorageFailure",
    }
}

/// The worker's number of the disk whose source or target `path` is.
pub fn disk_at(plan: &Plan, path: Option<&Path>) -> Option<u32> {
    let path = path?;
    plan.disks.iter().find(|disk| disk.source == path || disk.target == path).map(|disk| disk.disk)
}

/// Of a move that could have switched, but to what nobody would find.
pub fn displaced_target(disk: &PlannedDisk) -> OutcomeStatus {
    let message = format!(
        "The new file '{}' of disk {} is not at its place any more: somebody has renamed it, or a folder above it. \
         The virtual machine stays on its source files.",
        disk.target.display(),
        disk.disk
    );
    OutcomeStatus { ok: false, code: "StorageFailure", message, disk: Some(disk.disk), path: Some(disk.target.clone()) }
}

/// `journal`: where the move's journal is, and what it had against being written.
pub fn failed(reason: EndReason, plan: &Plan, journal: (&Path, Option<&JournalError>)) -> OutcomeStatus {
    let place = |disk: u32| plan.disks.get(disk as usize);
    let number = |disk: u32| place(disk).map_or(disk, |d| d.disk);
    let target = |disk: u32| place(disk).map(|d| d.target.as_path());
    let source = |disk: u32| place(disk).map(|d| d.source.as_path());
    let at = |path: Option<&Path>| path.map_or_else(String::new, |path| format!(" '{}'", path.display()));
    let (code, disk, path, why) = match reason {
        EndReason::Stopped => ("OperationStopped", None, None, "The move was stopped".to_owned()),
        EndReason::TargetFailed { disk, errno } => (
            code(errno),
            Some(disk),
            target(disk),
            format!("The destination{} of disk {} failed: {}", at(target(disk)), number(disk), errno_text(errno)),
        ),
        EndReason::TargetFlushFailed { disk, errno } => (
            code(errno),
            Some(disk),
            target(disk),
            format!(
                "The destination{} of disk {} could not be flushed: {}",
                at(target(disk)),
                number(disk),
                errno_text(errno)
            ),
        ),
        EndReason::TargetSilent { disk, silent_us } => (
            "StorageFailure",
            Some(disk),
            target(disk),
            format!(
                "The destination{} of disk {} has not answered for {} s",
                at(target(disk)),
                number(disk),
                silent_us / 1_000_000
            ),
        ),
        EndReason::TargetTooSlow { fallbacks } => {
            let all: Vec<String> = plan.disks.iter().map(|d| format!("'{}'", d.target.display())).collect();
            let why = format!(
                "The destination ({}) fell behind {fallbacks} times and cannot keep up with the virtual machine",
                all.join(", ")
            );
            ("StorageFailure", None, None, why)
        }
        EndReason::SourceFailed { disk, errno } => (
            "StorageFailure",
            Some(disk),
            source(disk),
            format!("The source{} of disk {} could not be read: {}", at(source(disk)), number(disk), errno_text(errno)),
        ),
        EndReason::SourceFlushFailed { disk, errno } => (
            "StorageFailure",
            Some(disk),
            source(disk),
            format!(
                "The source{} of disk {} could not be flushed: {}",
                at(source(disk)),
                number(disk),
                errno_text(errno)
            ),
        ),
        EndReason::VerificationFailed { disk, offset } => (
            "VerificationFailed",
            Some(disk),
            target(disk),
            format!(
                "The destination{} of disk {} differs from the source at byte {offset}, also after it was copied again",
                at(target(disk)),
                number(disk)
            ),
        ),
        EndReason::VerificationTooSlow { disk, offset } => (
            "StorageFailure",
            Some(disk),
            target(disk),
            format!(
                "The destination{} of disk {} could not be read back in time at byte {offset}",
                at(target(disk)),
                number(disk)
            ),
        ),
        EndReason::JournalFailed { .. } => (
            journal.1.map_or("StorageFailure", |error| error.code),
            None,
            Some(journal.0),
            not_written(journal.0, journal.1),
        ),
    };
    let also = match (reason, journal.1) {
        (EndReason::JournalFailed { .. }, _) | (_, None) => String::new(),
        (_, error) => format!(" {}.", not_written(journal.0, error)),
    };
    let message = format!("{why}. The virtual machine stays on its source files.{also}");
    OutcomeStatus { ok: false, code, message, disk: disk.map(number), path: path.map(Path::to_owned) }
}

/// A sentence without its end.
pub fn not_written(journal: &Path, error: Option<&JournalError>) -> String {
    let because = error.map_or_else(String::new, |error| format!(": {}", error.why));
    format!("The journal of the move '{}' could not be written{because}", journal.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_disk_path_and_cause() {
        let json = br#"{"schema":1,"moveId":"m","disks":[{"disk":3,"source":"/srv/a.img","target":"/mnt/a.img","format":"raw"}]}"#;
        let plan = crate::worker::plan::parse_plan(json).unwrap();
        let outcome = |reason| failed(reason, &plan, (Path::new("/state/j"), None));
        let full = outcome(EndReason::TargetFailed { disk: 0, errno: libc::ENOSPC });
        let stays = "The virtual machine stays on its source files.";
        assert_eq!(
            full.message,
            format!("The destination '/mnt/a.img' of disk 3 failed: No space left on device. {stays}")
        );
        assert_eq!((full.code, full.disk, full.path), ("NoSpace", Some(3), Some("/mnt/a.img".into())));
        let unread = outcome(EndReason::SourceFailed { disk: 0, errno: libc::EIO });
        assert_eq!(
            unread.message,
            format!("The source '/srv/a.img' of disk 3 could not be read: Input/output error. {stays}")
        );
        assert_eq!((unread.code, unread.path), ("StorageFailure", Some("/srv/a.img".into())));
        let journal = outcome(EndReason::JournalFailed { phase: crate::mirror::JournalPhase::Copy });
        assert!(journal.message.starts_with("The journal of the move '/state/j' could not be written."));
        let error = DiskError::io("write", Path::new("/state/j"), io::Error::from_raw_os_error(libc::ENOSPC));
        let no_room = JournalError::of(&error);
        let journal = |reason| failed(reason, &plan, (Path::new("/state/j"), Some(&no_room)));
        let full = journal(EndReason::JournalFailed { phase: crate::mirror::JournalPhase::Copy });
        let why = "could not be written: No space left on device.";
        assert_eq!(full.message, format!("The journal of the move '/state/j' {why} {stays}"));
        assert_eq!((full.code, full.path), ("NoSpace", Some("/state/j".into())));
        let both = journal(EndReason::SourceFailed { disk: 0, errno: libc::EIO });
        assert_eq!(both.message, format!("{} The journal of the move '/state/j' {why}", unread.message));
        assert_eq!(both.code, "StorageFailure");
    }
}
