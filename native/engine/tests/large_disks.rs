//! Disks of the sizes administrators have, empty and with a little on them, moved beside a small one whose guest must not notice.
//!
//! What is asserted does not depend on the machine: the operations of the longest turn, the receipt, every byte of the small disk. What does
//! is printed. Read unit by unit, the largest of these would take hours: that they end at all is part of the claim.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step is a failed test

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use support::export::{TestDisk, pattern};
use support::vm::PATIENCE;
use vmstorage_engine::file::Trust;
use vmstorage_engine::formats::Format;
use vmstorage_engine::image::{CreateImage, ImageKind, ImageReader, create_image, inspect_image};
use vmstorage_engine::service::OPERATIONS_MOST;
use vmstorage_engine::testing::guest::{Guest, GuestHandle, GuestOptions, LedgerFile};
use vmstorage_engine::testing::judge::judge_image;
use vmstorage_engine::worker::{MoveStatus, ServeDisk, Worker, hash_image};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
/// Hyper-V's default block.
const BLOCK_BYTES: u32 = 32 << 20;
/// Of the disk whose guest must not notice.
const SMALL_BYTES: u64 = 64 * MIB;

/// What is on the large disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fill {
    Empty,
    /// One block in a hundred is allocated, with a piece of content in it: what a map of the blocks costs, without the bytes.
    OnePercent,
    /// A piece in each hundredth part, where a hundredth of the blocks would take too long.
    Sparse,
}
const PIECE_BYTES: usize = 256 << 10;

impl Fill {
    /// Where the pieces of content are.
    fn offsets(self, size: u64) -> impl Iterator<Item = u64> {
        let pieces = match self {
            Fill::Empty => 0,
            Fill::OnePercent => (size / u64::from(BLOCK_BYTES)).div_ceil(100),
            Fill::Sparse => 100,
        };
        (0..pieces).map(move |piece| size / pieces * piece / MIB * MIB + MIB / 2)
    }
}

struct Scene {
    folder: tempfile::TempDir,
    worker: Worker,
    guest: GuestHandle,
    large: Format,
}

fn create(path: &Path, format: Format, size_bytes: u64) {
    let options = CreateImage {
        format,
        kind: ImageKind::Dynamic,
        size_bytes,
        block_bytes: (format == Format::Vhdx).then_some(BLOCK_BYTES),
        logical_sector_bytes: None,
        physical_sector_bytes: None,
        identity: None,
        trust: Trust::own(),
    };
    create_image(path, &options).unwrap();
}

impl Scene {
    /// A small raw disk under a guest's verified load, and a large one nobody uses, of one machine.
    fn start(large: Format, size: u64, fill: Fill) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        for sub in ["a", "b", "ledger"] {
            std::fs::create_dir(folder.path().join(sub)).unwrap();
        }
        let worker = Worker::start(Arc::new(|| {})).unwrap();
        let small_socket = folder.path().join("small.sock");
        let path = |disk: &str| folder.path().join("a").join(disk);
        create(&path("small"), Format::Raw, SMALL_BYTES);
        create(&path("large"), large, size);
        if fill != Fill::Empty {
            let disk = TestDisk::open_as(&path("large"), large);
            for offset in fill.offsets(size) {
                disk.write(offset, &pattern(offset, PIECE_BYTES), 0, 1, false).unwrap();
            }
            disk.close();
        }
        let disk = |index, path, format, socket| ServeDisk {
            index,
            path,
            format,
            read_only: false,
            vhost_user_socket: socket,
            nbd_socket: None,
            queues: 1,
            trust: Trust::own(),
        };
        let disks =
            [disk(0, path("small"), Format::Raw, Some(small_socket.clone())), disk(1, path("large"), large, None)];
        worker.serve(&disks, &folder.path().join("journal"), PATIENCE).unwrap();
        let ledger = LedgerFile::Create(folder.path().join("ledger"));
        let options = GuestOptions { depth: 8, ledger, ..GuestOptions::default() };
        let guest = Guest::start(&[small_socket], &options).unwrap();
        let scene = Self { folder, worker, guest, large };
        scene.until("the guest writes", || scene.guest.stats()[0].writes > 200);
        scene
    }

    fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < PATIENCE, "not in time: {what}");
            std::thread::yield_now();
        }
    }

    fn path(&self, sub: &str, disk: &str) -> PathBuf {
        self.folder.path().join(sub).join(disk)
    }

    fn begin(&self) {
        let format = if self.large == Format::Raw { "raw" } else { "vhdx" };
        let disks = [(0, "small", "raw"), (1, "large", format)].map(|(disk, name, format)| {
            serde_json::json!({"disk": disk, "source": self.path("a", name), "target": self.path("b", name), "format": format})
        });
        let plan = serde_json::json!({"schema": 1, "moveId": "m1", "disks": disks}).to_string();
        self.worker.start_move(&plan, &self.folder.path().join("journal")).unwrap();
    }

    /// Every answer is waited for, so a worker that is not to be spoken to is found here as well.
    fn outcome(&self) -> MoveStatus {
        let mut last = None;
        self.until("the move ends", || {
            let status = self.worker.status().unwrap().r#move.unwrap();
            let over = status.outcome.is_some();
            last = Some(status);
            over
        });
        last.unwrap()
    }

    /// The move has succeeded: everything about it is right.
    fn judge(self, status: &MoveStatus) {
        let turn = status.longest_turn.unwrap();
        assert!(status.outcome.as_ref().unwrap().ok, "{status:?}");
        assert!(turn.operations <= OPERATIONS_MOST, "{turn:?} with a budget of {OPERATIONS_MOST}");
        let (small, large) = (self.path("b", "small"), self.path("b", "large"));
        let ledger = self.path("ledger", "disk0.ledger");
        let report = self.guest.stop();
        assert!(report.is_clean(), "{} stuck, {:?}", report.stuck, report.disks[0].first_wrong);
        println!("longest turn {turn:?}; the guest waited {:?} at the longest", report.longest_wait());
        self.worker.release_move().unwrap();
        self.worker.end_move().unwrap();
        self.worker.close();
        let receipts = status.receipt.as_ref().unwrap();
        let (hash, bytes) = hash_image(&large, self.large).unwrap();
        let receipt = receipts.iter().find(|receipt| receipt.disk == 1).unwrap();
        assert_eq!((&receipt.hash, &receipt.bytes), (&format!("{hash:032x}"), &bytes.to_string()));
        let verdict = judge_image(&small, Format::Raw, &ledger).unwrap();
        assert_eq!(verdict.blocks_wrong, 0, "{:?}", verdict.wrong);
    }
}

/// What a dynamic VHDX is longer than a new one, in blocks.
fn allocated_blocks(path: &Path) -> u64 {
    let facts = inspect_image(path, Format::Vhdx).unwrap();
    (facts.geometry.size_bytes - facts.growth_bytes) / u64::from(BLOCK_BYTES)
}

fn moves_and_its_neighbour_does_not_notice(format: Format, size: u64, fill: Fill) {
    let scene = Scene::start(format, size, fill);
    let before = Instant::now();
    scene.begin();
    let status = scene.outcome();
    if fill == Fill::OnePercent {
        let (have, blocks) = (allocated_blocks(&scene.path("b", "large")), size / u64::from(BLOCK_BYTES));
        assert_eq!(have, blocks.div_ceil(100), "of {blocks} blocks");
    }
    println!("{} GiB moved in {:.1} s", size / GIB, before.elapsed().as_secs_f64());
    if fill != Fill::Empty {
        let large = ImageReader::open(&scene.path("b", "large"), format).unwrap();
        for offset in fill.offsets(size) {
            let mut found = vec![0; PIECE_BYTES];
            large.read(offset, &mut found).unwrap();
            assert!(found == pattern(offset, PIECE_BYTES), "at {offset}");
        }
    }
    scene.judge(&status);
}

#[test]
fn readmes_own_disk_of_40_gb() {
    moves_and_its_neighbour_does_not_notice(Format::Vhdx, 40 * GIB, Fill::Empty);
    moves_and_its_neighbour_does_not_notice(Format::Vhdx, 40 * GIB, Fill::OnePercent);
}

#[test]
fn hyper_vs_default_of_127_gb() {
    moves_and_its_neighbour_does_not_notice(Format::Vhdx, 127 * GIB, Fill::Empty);
    moves_and_its_neighbour_does_not_notice(Format::Vhdx, 127 * GIB, Fill::OnePercent);
}

#[test]
fn a_disk_of_256_gb() {
    moves_and_its_neighbour_does_not_notice(Format::Vhdx, 256 * GIB, Fill::Empty);
    moves_and_its_neighbour_does_not_notice(Format::Vhdx, 256 * GIB, Fill::OnePercent);
}

#[test]
fn the_largest_vhdx_there_can_be() {
    moves_and_its_neighbour_does_not_notice(Format::Vhdx, 64 * TIB, Fill::Empty);
    moves_and_its_neighbour_does_not_notice(Format::Vhdx, 64 * TIB, Fill::Sparse);
}

/// As large as ext4 makes a file.
#[test]
fn a_sparse_raw_disk_of_16_tib() {
    moves_and_its_neighbour_does_not_notice(Format::Raw, 16 * TIB - MIB, Fill::Empty);
    moves_and_its_neighbour_does_not_notice(Format::Raw, 16 * TIB - MIB, Fill::Sparse);
}

#[test]
fn the_move_of_a_huge_disk_is_stopped_in_the_middle_and_a_second_one_works() {
    let scene = Scene::start(Format::Vhdx, 64 * TIB, Fill::Sparse);
    scene.begin();
    scene.until("it is past its start", || scene.worker.status().unwrap().r#move.unwrap().bytes_copied != "0");
    // It may be too late already.
    if scene.worker.stop_move().unwrap() {
        assert!(!scene.path("b", "large").exists() && !scene.path("b", "small").exists());
        scene.worker.end_move().unwrap();
        scene.begin();
    }
    let status = scene.outcome();
    scene.judge(&status);
}
