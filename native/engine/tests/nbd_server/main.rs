//! The NBD server against real clients and against clients that break every rule.
//!
//! ```text
//!   client (qemu-img, nbdcopy, fio, our own) --socket--> NbdServer --requests--> MemoryDisk
//!                                                           |
//!                                            Runner: a loop over poll(2), one thread
//! ```

// A test that cannot go on says so by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;
mod memory_disk;
mod nbd_bad_clients;
mod nbd_bytewise;
mod nbd_peers;
mod nbd_sessions;
mod runner;
