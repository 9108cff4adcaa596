//! A process of its own: a child forked beside other tests would hold their locks for a moment.

#![allow(clippy::unwrap_used, clippy::panic)] // a failed step is a failed test

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use vmstorage_engine::vital_thread::spawn_vital;

const DOOMED: &str = "VMSTORAGE_DOOMED";

#[test]
fn its_panic_ends_the_process_and_its_end_does_not() {
    assert_eq!(spawn_vital("worker", || 7).unwrap().join().unwrap(), 7);
    if std::env::var_os(DOOMED).is_some() {
        drop(spawn_vital("doomed", || panic!("as asked")).unwrap().join());
        std::process::exit(0);
    }
    let name = "its_panic_ends_the_process_and_its_end_does_not";
    let child = Command::new(std::env::current_exe().unwrap()).args([name, "--exact"]).env(DOOMED, "1").output();
    // Not SIGABRT: a core dump waits for all threads (docs/design/0006-lanes.md).
    assert_eq!(child.unwrap().status.signal(), Some(libc::SIGKILL));
}
