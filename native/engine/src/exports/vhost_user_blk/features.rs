//! What is offered to the front end: virtio feature bits and protocol features.

use vhost::vhost_user::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_TOPOLOGY, VIRTIO_BLK_F_WRITE_ZEROES,
};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use crate::exports::DiskFacts;

/// The driver understands `used_event` and `avail_event` (virtio 1.2, 2.7.10).
pub const EVENT_IDX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;
/// The driver will send flushes. Without it every write has to be durable before it is acknowledged (virtio 1.2, 5.2.6.2).
pub const FLUSH: u64 = 1 << VIRTIO_BLK_F_FLUSH;
/// Rings start disabled and the protocol features below exist.
pub const PROTOCOL_FEATURES: u64 = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();

/// Virtio features. CONFIG_WCE is left out on purpose: a guest that could switch the cache to write-through would stop
/// flushing, and the cache here is always write-back. Packed rings are left out: the inflight region has a second format for them.
pub fn offered(facts: &DiskFacts, queues: u16) -> u64 {
    let mut bits = 1 << VIRTIO_F_VERSION_1
        | EVENT_IDX
        | 1 << VIRTIO_RING_F_INDIRECT_DESC
        | 1 << VIRTIO_BLK_F_SIZE_MAX
        | 1 << VIRTIO_BLK_F_SEG_MAX
        | 1 << VIRTIO_BLK_F_BLK_SIZE
        | 1 << VIRTIO_BLK_F_TOPOLOGY
        | FLUSH
        | PROTOCOL_FEATURES;
    if queues > 1 {
        bits |= 1 << VIRTIO_BLK_F_MQ;
    }
    if facts.read_only {
        bits |= 1 << VIRTIO_BLK_F_RO;
    } else {
        bits |= 1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_WRITE_ZEROES;
    }
    bits
}

/// Protocol features. BACKEND_REQ is left out while nothing is sent on that channel (a disk cannot be resized yet).
pub fn protocol() -> VhostUserProtocolFeatures {
    VhostUserProtocolFeatures::CONFIG
        | VhostUserProtocolFeatures::MQ
        | VhostUserProtocolFeatures::REPLY_ACK
        | VhostUserProtocolFeatures::INFLIGHT_SHMFD
        | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
        | VhostUserProtocolFeatures::RESET_DEVICE
}
