//! A front end that lies about how much it wants, or takes back the memory it has passed: its worker keeps to its memory, and goes on for the
//! VM's other disks and its move.
#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step is a failed test

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};
use vhost::vhost_user::message::VhostUserHeaderFlag;
use vhost::vhost_user::{Frontend, VhostUserFrontend, VhostUserVirtioFeatures};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmstorage_engine::file::Trust;
use vmstorage_engine::formats::Format;
use vmstorage_engine::testing::guest::{Guest, GuestOptions};
use vmstorage_engine::worker::{ServeDisk, Worker};

const PATIENCE: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;
const RING_SIZE: u16 = 8;
const USER: u64 = 0x7f00_0000_0000;
/// What one request asks for. With whatever else is in flight it must not become this process's memory.
const LONG_BYTES: u64 = 1536 * MIB;
const MEMORY_LIMIT: u64 = 256 * MIB;
// Offsets in memory. A ring and its buffers lie in a page each, the data behind them.
const RING_BYTES: u64 = 0x1000;
const AVAILABLE: u64 = 0x100;
const USED: u64 = 0x200;
const HEADER: u64 = 0x300;
const STATUS: u64 = 0x400;
const DATA: u64 = 0x10_0000;
const READ: u32 = 0;
const WRITE: u32 = 1;

struct Liar {
    front_end: Frontend,
    memory: File,
    kicks: Vec<EventFd>,
    made: Vec<u16>,
}

impl Liar {
    fn new(socket: &Path, rings: usize, memory_bytes: u64, how: MemfdFlags) -> Self {
        let memory = File::from(memfd_create("liar", how).unwrap());
        memory.set_len(memory_bytes).unwrap();
        let mut front_end = Frontend::connect(socket, 16).unwrap();
        front_end.get_features().unwrap();
        let protocol = front_end.get_protocol_features().unwrap();
        front_end.set_protocol_features(protocol).unwrap();
        front_end.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        front_end.set_owner().unwrap();
        let version_1_and_flush = 1 << 32 | 1 << 9;
        front_end.set_features(version_1_and_flush | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()).unwrap();
        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: 0,
            memory_size: memory_bytes,
            userspace_addr: USER,
            mmap_offset: 0,
            mmap_handle: memory.as_raw_fd(),
        };
        front_end.set_mem_table(&[region]).unwrap();
        let kicks: Vec<EventFd> = (0..rings).map(|_| EventFd::new(EFD_NONBLOCK).unwrap()).collect();
        for (ring, kick) in kicks.iter().enumerate() {
            let at = USER + RING_BYTES * ring as u64;
            front_end.set_vring_num(ring, RING_SIZE).unwrap();
            front_end.set_vring_base(ring, 0).unwrap();
            let config = VringConfigData {
                queue_max_size: RING_SIZE,
                queue_size: RING_SIZE,
                flags: 0,
                desc_table_addr: at,
                used_ring_addr: at + USED,
                avail_ring_addr: at + AVAILABLE,
                log_addr: None,
            };
            front_end.set_vring_addr(ring, &config).unwrap();
            front_end.set_vring_kick(ring, kick).unwrap();
            front_end.set_vring_enable(ring, true).unwrap();
        }
        Self { front_end, memory, kicks, made: vec![0; rings] }
    }

    /// One request of one buffer, `data` bytes into the data area, from sector 0; a ring has one at a time.
    fn ask(&mut self, ring: usize, kind: u32, data: u64, len: u64) {
        let at = RING_BYTES * ring as u64;
        let put = |offset: u64, bytes: &[u8]| self.memory.write_all_at(bytes, at + offset).unwrap();
        put(HEADER, &[&kind.to_le_bytes()[..], &[0; 12]].concat());
        put(STATUS, &[0xff]);
        let to_device = if kind == WRITE { 1u16 } else { 3 };
        let chain = [(at + HEADER, 16, 1u16, 1u16), (DATA + data, len as u32, to_device, 2), (at + STATUS, 1, 2, 0)];
        for (index, (address, len, flags, next)) in chain.into_iter().enumerate() {
            let words = [&address.to_le_bytes()[..], &len.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()];
            put(16 * index as u64, &words.concat());
        }
        put(AVAILABLE + 4 + 2 * u64::from(self.made[ring] % RING_SIZE), &0u16.to_le_bytes());
        self.made[ring] += 1;
        put(AVAILABLE + 2, &self.made[ring].to_le_bytes());
        self.kicks[ring].write(1).unwrap();
    }

    fn is_answered(&self, ring: usize) -> bool {
        let mut used = [0; 2];
        self.memory.read_exact_at(&mut used, RING_BYTES * ring as u64 + USED + 2).unwrap();
        u16::from_le_bytes(used) == self.made[ring]
    }

    fn status(&self, ring: usize) -> u8 {
        let mut status = [0; 1];
        self.memory.read_exact_at(&mut status, RING_BYTES * ring as u64 + STATUS).unwrap();
        status[0]
    }
}

/// A worker with raw disks, sparse but for the first MiB of disk 0.
struct Bench {
    folder: tempfile::TempDir,
    worker: Worker,
}

impl Bench {
    fn new(sizes: &[u64], queues: u16) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let bench = Self { folder, worker: Worker::start(Arc::new(|| {})).unwrap() };
        let disks: Vec<ServeDisk> =
            sizes.iter().enumerate().map(|(n, size)| bench.make(n as u32, *size, queues)).collect();
        bench.worker.serve(&disks, &bench.path("journal"), Duration::ZERO).unwrap();
        bench
    }

    fn make(&self, index: u32, size: u64, queues: u16) -> ServeDisk {
        let path = self.path(&format!("{index}.img"));
        let file = File::create_new(&path).unwrap();
        file.set_len(size).unwrap();
        if index == 0 {
            file.write_all_at(&vec![0xa5; MIB as usize], 0).unwrap();
        }
        let vhost_user_socket = Some(self.socket(index));
        ServeDisk {
            index,
            path,
            format: Format::Raw,
            read_only: false,
            vhost_user_socket,
            nbd_socket: None,
            queues,
            trust: Trust::own(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn socket(&self, index: u32) -> PathBuf {
        self.path(&format!("{index}.sock"))
    }
}

fn wait(what: &str, mut there: impl FnMut() -> bool) {
    let since = Instant::now();
    while !there() {
        assert!(since.elapsed() < PATIENCE, "still not: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Memory of this process's own (not the guest's, which is shared), now.
fn own_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[test]
fn requests_of_gigabytes_at_odd_addresses_are_done_within_bounded_memory_and_hold_up_no_other_queue() {
    let bench = Bench::new(&[2048 * MIB], 3);
    let mut liar = Liar::new(&bench.socket(0), 3, DATA + LONG_BYTES + MIB, MemfdFlags::CLOEXEC);
    let before = own_memory();
    let (mut most, mut small) = (0, 0);
    // Odd, so that each has to be copied; both to the same place, which nobody looks at but at its end.
    liar.ask(0, READ, 1, LONG_BYTES);
    liar.ask(1, READ, 3, LONG_BYTES);
    let since = Instant::now();
    while !(liar.is_answered(0) && liar.is_answered(1)) {
        assert!(since.elapsed() < PATIENCE, "the long ones end");
        most = most.max(own_memory());
        if liar.is_answered(2) {
            liar.ask(2, READ, LONG_BYTES + 512, 512);
            small += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!([liar.status(0), liar.status(1)], [0, 0]);
    assert!(most.saturating_sub(before) < MEMORY_LIMIT, "{before} bytes became {most}");
    assert!(small > 10, "{small} small ones were answered beside them");
    wait("the last small one", || liar.is_answered(2));
    // Every byte is where it belongs: the disk's first MiB, then zeros.
    liar.ask(0, READ, 1, LONG_BYTES);
    wait("the last long one", || liar.is_answered(0));
    let mut bytes = vec![0; 2 * MIB as usize];
    liar.memory.read_exact_at(&mut bytes, DATA + 1).unwrap();
    assert!(
        bytes[..MIB as usize].iter().all(|byte| *byte == 0xa5) && bytes[MIB as usize..].iter().all(|byte| *byte == 0)
    );
    bench.worker.close();
}

#[test]
fn a_long_write_is_on_the_disk_whole_and_one_that_does_not_fit_not_at_all() {
    const BYTES: u64 = 40 * MIB;
    let bench = Bench::new(&[64 * MIB], 1);
    let mut liar = Liar::new(&bench.socket(0), 1, DATA + 128 * MIB, MemfdFlags::CLOEXEC);
    let content: Vec<u8> = (0..BYTES).map(|at| (at / 4099) as u8).collect();
    liar.memory.write_all_at(&content, DATA + 7).unwrap();
    liar.ask(0, WRITE, 7, 100 * MIB);
    wait("the answer", || liar.is_answered(0));
    assert_eq!(liar.status(0), 1, "beyond the end of the disk");
    let mut found = vec![0; BYTES as usize];
    let image = File::open(bench.path("0.img")).unwrap();
    image.read_exact_at(&mut found, 0).unwrap();
    assert!(found[..MIB as usize].iter().all(|byte| *byte == 0xa5), "nothing of it was written");
    liar.ask(0, WRITE, 7, BYTES);
    wait("the answer", || liar.is_answered(0));
    assert_eq!(liar.status(0), 0);
    image.read_exact_at(&mut found, 0).unwrap();
    assert!(found == content);
    bench.worker.close();
}

#[test]
fn memory_that_can_be_sealed_cannot_be_taken_back() {
    let bench = Bench::new(&[16 * MIB], 1);
    let liar = Liar::new(&bench.socket(0), 1, DATA + MIB, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
    assert_eq!(liar.memory.set_len(0).unwrap_err().raw_os_error(), Some(libc::EPERM));
    liar.memory.set_len(DATA + 2 * MIB).unwrap(); // to grow is its maker's business
    bench.worker.close();
}

#[test]
fn memory_that_is_taken_back_costs_its_own_connection_and_no_other_disk_and_no_move() {
    let bench = Bench::new(&[16 * MIB, 64 * MIB], 1);
    let ledger = vmstorage_engine::testing::guest::LedgerFile::Create(bench.path(""));
    let calm = GuestOptions { depth: 4, rate: Some(500), ledger, ..GuestOptions::default() };
    let guest = Guest::start(&[bench.socket(1)], &calm).unwrap();
    let moved = |n: u32| serde_json::json!({"disk": n, "source": bench.path(&format!("{n}.img")), "target": bench.path(&format!("{n}.moved.img")), "format": "raw"});
    let plan = serde_json::json!({"schema": 1, "moveId": "m", "disks": [moved(0), moved(1)]}).to_string();
    for (round, kind) in [(0, READ), (1, WRITE)] {
        let mut liar = Liar::new(&bench.socket(0), 1, DATA + MIB, MemfdFlags::CLOEXEC);
        if round == 1 {
            bench.worker.start_move(&plan, &bench.path("journal")).unwrap();
        }
        liar.ask(0, kind, 1, 64 << 10);
        wait("the answer", || liar.is_answered(0));
        // Ring, buffers and all.
        liar.memory.set_len(0).unwrap();
        liar.kicks[0].write(1).unwrap();
        let before = guest.stats()[0].writes;
        wait("the other disk's guest goes on", || guest.stats()[0].writes > before + 100);
        drop(liar.front_end);
    }
    let outcome = || bench.worker.status().unwrap().r#move.unwrap().outcome;
    wait("the move is over", || outcome().is_some());
    assert!(outcome().unwrap().ok, "{:?}", outcome());
    bench.worker.release_move().unwrap();
    bench.worker.end_move().unwrap();
    // The next front end finds the disk as any other does.
    let mut honest = Liar::new(&bench.socket(0), 1, DATA + MIB, MemfdFlags::CLOEXEC);
    honest.ask(0, READ, 512, 512);
    wait("the next front end is answered", || honest.is_answered(0));
    assert_eq!(honest.status(0), 0);
    let report = guest.stop();
    assert!(report.is_clean(), "{} stuck", report.stuck);
    bench.worker.close();
}
