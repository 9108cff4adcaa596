//! vhost-user-blk with a front end by somebody else: the `virtio-driver` crate (what libblkio is built on), which knows no
//! inflight region and adds its memory region by region.
#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use memmap2::MmapMut;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tempfile::TempDir;
use virtio_driver::{
    VhostUser, VirtioBlkConfig, VirtioBlkFeatureFlags, VirtioBlkQueue, VirtioBlkReqBuf, VirtioFeatureFlags,
    VirtioTransport,
};
use vmstorage_engine::exports::vhost_user_blk::{Listener, VhostUserBlk, listen};
use vmstorage_engine::testing::single_disk::{Behaviour, SingleDisk};

type Transport = VhostUser<VirtioBlkConfig, VirtioBlkReqBuf>;

const DISK_BYTES: u64 = 16 << 20;
const BUFFER_BYTES: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

struct Served {
    disk: SingleDisk,
    listener: Listener,
    folder: TempDir,
}

impl Served {
    fn new(queues: u16, read_only: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = tempfile::tempfile_in(folder.path()).unwrap();
        file.set_len(DISK_BYTES).unwrap();
        let export = Box::new(VhostUserBlk::new(queues, "serial").unwrap());
        let disk = SingleDisk::start(export, file, read_only, Behaviour::default()).unwrap();
        let listener = listen(&folder.path().join("s"), disk.door(), disk.facts(), queues).unwrap();
        Self { disk, listener, folder }
    }

    fn client(&self, features: u64) -> Client<'static> {
        let wanted = VirtioFeatureFlags::VERSION_1.bits() | features;
        let transport = Transport::new(self.folder.path().join("s").to_str().unwrap(), wanted).unwrap();
        Client::new(transport)
    }

    fn close(mut self) {
        self.listener.close();
        self.disk.wait_closed();
    }
}

struct Client<'a> {
    transport: Box<Transport>,
    queues: Vec<VirtioBlkQueue<'a, u32>>,
    buffer: MmapMut,
    _file: File,
}

impl Client<'_> {
    fn new(transport: Transport) -> Self {
        let mut transport = Box::new(transport);
        let queues = transport.max_queues().unwrap();
        let queues = VirtioBlkQueue::setup_queues(&mut *transport, queues, 64).unwrap();
        // After the rings were enabled, on purpose.
        let file = tempfile::tempfile().unwrap();
        file.set_len(BUFFER_BYTES as u64).unwrap();
        // SAFETY: nobody shrinks the file.
        let buffer = unsafe { MmapMut::map_mut(&file) }.unwrap();
        transport.map_mem_region(buffer.as_ptr() as usize, BUFFER_BYTES, file.as_raw_fd(), 0).unwrap();
        Self { transport, queues, buffer, _file: file }
    }

    /// Kicks `queue` and waits for `count` completions; returns (context, result) in the order they came.
    fn finish(&mut self, queue: usize, count: usize) -> Vec<(u32, i32)> {
        self.transport.get_submission_notifier(queue).notify().unwrap();
        let call = self.transport.get_completion_fd(queue);
        let mut done = Vec::new();
        while done.len() < count {
            self.queues[queue].set_used_notif_enabled(true);
            done.extend(self.queues[queue].completions().map(|c| (c.context, c.ret)));
            if done.len() < count && !self.queues[queue].completions().has_next() {
                let mut set = [PollFd::new(&call, PollFlags::IN)];
                let patience = Timespec { tv_sec: PATIENCE.as_secs() as _, tv_nsec: 0 };
                assert_eq!(poll(&mut set, Some(&patience)), Ok(1), "no interrupt for a completion");
                call.read().unwrap();
            }
        }
        done
    }

    fn one(&mut self, submit: impl FnOnce(&mut VirtioBlkQueue<'_, u32>, &mut [u8])) -> i32 {
        submit(&mut self.queues[0], &mut self.buffer);
        self.finish(0, 1)[0].1
    }
}

const FLUSH: u64 = VirtioBlkFeatureFlags::FLUSH.bits();

fn every_ring_format() -> [u64; 2] {
    [0, VirtioFeatureFlags::RING_EVENT_IDX.bits()]
}

#[test]
fn reads_writes_flushes_zeroes_and_discards() {
    let zeroing = (VirtioBlkFeatureFlags::DISCARD | VirtioBlkFeatureFlags::WRITE_ZEROES).bits();
    for ring in every_ring_format() {
        let served = Served::new(1, false);
        let mut client = served.client(ring | zeroing | FLUSH);
        let config = client.transport.get_config().unwrap();
        assert_eq!((u64::from(config.capacity), config.writeback), (DISK_BYTES / 512, 1));

        client.buffer[..8192].fill(0x77);
        assert_eq!(client.one(|queue, buffer| queue.write(4096, &buffer[..8192], 0).unwrap()), 0);
        assert_eq!(client.one(|queue, _| queue.flush(0).unwrap()), 0);
        assert_eq!(client.one(|queue, _| queue.write_zeroes(4096, 1024, true, 0).unwrap()), 0);
        assert_eq!(client.one(|queue, _| queue.discard(8192, 1024, 0).unwrap()), 0);
        assert_eq!(client.one(|queue, buffer| queue.read(0, &mut buffer[..16384], 0).unwrap()), 0);
        let expected = |offset: usize| match offset {
            5120..8192 | 9216..12288 => 0x77,
            _ => 0,
        };
        let wrong = (0..16384).find(|offset| client.buffer[*offset] != expected(*offset));
        assert_eq!(wrong, None);
        assert_eq!(client.one(|queue, buffer| queue.read(DISK_BYTES, &mut buffer[..512], 0).unwrap()), -libc::EIO);
        let counters = served.disk.counters();
        assert_eq!((counters.flushes.load(Ordering::Relaxed), counters.zeroes.load(Ordering::Relaxed)), (1, 2));
        served.close();
    }
}

#[test]
fn many_requests_on_many_queues_each_complete_once() {
    const QUEUES: usize = 4;
    for ring in every_ring_format() {
        let served = Served::new(QUEUES as u16, false);
        let mut client = served.client(ring | FLUSH | VirtioBlkFeatureFlags::MQ.bits());
        for _ in 0..200 {
            for queue in 0..QUEUES {
                for context in 0..16 {
                    let at = (queue * 16 + context as usize) * 512;
                    client.queues[queue].write(at as u64, &client.buffer[at..at + 512], context).unwrap();
                }
            }
            for queue in 0..QUEUES {
                let mut done = client.finish(queue, 16);
                done.sort_unstable();
                assert_eq!(done, (0..16).map(|context| (context, 0)).collect::<Vec<_>>());
            }
        }
        assert_eq!(served.disk.counters().writes.load(Ordering::Relaxed), 200 * 64);
        served.close();
    }
}

#[test]
fn a_driver_that_will_not_flush_gets_durable_writes() {
    let served = Served::new(1, false);
    let mut client = served.client(0);
    assert_eq!(client.one(|queue, buffer| queue.write(0, &buffer[..4096], 0).unwrap()), 0);
    let counters = served.disk.counters();
    let seen = (counters.durable_writes.load(Ordering::Relaxed), counters.writes.load(Ordering::Relaxed));
    assert_eq!(seen, (1, 0));
    served.close();
}

#[test]
fn a_read_only_disk_says_so_and_refuses_writes() {
    let served = Served::new(1, true);
    let mut client = served.client(VirtioBlkFeatureFlags::all().bits());
    let features = VirtioBlkFeatureFlags::from_bits_truncate(client.transport.get_features());
    assert!(features.contains(VirtioBlkFeatureFlags::RO));
    assert!(!features.intersects(VirtioBlkFeatureFlags::DISCARD | VirtioBlkFeatureFlags::WRITE_ZEROES));
    assert!(!features.contains(VirtioBlkFeatureFlags::CONFIG_WCE));
    assert_eq!(client.one(|queue, buffer| queue.write(0, &buffer[..512], 0).unwrap()), -libc::EIO);
    assert_eq!(client.one(|queue, buffer| queue.read(0, &mut buffer[..512], 0).unwrap()), 0);
    served.close();
}

#[test]
fn memory_taken_away_makes_requests_fail_and_nothing_worse() {
    let served = Served::new(1, false);
    let mut client = served.client(FLUSH);
    let at = client.buffer.as_ptr() as usize;
    client.transport.unmap_mem_region(at, BUFFER_BYTES).unwrap();
    assert_eq!(client.one(|queue, buffer| queue.write(0, &buffer[..512], 0).unwrap()), -libc::EIO);
    let again = client.transport.map_mem_region(at, BUFFER_BYTES, client._file.as_raw_fd(), 0);
    assert!(again.is_ok());
    assert_eq!(client.one(|queue, buffer| queue.write(0, &buffer[..512], 0).unwrap()), 0);
    served.close();
}
