//! Named points at which a process kills itself with SIGKILL, for the tests that prove what survives it, or stops itself, for those that
//! change something at that very moment.
//!
//! `VMSTORAGE_KILL_AT` in the environment arms one point. On the control path only: costs nothing when unarmed, a comparison of
//! two strings or the reading of a small file where it stands.
//!
//! | value            | who dies                                                                                              |
//! | ---------------- | ----------------------------------------------------------------------------------------------------- |
//! | `<name>`         | every process with this environment, at its first pass of that point                                  |
//! | `<name>#<n>`     | the same, at the n-th pass                                                                            |
//! | `@<path>`        | whoever first passes the point named by the first line of that file; the line is taken out and noted  |
//! |                  | in `<path>.hits`, so that a successor with the same environment goes on, up to the next line          |
//!
//! A name that is written `stop:<name>` stops the process at that point (SIGSTOP), all of its threads, until the test lets it go on.
//!
//! The host has the same (src/os/kill-point.ts) and may share the file.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::vital_thread::die;

/// Before a name: the process is stopped there, not killed.
const STOP: &str = "stop:";

enum Armed {
    Named { name: String, pass: u32, seen: AtomicU32, signal: i32 },
    File(PathBuf),
}

static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

fn armed() -> Option<&'static Armed> {
    ARMED
        .get_or_init(|| {
            let text = std::env::var("VMSTORAGE_KILL_AT").ok()?;
            if let Some(path) = text.strip_prefix('@') {
                return Some(Armed::File(PathBuf::from(path)));
            }
            let (name, pass) =
                text.split_once('#').map_or((text.as_str(), 1), |(name, n)| (name, n.parse().unwrap_or(1)));
            let (name, signal) = signalled(name);
            Some(Armed::Named { name: name.to_owned(), pass, seen: AtomicU32::new(0), signal })
        })
        .as_ref()
}

/// What is armed, without and as its signal.
fn signalled(armed: &str) -> (&str, i32) {
    armed.strip_prefix(STOP).map_or((armed, libc::SIGKILL), |name| (name, libc::SIGSTOP))
}

/// Does not return if this is the armed point and its pass, or returns when the process is let go on.
pub fn kill_point(name: &str) {
    let Some(armed) = armed() else { return };
    let signal = match armed {
        Armed::Named { name: wanted, pass, seen, signal } => {
            (wanted == name && seen.fetch_add(1, Ordering::Relaxed) + 1 == *pass).then_some(*signal)
        }
        Armed::File(path) => takes_line(path, name).unwrap_or(None),
    };
    match signal {
        None => {}
        Some(libc::SIGKILL) => die(),
        // To this very thread: one sent to the process is taken by any thread, and this one would run on meanwhile.
        // SAFETY: it takes no memory; the process stands still here, which is the point.
        Some(signal) => unsafe {
            libc::raise(signal);
        },
    }
}

/// The signal, when the first line of the file was `name` and this process is the one that took it out.
fn takes_line(path: &Path, name: &str) -> std::io::Result<Option<i32>> {
    let text = std::fs::read_to_string(path)?;
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let (wanted, signal) = signalled(first);
    if wanted != name {
        return Ok(None);
    }
    let beside = |ending: &str| PathBuf::from(format!("{}.{ending}", path.display()));
    // Of two processes at the same point one renames, the other finds nothing to rename.
    let taken = beside(&std::process::id().to_string());
    std::fs::rename(path, &taken)?;
    std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(beside("hits"))?
        .write_all(format!("{name}\n").as_bytes())?;
    if !rest.is_empty() {
        std::fs::write(&taken, rest)?;
        std::fs::rename(&taken, path)?;
    } else {
        std::fs::remove_file(&taken)?;
    }
    Ok(Some(signal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_once_and_in_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("kill");
        std::fs::write(&path, "before:prepared\nstop:after:prepared\n").expect("writable");
        assert_eq!(takes_line(&path, "after:prepared").expect("read"), None);
        assert_eq!(takes_line(&path, "before:prepared").expect("read"), Some(libc::SIGKILL));
        assert_eq!(takes_line(&path, "before:prepared").expect("read"), None);
        assert_eq!(takes_line(&path, "after:prepared").expect("read"), Some(libc::SIGSTOP));
        assert!(takes_line(&path, "after:prepared").is_err());
        assert_eq!(
            std::fs::read_to_string(folder.path().join("kill.hits")).expect("read"),
            "before:prepared\nafter:prepared\n"
        );
    }
}
