//! The one total match from engine errors to what crosses the seam: `KIND\u{1f}message\u{1f}cause\u{1f}path\u{1f}errno`, taken apart by
//! src/native/errors.ts.

use vmstorage_engine::disk::{DiskError, ErrorKind, cause_text};

pub fn to_napi(error: &DiskError) -> napi::Error {
    let kind = match error.kind {
        ErrorKind::NotFound => "NotFound",
        ErrorKind::AlreadyExists => "AlreadyExists",
        ErrorKind::PermissionDenied => "PermissionDenied",
        ErrorKind::NoSpace => "NoSpace",
        ErrorKind::Locked => "Locked",
        ErrorKind::Corrupt => "Corrupt",
        ErrorKind::Unsupported => "Unsupported",
        ErrorKind::InvalidArgument => "InvalidArgument",
        ErrorKind::InvalidState => "InvalidState",
        ErrorKind::ReadOnly => "ReadOnly",
        ErrorKind::Io => "Io",
        ErrorKind::Protocol => "Protocol",
        ErrorKind::Cancelled => "Cancelled",
        ErrorKind::UnsafeFolder => "UnsafeFolder",
        // `ErrorKind` is non-exhaustive: a kind without a name here is reported as such by the other side.
        _ => "Unknown",
    };
    // Where several files are at work, a message that does not say which one helps nobody.
    let path = error.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    let message = match error.message.contains(&path) {
        true => error.message.clone(),
        false => format!("'{path}': {}", error.message),
    };
    let cause = error.source.as_ref().map(cause_text).unwrap_or_default();
    let errno = error.source.as_ref().and_then(std::io::Error::raw_os_error).unwrap_or_default();
    napi::Error::from_reason(format!("{kind}\u{1f}{message}\u{1f}{cause}\u{1f}{path}\u{1f}{errno}"))
}

pub fn invalid(message: &str) -> napi::Error {
    to_napi(&DiskError::new(ErrorKind::InvalidArgument, message))
}

/// Runs a blocking call of the engine off Node's thread and off its small libuv pool.
pub async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, DiskError> + Send + 'static,
) -> napi::Result<T> {
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => result.map_err(|e| to_napi(&e)),
        Err(panic) => Err(to_napi(&DiskError::new(ErrorKind::InvalidState, format!("the engine panicked: {panic}")))),
    }
}
