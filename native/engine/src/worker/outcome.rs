//! Why a move ended, as a code and a sentence for the administrator. Codes are those of src/model/errors.ts.

use std::io;
use std::path::Path;

use super::plan::Plan;
use super::status::OutcomeStatus;
use crate::disk::{DiskError, Errno};
use crate::mirror::EndReason;

/// An error with its cause, for one line of text.
pub fn describe(error: &DiskError) -> String {
    match &error.source {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// The words of the system, without the number: "No space left on device".
pub fn errno_text(errno: Errno) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    match text.rfind(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

fn code(errno: Errno) -> &'static str {
    match errno {
        libc::ENOSPC | libc::EDQUOT | libc::EFBIG => "NoSpace",
        libc::EACCES | libc::EPERM | libc::EROFS => "AccessDenied",
        _ => "StorageFailure",
    }
}

/// `journal`: where the move's journal is.
pub fn failed(reason: EndReason, plan: &Plan, journal: &Path) -> OutcomeStatus {
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
            "StorageFailure",
            None,
            Some(journal),
            format!("The journal of the move{} could not be written", at(Some(journal))),
        ),
    };
    let message = format!("{why}. The virtual machine stays on its source files.");
    OutcomeStatus { ok: false, code, message, disk: disk.map(number), path: path.map(Path::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_disk_path_and_cause() {
        let json = br#"{"schema":1,"moveId":"m","disks":[{"disk":3,"source":"/srv/a.img","target":"/mnt/a.img","format":"raw"}]}"#;
        let plan = crate::worker::plan::parse_plan(json).unwrap();
        let outcome = |reason| failed(reason, &plan, Path::new("/state/j"));
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
    }
}
