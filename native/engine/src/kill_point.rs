//! Named points at which a process kills itself with SIGKILL, for the tests that prove what survives it.
//!
//! `VMSTORAGE_KILL_AT=<name>` (or `<name>#<n>` for the n-th pass) in the environment arms one point. On the control path only:
//! costs a comparison of two strings where it stands and nothing when unarmed.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

struct Armed {
    name: String,
    pass: u32,
    seen: AtomicU32,
}

static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

fn armed() -> Option<&'static Armed> {
    ARMED
        .get_or_init(|| {
            let text = std::env::var("VMSTORAGE_KILL_AT").ok()?;
            let (name, pass) =
                text.split_once('#').map_or((text.as_str(), 1), |(name, n)| (name, n.parse().unwrap_or(1)));
            Some(Armed { name: name.to_owned(), pass, seen: AtomicU32::new(0) })
        })
        .as_ref()
}

/// Does not return if this is the armed point and its pass.
pub fn kill_point(name: &str) {
    let Some(armed) = armed() else { return };
    if armed.name == name && armed.seen.fetch_add(1, Ordering::Relaxed) + 1 == armed.pass {
        // SAFETY: kill and getpid take no memory; the process ends here, which is the point.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        std::process::abort();
    }
}
