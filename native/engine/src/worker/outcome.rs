//! Why a move ended, as a code and a sentence for the administrator. Codes are those of src/model/errors.ts.

use std::io;

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

pub fn failed(reason: EndReason, plan: &Plan) -> OutcomeStatus {
    let target = |disk: u32| plan.disks.get(disk as usize).map_or_else(String::new, |d| d.target.display().to_string());
    let (code, why) = match reason {
        EndReason::Stopped => ("OperationStopped", "The move was stopped".to_owned()),
        EndReason::TargetFailed(e) => (code(e), format!("the destination failed: {}", errno_text(e))),
        EndReason::TargetFlushFailed(e) => {
            (code(e), format!("the destination could not be flushed: {}", errno_text(e)))
        }
        EndReason::TargetSilent { silent_us } => {
            ("StorageFailure", format!("the destination has not answered for {} s", silent_us / 1_000_000))
        }
        EndReason::TargetTooSlow { fallbacks } => (
            "StorageFailure",
            format!("the destination fell behind {fallbacks} times and cannot keep up with the virtual machine"),
        ),
        EndReason::SourceFailed(e) => ("StorageFailure", format!("the source could not be read: {}", errno_text(e))),
        EndReason::SourceFlushFailed(e) => {
            ("StorageFailure", format!("the source could not be flushed: {}", errno_text(e)))
        }
        EndReason::VerificationFailed { disk, offset } => (
            "VerificationFailed",
            format!("'{}' differs from the source at byte {offset}, also after it was copied again", target(disk)),
        ),
        EndReason::VerificationTooSlow { disk, offset } => {
            ("StorageFailure", format!("'{}' could not be read back in time at byte {offset}", target(disk)))
        }
        EndReason::JournalFailed { .. } => {
            ("StorageFailure", "the journal of the move could not be written".to_owned())
        }
    };
    let message = format!("{why}. The virtual machine stays on its source files.");
    let mut letters = message.chars();
    let message = letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default();
    OutcomeStatus { ok: false, code, message }
}
