//! A machine without a hypervisor: a worker, the built-in guest on its disks, and the moves of a test.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use vmstorage_engine::file::Trust;
use vmstorage_engine::formats::Format;
use vmstorage_engine::image::{CreateImage, ImageKind, create_image};
use vmstorage_engine::service::Engine;
use vmstorage_engine::testing::guest::{Guest, GuestHandle, GuestOptions, LedgerFile};
use vmstorage_engine::testing::judge::judge_image;
use vmstorage_engine::worker::{MoveStatus, ServeDisk, Worker};

pub const MIB: u64 = 1 << 20;
/// Long enough for a loaded machine; a move that hangs is a failure.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A file system that is not the one of the tests' folders: in memory, and for everybody.
pub const ELSEWHERE: &str = "/dev/shm";

/// Its folders: `a`, where the disks are at first, `b` and `c`; `elsewhere` is on another file system.
pub struct Vm {
    pub folder: tempfile::TempDir,
    _elsewhere: tempfile::TempDir,
    pub worker: Worker,
    pub guest: GuestHandle,
    changed: Arc<(Mutex<u64>, Condvar)>,
    format: Format,
    pub disks: usize,
    wanted: Vec<ServeDisk>,
}

fn worker_on(engine: Engine, changed: &Arc<(Mutex<u64>, Condvar)>) -> Worker {
    let signal = Arc::clone(changed);
    let notice = move || {
        *signal.0.lock().unwrap() += 1;
        signal.1.notify_all();
    };
    Worker::on(engine, Arc::new(notice))
}

fn name(format: Format, disk: usize) -> String {
    format!("disk{disk}.{}", if format == Format::Raw { "img" } else { "vhdx" })
}

impl Vm {
    pub fn start(format: Format, disks: usize, size: u64, options: GuestOptions) -> Self {
        Self::start_on(Engine::start().unwrap(), format, disks, size, options)
    }

    pub fn start_on(engine: Engine, format: Format, disks: usize, size: u64, options: GuestOptions) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        for sub in ["a", "b", "c", "ledger"] {
            std::fs::create_dir(folder.path().join(sub)).unwrap();
        }
        let elsewhere = tempfile::tempdir_in(ELSEWHERE).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("elsewhere")).unwrap();
        let changed = Arc::new((Mutex::new(0), Condvar::new()));
        let worker = worker_on(engine, &changed);
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
                identity: None,
                trust: Trust::own(),
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
                queues: options.queues,
                trust: Trust::own(),
            });
        }
        worker.serve(&wanted, &folder.path().join("journal"), Duration::ZERO).unwrap();
        let ledger = LedgerFile::Create(folder.path().join("ledger"));
        let guest = Guest::start(&sockets, &GuestOptions { ledger, ..options }).unwrap();
        let this = Self { folder, _elsewhere: elsewhere, worker, guest, changed, format, disks, wanted };
        this.wait_for_writes(200);
        this
    }

    /// The worker ends in order, whatever it is at, and another one takes its place, as one does in another process.
    pub fn replace_worker(&mut self, engine: Engine) {
        self.worker.close();
        self.worker = worker_on(engine, &self.changed);
        self.worker.serve(&self.wanted, &self.journal(), PATIENCE).unwrap();
    }

    pub fn wait_for_writes(&self, count: u64) {
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

    pub fn path(&self, sub: &str, disk: usize) -> PathBuf {
        self.folder.path().join(sub).join(name(self.format, disk))
    }

    pub fn plan(&self, from: &str, to: &str) -> String {
        self.plan_of(self.disks, from, to)
    }

    /// For the first `disks` of them.
    pub fn plan_of(&self, disks: usize, from: &str, to: &str) -> String {
        let format = if self.format == Format::Raw { "raw" } else { "vhdx" };
        let disks: Vec<_> = (0..disks)
            .map(|d| serde_json::json!({"disk": d, "source": self.path(from, d), "target": self.path(to, d), "format": format}))
            .collect();
        serde_json::json!({"schema": 1, "moveId": "m1", "disks": disks}).to_string()
    }

    pub fn journal(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    pub fn status(&self) -> MoveStatus {
        self.worker.status().unwrap().r#move.expect("a move")
    }

    pub fn outcome(&self) -> MoveStatus {
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

    pub fn do_move(&self, from: &str, to: &str) -> MoveStatus {
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

    pub fn finish(self, at: &str) {
        self.finish_with(at, false);
    }

    /// `errors`: the guest may have been told of some.
    pub fn finish_with(self, at: &str, errors: bool) {
        let mut report = self.guest.stop();
        if errors {
            report.disks.iter_mut().for_each(|disk| disk.io_errors = 0);
        }
        assert!(
            report.is_clean(),
            "{} stuck, {:?}",
            report.stuck,
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
    let verdict = judge_image(path, format, ledger).unwrap();
    assert_eq!(verdict.blocks_wrong, 0, "{:?}", verdict.wrong);
    assert!(verdict.blocks_written > 100);
}

/// Of a guest with four processors.
pub fn load() -> GuestOptions {
    GuestOptions { depth: 32, queues: 4, ..GuestOptions::default() }
}
