//! vhost-user-blk from outside, by a real socket and real shared memory: under load, across crashes, and with a front end
//! that breaks the rules. The built-in guest judges every byte.
#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vmstorage_engine::exports::vhost_user_blk::{Listener, VhostUserBlk, listen};
use vmstorage_engine::testing::guest::{Guest, GuestHandle, GuestOptions, LedgerFile, Report};
use vmstorage_engine::testing::oracle::{Ledger, Verdict, verify_image};
use vmstorage_engine::testing::single_disk::{Behaviour, SingleDisk};

const DISK_BYTES: u64 = 8 << 20;
/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with an image and a socket.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Self { folder };
        File::create(place.image()).unwrap().set_len(DISK_BYTES).unwrap();
        place
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("disk.img")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("disk.sock")
    }

    fn serve(&self, queues: u16, behaviour: Behaviour) -> Served {
        let file = File::options().read(true).write(true).open(self.image()).unwrap();
        let export = Box::new(VhostUserBlk::new(queues, "vmstorage-test-disk").unwrap());
        let disk = SingleDisk::start(export, file, false, behaviour).unwrap();
        let listener = listen(&self.socket(), disk.door(), disk.facts(), queues).unwrap();
        Served { disk, listener }
    }

    fn judge(&self) -> Verdict {
        let ledger = Ledger::open(&self.folder.path().join("disk0.ledger")).unwrap();
        let image = File::open(self.image()).unwrap();
        verify_image(&ledger, |offset, data| image.read_exact_at(data, offset)).unwrap()
    }

    fn judge_image(&self) {
        let verdict = self.judge();
        assert_eq!(verdict.blocks_wrong, 0, "{:#?}", verdict.wrong);
        assert!(verdict.blocks_written > 100, "the load wrote something: {verdict:?}");
    }
}

struct Served {
    disk: SingleDisk,
    listener: Listener,
}

impl Served {
    fn close(mut self) {
        self.listener.close();
        self.disk.wait_closed();
    }

    /// As SIGKILL: what is in flight is done or not, and never reported.
    fn kill(self) {
        let Self { disk, mut listener } = self;
        disk.kill();
        listener.close();
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn requests(guest: &GuestHandle) -> u64 {
    guest.stats().iter().map(|disk| disk.latency.count()).sum()
}

fn run_until(guest: &GuestHandle, wanted: u64) {
    let from = requests(guest);
    until("the guest has made progress", || requests(guest) >= from + wanted);
}

fn assert_clean(report: &Report) {
    let said: Vec<_> = report.disks.iter().map(|d| (&d.first_wrong, &d.last_connect_error)).collect();
    let counts: Vec<_> = report
        .disks
        .iter()
        .map(|d| {
            (
                d.io_errors,
                d.wrong_blocks,
                d.unexpected_completions,
                d.lost_interrupts,
                d.reads,
                d.writes,
                d.zeroes,
                d.flushes,
            )
        })
        .collect();
    assert!(report.is_clean(), "stuck {}, {counts:?}, {said:?}", report.stuck);
}

fn out_of_order() -> Behaviour {
    Behaviour { held_at_most: Duration::from_micros(300), seed: 5, ..Behaviour::default() }
}

/// A disk that is not asked again sleeps for five seconds; then the guest would have waited for that.
#[test]
fn requests_that_are_not_taken_at_once_are_taken_without_another_kick() {
    let place = Place::new();
    let served = place.serve(1, Behaviour::default());
    let ledger = LedgerFile::Create(place.folder.path().to_owned());
    let options = GuestOptions { depth: 500, ring_size: 1024, ledger, ..GuestOptions::default() };
    let guest = Guest::start(&[place.socket()], &options).unwrap();
    run_until(&guest, 20_000);
    let report = guest.stop();
    assert_clean(&report);
    assert!(report.longest_wait() < Duration::from_secs(4), "{:?}", report.longest_wait());
    served.close();
    place.judge_image();
}

#[test]
fn every_byte_is_right_whatever_was_negotiated() {
    for (queues, event_idx, indirect, memory_slots, odd_splits) in [
        (1, true, true, true, false),
        (1, false, false, false, true),
        (4, true, false, true, true),
        (4, false, true, false, false),
        (64, true, true, true, false),
    ] {
        let place = Place::new();
        let served = place.serve(queues, out_of_order());
        let options = GuestOptions {
            queues,
            event_idx,
            indirect,
            memory_slots,
            odd_splits,
            ledger: LedgerFile::Create(place.folder.path().to_owned()),
            ..GuestOptions::default()
        };
        let guest = Guest::start(&[place.socket()], &options).unwrap();
        run_until(&guest, 4000);
        let report = guest.stop();
        assert_clean(&report);
        let disk = &report.disks[0];
        assert!(disk.reads > 0 && disk.writes > 0 && disk.zeroes > 0 && disk.flushes > 0);
        assert_eq!(disk.reconnects, 0);
        assert!(report.longest_wait() < Duration::from_secs(3), "a kick was lost: {:?}", report.longest_wait());
        assert!(served.listener.ring_failures().is_empty(), "{:?}", served.listener.ring_failures());
        served.close();
        place.judge_image();
    }
}

#[test]
fn killed_in_mid_flight_fifty_times_the_guest_sees_nothing_but_a_wait() {
    const ROUNDS: u64 = 50;
    let place = Place::new();
    let options = GuestOptions {
        queues: 4,
        ledger: LedgerFile::Create(place.folder.path().to_owned()),
        ..GuestOptions::default()
    };
    let guest = Guest::start(&[place.socket()], &options).unwrap();
    for round in 0..ROUNDS {
        let behaviour = Behaviour { held_at_most: Duration::from_millis(3), seed: round, ..Behaviour::default() };
        let served = place.serve(4, behaviour);
        run_until(&guest, 150);
        served.kill();
    }
    let served = place.serve(4, Behaviour::default());
    let report = guest.stop();
    assert_clean(&report);
    let disk = &report.disks[0];
    assert_eq!(disk.reconnects, ROUNDS);
    assert!(disk.broken_in_all_rings > ROUNDS / 2, "{} kills had all rings in flight", disk.broken_in_all_rings);
    served.close();
    place.judge_image();
}

const QUEUES_OF_PROCESS: u16 = 4;

/// Not a test: the process that `kill_9` kills. Serves the image in the folder it is told until then.
#[test]
#[ignore = "started by another test"]
fn backend_process() {
    let folder = std::env::var_os("VMSTORAGE_TEST_FOLDER").unwrap();
    let folder = Path::new(&folder);
    let file = File::options().read(true).write(true).open(folder.join("disk.img")).unwrap();
    let export = Box::new(VhostUserBlk::new(QUEUES_OF_PROCESS, "killed").unwrap());
    let behaviour = Behaviour { held_at_most: Duration::from_micros(500), seed: 1, ..Behaviour::default() };
    let disk = SingleDisk::start(export, file, false, behaviour).unwrap();
    let _listener = listen(&folder.join("disk.sock"), disk.door(), disk.facts(), QUEUES_OF_PROCESS).unwrap();
    loop {
        std::thread::park();
    }
}

struct Backend(std::process::Child);

impl Backend {
    fn start(folder: &Path) -> Self {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "backend_process", "--ignored"])
            .env("VMSTORAGE_TEST_FOLDER", folder)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.0.kill().unwrap(); // SIGKILL
        self.0.wait().unwrap();
    }
}

#[test]
fn a_process_killed_with_sigkill_fifty_times_loses_and_repeats_nothing() {
    const ROUNDS: u64 = 50;
    let place = Place::new();
    let options = GuestOptions {
        queues: QUEUES_OF_PROCESS,
        // Many small requests: the more batches are published, the more likely a kill hits one.
        longest_blocks: 2,
        ledger: LedgerFile::Create(place.folder.path().to_owned()),
        ..GuestOptions::default()
    };
    let guest = Guest::start(&[place.socket()], &options).unwrap();
    for round in 0..ROUNDS {
        let backend = Backend::start(place.folder.path());
        run_until(&guest, 200 + 37 * (round % 11));
        drop(backend);
    }
    let backend = Backend::start(place.folder.path());
    let report = guest.stop();
    assert_clean(&report);
    let disk = &report.disks[0];
    assert_eq!(disk.reconnects, ROUNDS);
    assert!(disk.left_by_dead.iter().all(|left| *left > 0), "each ring was taken up again: {:?}", disk.left_by_dead);
    assert!(report.longest_wait() < Duration::from_secs(20), "{:?}", report.longest_wait());
    drop(backend);
    place.judge_image();
}

/// In 0.1 the wait was taken when something completed, so it was 0 for as long as nothing did.
#[test]
fn a_wait_is_told_while_it_goes_on_also_while_the_guest_itself_is_held() {
    const LONG: Duration = Duration::from_millis(300);
    let place = Place::new();
    let options = GuestOptions { depth: 4, ..GuestOptions::default() };
    let guest = Guest::start(&[place.socket()], &options).unwrap();
    let longest = || guest.stats()[0].oldest_wait;
    let served = place.serve(1, Behaviour::default());
    run_until(&guest, 500);
    served.kill();
    until("the wait for a dead back end is told", || longest() > LONG);

    // A back end that is stopped: the kernel accepts the connection, nobody answers, and the guest's thread waits for the answer.
    let silent = std::os::unix::net::UnixListener::bind(place.socket()).unwrap();
    let (connection, _) = silent.accept().unwrap();
    let before = longest();
    until("the wait goes on growing", || longest() > before + LONG);
    drop((connection, silent));
    std::fs::remove_file(place.socket()).unwrap();

    let served = place.serve(1, Behaviour::default());
    until("the guest goes on", || longest() < LONG);
    assert_clean(&guest.stop());
    served.close();
}

#[test]
fn a_connection_lost_without_a_crash_loses_nothing_either() {
    let place = Place::new();
    let options =
        GuestOptions { ledger: LedgerFile::Create(place.folder.path().to_owned()), ..GuestOptions::default() };
    let guest = Guest::start(&[place.socket()], &options).unwrap();
    for round in 0..10 {
        let served =
            place.serve(1, Behaviour { held_at_most: Duration::from_millis(2), seed: round, ..out_of_order() });
        run_until(&guest, 200);
        served.close();
    }
    let served = place.serve(1, Behaviour::default());
    assert_clean(&guest.stop());
    served.close();
    place.judge_image();
}

/// Firmware uses one queue of many, and QEMU may be told to use fewer than there are.
#[test]
fn a_front_end_that_uses_some_of_the_queues_is_served_on_those_and_taken_up_again() {
    let place = Place::new();
    let ledger = LedgerFile::Create(place.folder.path().to_owned());
    let guest = Guest::start(&[place.socket()], &GuestOptions { queues: 2, ledger, ..GuestOptions::default() });
    let guest = guest.unwrap();
    for _ in 0..3 {
        let served = place.serve(4, out_of_order());
        run_until(&guest, 500);
        served.kill();
    }
    let served = place.serve(4, Behaviour::default());
    let report = guest.stop();
    assert_clean(&report);
    assert_eq!((report.disks[0].reconnects, report.disks[0].left_by_dead.len()), (3, 2));
    served.close();
    place.judge_image();
}

#[test]
fn an_error_of_the_disk_is_the_guests_and_of_that_request_alone() {
    let place = Place::new();
    let bad_range = Some(vmstorage_engine::disk::ByteRange::new(1 << 20, 4096));
    let served = place.serve(1, Behaviour { bad_range, ..Behaviour::default() });
    let options = GuestOptions { hot_percent: 0, span_bytes: Some(2 << 20), ..GuestOptions::default() };
    let guest = Guest::start(&[place.socket()], &options).unwrap();
    run_until(&guest, 2000);
    let report = guest.stop();
    let disk = &report.disks[0];
    assert!(disk.io_errors > 0 && disk.writes > 0, "{} errors, {} writes", disk.io_errors, disk.writes);
    assert_eq!((disk.wrong_blocks, disk.unexpected_completions, report.stuck), (0, 0, 0), "{:?}", disk.first_wrong);
    served.close();
}

#[test]
fn the_oracle_sees_a_single_lost_write_on_the_disk_and_in_the_image() {
    let place = Place::new();
    let served = place.serve(1, Behaviour { lost_one_in: 1000, ..Behaviour::default() });
    let ledger = LedgerFile::Create(place.folder.path().to_owned());
    let guest = Guest::start(&[place.socket()], &GuestOptions { ledger, hot_percent: 0, ..GuestOptions::default() });
    let guest = guest.unwrap();
    run_until(&guest, 5000);
    let report = guest.stop();
    served.close();
    assert!(report.disks[0].wrong_blocks > 0 && !report.is_clean());
    assert!(place.judge().blocks_wrong > 0);
}

#[test]
fn a_disk_that_is_not_there_is_no_clean_run() {
    let place = Place::new();
    let options = GuestOptions { patience: Duration::from_millis(200), ..GuestOptions::default() };
    let report = Guest::start(&[place.socket()], &options).unwrap().stop();
    assert!(!report.is_clean() && report.disks[0].last_connect_error.is_some());
    assert!(Guest::start(&[place.socket()], &GuestOptions { ring_size: 100, ..options }).is_err());
}

#[test]
fn nonsense_on_the_socket_ends_that_connection_and_nothing_else() {
    use std::io::{Read, Write};
    let place = Place::new();
    let served = place.serve(1, Behaviour::default());
    for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 300], &[1, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f]] {
        let mut stream = UnixStream::connect(place.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(nonsense).unwrap();
        let hung_up = stream.read(&mut [0; 16]);
        assert!(matches!(hung_up, Ok(0) | Err(_)), "the connection ends: {hung_up:?}");
    }
    until("the failure is kept for the log", || served.listener.last_failure().is_some());
    let guest = Guest::start(&[place.socket()], &GuestOptions::default()).unwrap();
    run_until(&guest, 500);
    assert_clean(&guest.stop());
    served.close();
}

#[test]
fn the_socket_is_private_replaces_a_stale_one_and_goes_with_the_listener() {
    let place = Place::new();
    drop(std::os::unix::net::UnixListener::bind(place.socket()).unwrap()); // left behind by a dead process
    let served = place.serve(1, Behaviour::default());
    let mode = std::fs::metadata(place.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(served.listener.peer_pid(), None);
    let front_end = UnixStream::connect(place.socket()).unwrap();
    until("the peer is known", || served.listener.peer_pid() == Some(std::process::id() as i32));
    drop(front_end);
    until("the peer is gone", || served.listener.peer_pid().is_none());
    let connected = UnixStream::connect(place.socket()).unwrap();
    until("somebody is connected", || served.listener.peer_pid().is_some());
    served.close(); // also with a front end that says nothing
    drop(connected);
    assert!(!place.socket().exists());
    let names: Vec<_> = std::fs::read_dir(place.folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["disk.img"], "nothing is left behind");
}

#[test]
fn a_path_too_long_for_a_socket_and_a_wrong_number_of_queues_are_refused() {
    let place = Place::new();
    let served = place.serve(2, Behaviour::default());
    let long = place.folder.path().join("x".repeat(100));
    let error = listen(&long, served.disk.door(), served.disk.facts(), 2).err().unwrap();
    assert!(error.message.contains("too long"), "{error}");
    let error = listen(&place.socket(), served.disk.door(), served.disk.facts(), 3).err().unwrap();
    assert!(error.message.contains("2 queues"), "{error}");
    assert!(VhostUserBlk::new(0, "").is_err() && VhostUserBlk::new(65, "").is_err());
    served.close();
}
