//! The NBD server: serves one disk over a Unix socket to any NBD client (QEMU, libnbd, the Linux kernel's nbd-client,
//! fio).
//!
//! ```text
//!   listen ----> server (Export) ----> connection ----> requests ----> ExportCx::request (the engine)
//!                                      + sending
//!                                        |    |             |
//!                        codec  <--------+    |             +--> jobs, buffers, outbox   what is under way
//!                        (bytes <-> events)   |             +--> tiles, read_reply, block_status
//!                                             +--> handshake, transmission               the protocol's rules
//!                        wire: numbers and structures                                    (pure)
//! ```
//! Fixed newstyle with structured replies, base:allocation, FUA, TRIM, WRITE_ZEROES, CACHE. Not offered, and refused as
//! the protocol says: TLS, extended headers, resizing; multi-conn is not advertised. A client that asks for block sizes keeps to whole
//! sectors (EINVAL otherwise); any other is served to the byte (`bytewise`).
//!
//! No allocation and no lock per request once the pools are warm.

mod block_status;
mod buffers;
mod bytewise;
mod codec;
mod connection;
mod handshake;
#[cfg(feature = "fuzzing")]
pub mod hostile;
mod jobs;
mod listen;
mod outbox;
mod read_reply;
mod requests;
mod sending;
mod server;
mod tiles;
mod transmission;
mod wire;

pub use listen::NbdListener;
pub use server::{MAX_CONNECTIONS, NbdServer};
