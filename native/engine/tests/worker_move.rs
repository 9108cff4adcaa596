//! A whole move under the built-in guest: the worker, its journal, its targets, on raw and VHDX.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step is a failed test

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use vmstorage_engine::formats::Format;
use vmstorage_engine::image::{CreateImage, ImageKind, ImageReader, create_image};
use vmstorage_engine::testing::guest::{Guest, GuestHandle, GuestOptions, LedgerFile};
use vmstorage_engine::testing::oracle::{Ledger, verify_image};
use vmstorage_engine::worker::{MoveStatus, ServeDisk, Worker};

const MIB: u64 = 1 << 20;
/// Long enough for a loaded machine; a move that hangs is a failure.
const PATIENCE: Duration = Duration::from_secs(120);

struct Vm {
    folder: tempfile::TempDir,
    worker: Worker,
    guest: GuestHandle,
    changed: Arc<(Mutex<u64>, Condvar)>,
    format: Format,
    disks: usize,
}

fn name(format: Format, disk: usize) -> String {
    format!("disk{disk}.{}", if format == Format::Raw { "img" } else { "vhdx" })
}

impl Vm {
    fn start(format: Format, disks: usize, size: u64, options: GuestOptions) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        for sub in ["a", "b", "ledger"] {
            std::fs::create_dir(folder.path().join(sub)).unwrap();
        }
        let changed = Arc::new((Mutex::new(0), Condvar::new()));
        let signal = Arc::clone(&changed);
        let worker = Worker::start(Arc::new(move || {
            *signal.0.lock().unwrap() += 1;
            signal.1.notify_all();
        }))
        .unwrap();
        let mut wanted = Vec::new();
        let mut sockets = Vec::new();
        for disk in 0..disks {
            let path = folder.path().join("a").join(name(format, disk));
            let image = CreateImage {
                format,
                kind: ImageKind::Dynamic,
                size_bytes: size,
                block_bytes: (format == Format::Vhdx).then_some(1 << 20),
                logical_sector_bytes: None,
                physical_sector_bytes: None,
                disk_identifier: None,
            };
            create_image(&path, &image).unwrap();
            let socket = folder.path().join(format!("d{disk}.sock"));
            sockets.push(socket.clone());
            wanted.push(ServeDisk {
                index: disk as u32,
                path,
                format,
                read_only: false,
                vhost_user_socket: Some(socket),
                nbd_socket: None,
                queues: 1,
            });
        }
        worker.serve(&wanted, &folder.path().join("journal"), Duration::ZERO).unwrap();
        let ledger = LedgerFile::Create(folder.path().join("ledger"));
        let guest = Guest::start(&sockets, &GuestOptions { ledger, ..options }).unwrap();
        let this = Self { folder, worker, guest, changed, format, disks };
        this.wait_for_writes(200);
        this
    }

    fn wait_for_writes(&self, count: u64) {
        let start = Instant::now();
        while self.guest.stats().iter().any(|d| d.writes < count) {
            assert!(
                start.elapsed() < PATIENCE,
                "the guest does not get on: {:?}",
                self.guest.stats()[0].last_connect_error
            );
            std::thread::yield_now();
        }
    }

    fn path(&self, sub: &str, disk: usize) -> PathBuf {
        self.folder.path().join(sub).join(name(self.format, disk))
    }

    fn plan(&self, from: &str, to: &str) -> String {
        let format = if self.format == Format::Raw { "raw" } else { "vhdx" };
        let disks: Vec<_> = (0..self.disks)
            .map(|d| serde_json::json!({"disk": d, "source": self.path(from, d), "target": self.path(to, d), "format": format}))
            .collect();
        serde_json::json!({"schema": 1, "moveId": "m1", "disks": disks}).to_string()
    }

    fn journal(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    fn status(&self) -> MoveStatus {
        self.worker.status().unwrap().r#move.expect("a move")
    }

    fn outcome(&self) -> MoveStatus {
        let start = Instant::now();
        loop {
            let status = self.status();
            if status.outcome.is_some() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "no end: {status:?}");
            let seen = self.changed.0.lock().unwrap();
            drop(self.changed.1.wait_timeout(seen, Duration::from_millis(200)).unwrap());
        }
    }

    fn do_move(&self, from: &str, to: &str) -> MoveStatus {
        self.worker.start_move(&self.plan(from, to), &self.journal()).unwrap();
        let status = self.outcome();
        assert!(status.outcome.as_ref().unwrap().ok, "{status:?}");
        self.worker.release_move().unwrap();
        for disk in 0..self.disks {
            std::fs::remove_file(self.path(from, disk)).unwrap();
        }
        self.worker.end_move().unwrap();
        assert!(!self.journal().exists());
        status
    }

    fn finish(self, at: &str) {
        let report = self.guest.stop();
        assert!(
            report.is_clean(),
            "{:?}",
            report.disks.iter().map(|d| (&d.first_wrong, d.io_errors)).collect::<Vec<_>>()
        );
        self.worker.close();
        for disk in 0..self.disks {
            let path = self.folder.path().join(at).join(name(self.format, disk));
            judge(&path, self.format, &self.folder.path().join("ledger").join(format!("disk{disk}.ledger")));
        }
    }
}

fn judge(path: &Path, format: Format, ledger: &Path) {
    let reader = ImageReader::open(path, format).unwrap();
    let verdict = verify_image(&Ledger::open(ledger).unwrap(), |offset, buffer| {
        reader.read(offset, buffer).map_err(|e| std::io::Error::other(e.to_string()))
    })
    .unwrap();
    assert_eq!(verdict.blocks_wrong, 0, "{:?}", verdict.wrong);
    assert!(verdict.blocks_written > 100);
}

fn load() -> GuestOptions {
    GuestOptions { depth: 32, ..GuestOptions::default() }
}

#[test]
fn a_raw_disk_moves_there_and_back_under_load() {
    let vm = Vm::start(Format::Raw, 1, 64 * MIB, load());
    let status = vm.do_move("a", "b");
    eprintln!("{status:?}");
    vm.do_move("b", "a");
    vm.finish("a");
}

#[test]
fn two_vhdx_disks_move_together_under_load() {
    let vm = Vm::start(Format::Vhdx, 2, 48 * MIB, load());
    let status = vm.do_move("a", "b");
    assert!(status.blackout_us.is_some(), "{status:?}");
    vm.finish("b");
}

#[test]
fn a_stopped_move_leaves_nothing_and_a_second_one_works() {
    let vm = Vm::start(Format::Raw, 1, 64 * MIB, load());
    vm.worker.start_move(&vm.plan("a", "b"), &vm.journal()).unwrap();
    assert!(vm.worker.stop_move().unwrap());
    assert!(!vm.path("b", 0).exists());
    assert_eq!(vm.status().outcome.unwrap().code, "OperationStopped");
    vm.worker.end_move().unwrap();
    vm.do_move("a", "b");
    vm.finish("b");
}

#[test]
fn a_stopped_move_gives_its_space_back_bit_by_bit_before_it_is_forgotten() {
    let vm = Vm::start(Format::Raw, 1, 64 * MIB, load());
    vm.worker.start_move(&vm.plan("a", "b"), &vm.journal()).unwrap();
    let target = std::fs::File::options().write(true).open(vm.path("b", 0)).unwrap();
    // A disk of some size, without the time it takes to copy one.
    rustix::fs::fallocate(&target, rustix::fs::FallocateFlags::empty(), 0, 320 * MIB).unwrap();
    assert!(vm.worker.stop_move().unwrap());
    assert!(!vm.path("b", 0).exists());
    vm.worker.end_move().unwrap();
    let left = target.metadata().unwrap().len();
    assert!(left > 0 && left <= 32 * MIB, "{left}: the last step is the close");
    vm.do_move("a", "b");
    vm.finish("b");
}

/// Later and later, by how often the move was looked at before, until it is too late.
#[test]
fn a_move_stopped_at_any_moment_leaves_nothing_or_is_complete() {
    let vm = Vm::start(Format::Vhdx, 2, 48 * MIB, load());
    let mut looks = 0;
    loop {
        vm.worker.start_move(&vm.plan("a", "b"), &vm.journal()).unwrap();
        for _ in 0..looks {
            vm.status();
        }
        if !vm.worker.stop_move().unwrap() {
            break;
        }
        let status = vm.status();
        assert_eq!(status.outcome.as_ref().unwrap().code, "OperationStopped", "after {looks} looks: {status:?}");
        assert!((0..vm.disks).all(|disk| !vm.path("b", disk).exists()), "after {looks} looks: {status:?}");
        vm.worker.end_move().unwrap();
        looks = looks * 2 + 1;
    }
    assert!(vm.outcome().outcome.unwrap().ok);
    vm.worker.release_move().unwrap();
    vm.worker.end_move().unwrap();
    vm.finish("b");
}

#[test]
fn a_file_that_took_the_place_of_a_target_is_not_deleted_in_its_stead() {
    let vm = Vm::start(Format::Raw, 1, 64 * MIB, load());
    vm.worker.start_move(&vm.plan("a", "b"), &vm.journal()).unwrap();
    std::fs::rename(vm.path("b", 0), vm.folder.path().join("elsewhere")).unwrap();
    std::fs::write(vm.path("b", 0), b"mine").unwrap();
    assert!(vm.worker.stop_move().unwrap());
    assert_eq!(std::fs::read(vm.path("b", 0)).unwrap(), b"mine");
    vm.worker.end_move().unwrap();
    vm.finish("a");
}

#[test]
fn a_target_that_is_there_is_never_overwritten() {
    let vm = Vm::start(Format::Raw, 1, 16 * MIB, load());
    std::fs::write(vm.path("b", 0), b"mine").unwrap();
    assert!(vm.worker.start_move(&vm.plan("a", "b"), &vm.journal()).is_err());
    assert_eq!(std::fs::read(vm.path("b", 0)).unwrap(), b"mine");
    assert!(!vm.journal().exists());
    std::fs::remove_file(vm.path("b", 0)).unwrap();
    vm.do_move("a", "b");
    vm.finish("b");
}
