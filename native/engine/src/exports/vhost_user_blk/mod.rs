//! vhost-user-blk: a disk as a virtio block device of a VMM, by shared memory. The back end side of the vhost-user
//! protocol (QEMU docs/interop/vhost-user.rst) and of virtio 1.2 section 5.2, split rings.
//!
//! ```text
//!   VMM ──Unix socket──► listener ─► handler ──ExportDoor──►┐ control thread, one per disk: it may block
//!    │                   config, features, memory           │
//!    │                                                      ▼
//!    └─shared memory───► kicks ─► ring ─► chain ─► requests, device (Export) ─► service   reactor thread: it never blocks
//!                                  └──► inflight
//! ```
//! The control thread maps memory and answers messages; whatever touches a ring runs on the reactor thread.
//!
//! # Several queues
//! The VMM decides how many of the queues that GET_QUEUE_NUM tells it uses, and the driver how many of those: firmware starts one, a kernel
//! one per processor. A ring that was never given addresses or a kick stays stopped, whatever else is said of it. All rings of a disk are
//! served by the one reactor thread: in each turn every ring gives up an equal share of what a disk may take (`requests.rs`), so that a full
//! ring holds neither another ring nor another disk. Each ring has a part of its own in the inflight region and is taken up again alone:
//! between rings there is no order to keep, in a crash as little as without one (without IN_ORDER there is none within a ring either: virtio 1.2, 2.7.9).
//!
//! # Why no request is lost or reported twice after `kill -9`
//! The VMM owns three things that outlive this process: the guest's memory with the rings in it, and the inflight region
//! (spec: "Inflight I/O tracking"), a memfd made here and handed back at every start. Per ring and head:
//!
//! ```text
//!   taken      counter = ++n; inflight = 1           before anything is submitted                            (mark)
//!   completed  status byte in the guest; next = last_batch_head; last_batch_head = head                      (link)
//!              used.ring[..] = heads; used.idx += batch size      ONE store: here the guest learns of all of them
//!   settled    inflight = 0 for the batch; used_idx = used.idx                                               (settle)
//! ```
//! Killed between any two of these stores (they reach shared memory in program order: release stores, one thread):
//! * before *taken*: nothing but `used.idx` and the marked heads say how far the ring was read, so the head is read
//!   again: `next_avail = used.idx + number of marked heads`, whatever SET_VRING_BASE says.
//! * after *taken*, before the store of `used.idx`: marked and not reported. It is executed again, in the order of the
//!   counters. That is right for every request: a write, discard or write-zeroes done twice leaves what it leaves done
//!   once, and the guest, not having been told, may assume neither order nor absence for overlapping requests.
//! * after the store of `used.idx`, before `used_idx` follows: the region is behind by exactly one batch, because a ring
//!   settles a batch before it links the next. The first `used.idx - used_idx` heads of the list from `last_batch_head`
//!   are that batch; their marks are cleared. So what the guest was told is never executed again, nor told again.
//! * after publishing, before the guest was interrupted: every start of a ring interrupts the guest once.
//!
//! Requests of the dead process that the kernel is still executing are the file layer's concern (its lock is the fence).
//! A front end without INFLIGHT_SHMFD gets none of this: its requests in flight die with the process.

mod chain;
mod config;
mod device;
mod features;
mod handler;
#[cfg(feature = "fuzzing")]
pub mod hostile;
mod inflight;
mod kicks;
mod listener;
mod long_requests;
mod memory;
mod requests;
mod ring;

pub use device::VhostUserBlk;
#[cfg(feature = "testing")]
pub use inflight::marked;
pub use listener::{Listener, listen};

/// Queues a disk may have. A guest wants one per processor, so that two processors never wait for each other's queue; one reactor thread
/// serves them all, so more queues make nothing faster here, and each costs two descriptors, a part of the inflight region and a look per
/// turn. A machine of Hyper-V has 240 processors at most, and there four of them share one channel of a disk (storvsc: one sub-channel per
/// four processors). With 64 queues 240 processors share as they do there, and up to 64 have a queue each. The protocol ends at 256
/// (SET_VRING_KICK names a ring by one byte).
pub const MAX_QUEUES: u16 = 64;
