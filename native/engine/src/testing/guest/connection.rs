//! What is said on the socket, in QEMU's order: at the first start, and again on every reconnect.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserInflight};
use vhost::vhost_user::{Frontend, VhostUserFrontend, VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost::{VhostBackend, VringConfigData};
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_WRITE_ZEROES,
};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use super::machine::Machine;
use super::options::GuestOptions;
use super::split_ring::SplitRing;

/// `struct virtio_blk_config` up to `write_zeroes_may_unmap` and its padding.
const CONFIG_BYTES: u32 = 60;

/// What was agreed on.
#[derive(Clone, Copy)]
pub struct Agreed {
    pub capacity_bytes: u64,
    pub indirect: bool,
    pub zeroes: bool,
    pub flush: bool,
}

pub struct Connection {
    frontend: Frontend,
    /// The same socket, to see the other end hang up without waiting for an answer.
    socket: UnixStream,
    pub agreed: Agreed,
}

impl Connection {
    /// Connects and starts (or takes up again) every ring.
    pub fn open(
        path: &Path,
        machine: &mut Machine,
        rings: &mut [SplitRing],
        options: &GuestOptions,
    ) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        // A worker that dies while it is asked closes the socket; one that hangs must not hold the guest for ever.
        stream.set_read_timeout(Some(options.patience))?;
        let socket = stream.try_clone()?;
        let frontend = Frontend::from_stream(stream, u64::from(options.queues));
        let agreed = start(frontend.clone(), machine, rings, options).map_err(|e| io::Error::other(e.to_string()))?;
        Ok(Self { frontend, socket, agreed })
    }

    pub fn is_broken(&self) -> bool {
        let mut set = [PollFd::new(&self.socket, PollFlags::IN | PollFlags::RDHUP)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Nothing is ever sent unasked on this socket, so anything to see is its end.
        poll(&mut set, Some(&now)).is_ok_and(|count| count > 0)
    }

    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Stops every ring, as QEMU does when a guest shuts down. Returns where each stopped.
    pub fn stop(&mut self, queues: u16) -> vhost::Result<Vec<u32>> {
        let mut bases = Vec::new();
        for queue in 0..usize::from(queues) {
            self.frontend.set_vring_enable(queue, false)?;
            bases.push(self.frontend.get_vring_base(queue)?);
        }
        Ok(bases)
    }
}

fn start(
    mut frontend: Frontend,
    machine: &mut Machine,
    rings: &mut [SplitRing],
    options: &GuestOptions,
) -> vhost::Result<Agreed> {
    // vhost_dev_init
    let offered = frontend.get_features()?;
    let wanted_protocol = VhostUserProtocolFeatures::MQ
        | VhostUserProtocolFeatures::CONFIG
        | VhostUserProtocolFeatures::REPLY_ACK
        | VhostUserProtocolFeatures::INFLIGHT_SHMFD
        | VhostUserProtocolFeatures::RESET_DEVICE
        | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS;
    let protocol = frontend.get_protocol_features()? & wanted_protocol;
    frontend.set_protocol_features(protocol)?;
    frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
    if protocol.contains(VhostUserProtocolFeatures::MQ) {
        frontend.get_queue_num()?;
    }
    let slots = options.memory_slots && protocol.contains(VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS);
    if slots {
        frontend.get_max_mem_slots()?;
    }
    frontend.set_owner()?;
    let (_, config) =
        frontend.get_config(0, CONFIG_BYTES, VhostUserConfigFlags::empty(), &[0; CONFIG_BYTES as usize])?;
    let capacity = config.get(..8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);

    // vhost_user_blk_start
    let mut wanted = 1 << VIRTIO_F_VERSION_1
        | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
        | 1 << VIRTIO_BLK_F_FLUSH
        | 1 << VIRTIO_BLK_F_MQ
        | 1 << VIRTIO_BLK_F_RO
        | 1 << VIRTIO_BLK_F_DISCARD
        | 1 << VIRTIO_BLK_F_WRITE_ZEROES;
    wanted |= if options.event_idx { 1 << VIRTIO_RING_F_EVENT_IDX } else { 0 };
    wanted |= if options.indirect { 1 << VIRTIO_RING_F_INDIRECT_DESC } else { 0 };
    let features = offered & wanted;
    frontend.set_features(features)?;
    if protocol.contains(VhostUserProtocolFeatures::INFLIGHT_SHMFD) {
        set_inflight(&mut frontend, machine, options)?;
    }

    // vhost_dev_start
    frontend.set_features(features)?;
    let regions = [machine.rings.info(), machine.requests.info()];
    if slots {
        for region in &regions {
            frontend.add_mem_region(region)?;
        }
    } else {
        frontend.set_mem_table(&regions)?;
    }
    for (queue, ring) in rings.iter_mut().enumerate() {
        ring.set_event_idx(features & 1 << VIRTIO_RING_F_EVENT_IDX != 0);
        start_ring(&mut frontend, machine, ring, queue, options)?;
    }
    for queue in 0..rings.len() {
        frontend.set_vring_enable(queue, true)?;
    }
    let has = |bit: u32| features & 1 << bit != 0;
    Ok(Agreed {
        capacity_bytes: capacity * 512,
        indirect: has(VIRTIO_RING_F_INDIRECT_DESC),
        zeroes: has(VIRTIO_BLK_F_DISCARD) && has(VIRTIO_BLK_F_WRITE_ZEROES),
        flush: has(VIRTIO_BLK_F_FLUSH),
    })
}

/// Asks for an inflight region once, and hands the same one to every worker that follows.
fn set_inflight(frontend: &mut Frontend, machine: &mut Machine, options: &GuestOptions) -> vhost::Result<()> {
    use std::os::fd::AsRawFd;
    if machine.inflight.is_none() {
        let wanted = VhostUserInflight::new(0, 0, options.queues, options.ring_size);
        machine.inflight = Some(frontend.get_inflight_fd(&wanted)?);
    }
    match &machine.inflight {
        Some((shape, file)) => frontend.set_inflight_fd(shape, file.as_raw_fd()),
        None => Ok(()),
    }
}

fn start_ring(
    frontend: &mut Frontend,
    machine: &Machine,
    ring: &SplitRing,
    queue: usize,
    options: &GuestOptions,
) -> vhost::Result<()> {
    frontend.set_vring_num(queue, options.ring_size)?;
    // Where QEMU believes the device was: after a crash it knows no better than what was used.
    frontend.set_vring_base(queue, ring.next_used())?;
    let place = machine.places[queue];
    let user = |offset: usize| machine.rings.host(offset) as u64;
    let addresses = VringConfigData {
        queue_max_size: options.ring_size,
        queue_size: options.ring_size,
        flags: 0,
        desc_table_addr: user(place.descriptors),
        used_ring_addr: user(place.used),
        avail_ring_addr: user(place.available),
        log_addr: None,
    };
    frontend.set_vring_addr(queue, &addresses)?;
    frontend.set_vring_kick(queue, &machine.kicks[queue])?;
    frontend.set_vring_call(queue, &machine.calls[queue])
}
