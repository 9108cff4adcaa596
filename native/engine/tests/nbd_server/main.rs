//! The NBD server against real clients and against clients that break every rule.
//!
//! ```text
//!   client (qemu-img, nbdcopy, fio, our own) --socket--> NbdServer --requests--> MemoryDisk
//!                                                           |
//!                                            Runner: a loop over poll(2), one thread
//! ```

mod client;
mod memory_disk;
mod nbd_bad_clients;
mod nbd_peers;
mod nbd_sessions;
mod runner;
