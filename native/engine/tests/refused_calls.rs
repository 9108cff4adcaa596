//! What a worker may not do any more, asked of the kernel. A process of its own: what is refused stays refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step is a failed test

use std::io::{Error, ErrorKind};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::mpsc::channel;

use vmstorage_engine::worker::refuse_dangerous_calls;

fn errno(code: libc::c_long) -> Option<i32> {
    if code == -1 { Error::last_os_error().raw_os_error() } else { None }
}

/// Each of them harmless where it is not refused.
fn tries() -> Vec<(&'static str, Option<i32>)> {
    // SAFETY: no call gets a pointer that the kernel writes to, and each fails for another reason at the latest.
    unsafe {
        vec![
            ("ptrace", errno(libc::syscall(libc::SYS_ptrace, libc::PTRACE_CONT, 0, 0, 0))),
            ("process_vm_readv", errno(libc::syscall(libc::SYS_process_vm_readv, 1, 0, 0, 0, 0, 0))),
            ("kill of another", errno(libc::syscall(libc::SYS_kill, libc::getppid(), 0))),
            ("tgkill of another", errno(libc::syscall(libc::SYS_tgkill, libc::getppid(), libc::getppid(), 0))),
            ("unshare", errno(libc::syscall(libc::SYS_unshare, 0))),
            (
                "clone into a user namespace",
                errno(libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER | libc::CLONE_THREAD, 0, 0, 0, 0)),
            ),
            ("mount", errno(libc::syscall(libc::SYS_mount, 0, 0, 0, 0, 0))),
            ("setuid", errno(libc::syscall(libc::SYS_setuid, libc::geteuid()))),
            ("bpf", errno(libc::syscall(libc::SYS_bpf, -1, 0, 0))),
            ("keyctl", errno(libc::syscall(libc::SYS_keyctl, -1, 0, 0, 0, 0))),
            ("socket of the network", errno(libc::syscall(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0))),
            ("socket of the kernel", errno(libc::syscall(libc::SYS_socket, libc::AF_NETLINK, libc::SOCK_RAW, 0))),
        ]
    }
}

#[test]
fn what_leads_out_of_a_worker_is_refused_to_all_its_threads_and_the_rest_goes_on() {
    let (go, wait) = channel();
    let earlier = std::thread::spawn(move || {
        wait.recv().unwrap();
        tries()
    });
    assert!(tries().iter().any(|(_, errno)| *errno != Some(libc::EPERM)), "they are not refused by the system already");
    refuse_dangerous_calls().unwrap();
    go.send(()).unwrap();
    for (thread, tried) in
        [("this", tries()), ("earlier", earlier.join().unwrap()), ("later", std::thread::spawn(tries).join().unwrap())]
    {
        for (call, errno) in tried {
            assert_eq!(errno, Some(libc::EPERM), "{call} of the {thread} thread");
        }
    }
    assert_eq!(Command::new("/bin/true").status().unwrap_err().kind(), ErrorKind::PermissionDenied, "a program");
    // SAFETY: signal 0 is none.
    assert_eq!(unsafe { libc::kill(libc::getpid(), 0) }, 0, "a signal to itself");
    UnixStream::pair().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"as before").unwrap();
    let engine = vmstorage_engine::service::Engine::start().unwrap();
    drop(engine);
}
