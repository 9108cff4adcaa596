//! Clients that break the protocol lose their own connection; a second client notices nothing.

use std::io::Write;
use std::os::unix::net::UnixStream;

use proptest::prelude::*;

use crate::client::*;
use crate::runner::{Runner, Setup};

type Misdeed = fn(&mut Client);

/// Answers as always: the server is alive and in step.
fn assert_serves(runner: &Runner) {
    let mut client = Client::open(&runner.socket(), true);
    client.write(0, 1, 1 << 20, &[0xA5; 4096]);
    assert_eq!(client.error_of(1), 0);
    client.request(0, READ, 2, 1 << 20, 4096);
    assert_eq!(client.content_of(2, 1 << 20, 4096).0, [0xA5; 4096]);
    client.request(0, DISC, 3, 0, 0);
    assert!(client.is_closed_by_server());
}

#[test]
fn violations_close_the_connection() {
    let runner = Runner::start(Setup::default());
    let mut witness = Client::open(&runner.socket(), true);
    let cases: [(&str, Misdeed); 8] = [
        ("unknown client flags", |client| client.send(&0x8000_0003u32.to_be_bytes())),
        ("an option without its magic", |client| client.send(b"\0\0\0\x03IHAVENOPE\0\0\0\x03\0\0\0")),
        ("an option of 4 GiB", |client| client.send(b"\0\0\0\x03IHAVEOPT\0\0\0\x07\xFF\xFF\xFF\xFF")),
        ("an export that does not exist", |client| {
            client.send(&3u32.to_be_bytes());
            client.option(1, b"disk1");
        }),
        ("options from a client that is not fixed newstyle", |client| {
            client.send(&0u32.to_be_bytes());
            client.option(3, &[]);
        }),
        ("negotiation without end", |client| {
            client.send(&3u32.to_be_bytes());
            // The server closes in the middle of it.
            for _ in 0..200 {
                drop(client.stream.write_all(b"IHAVEOPT\0\0\0\x03\0\0\0\0"));
            }
        }),
        ("a request without its magic", |client| {
            client.send(&3u32.to_be_bytes());
            client.option(7, &info(""));
            client.send(&[0; 28]);
        }),
        ("a write of 33 MiB", |client| {
            client.send(&3u32.to_be_bytes());
            client.option(7, &info(""));
            client.request(0, WRITE, 1, 0, 33 << 20);
        }),
    ];
    for (what, act) in cases {
        let mut client = Client::connect(&runner.socket());
        act(&mut client);
        assert!(client.is_closed_by_server(), "{what}");
    }
    witness.request(0, CACHE, 1, 0, 512);
    assert_eq!(witness.error_of(1), 0);
    runner.until("only the witness is left", |server, _| server.connections() == 1);
}

#[test]
fn clients_that_vanish_in_the_middle_leave_nothing_behind() {
    let runner = Runner::start(Setup::default());
    runner.disk(|disk| disk.write(0, &vec![7; 4 << 20]));
    for cut in [0, 2, 10, 17, 19, 27, 40] {
        let mut client = UnixStream::connect(runner.socket()).unwrap();
        let mut bytes = 3u32.to_be_bytes().to_vec();
        bytes.extend(b"IHAVEOPT\0\0\0\x07\0\0\0\x06\0\0\0\0\0\0");
        bytes.extend(request(0, READ, 1, 0, 4 << 20));
        client.write_all(&bytes[..cut]).unwrap();
    }
    for cut in [10, 28, 5000, 60_000] {
        let mut client = Client::open(&runner.socket(), true);
        let mut bytes = request(0, WRITE, 1, 0, 65536);
        bytes.extend([9; 65536]);
        client.send(&bytes[..cut]);
    }
    for _ in 0..4 {
        // Never reads what it asked for.
        let mut client = Client::open(&runner.socket(), true);
        (0..8).for_each(|cookie| client.request(0, READ, cookie, 0, 4 << 20));
    }
    runner.until("all are gone", |server, _| {
        use vmstorage_engine::exports::Export;
        server.connections() == 0 && server.in_flight() == 0
    });
    assert!(runner.disk(|disk| disk.contents(4 << 20)).iter().all(|&byte| byte == 7), "half a write writes nothing");
    assert_serves(&runner);
}

#[test]
fn a_client_that_never_reads_is_not_read_from_for_ever() {
    let runner = Runner::start(Setup::default());
    let mut client = Client::open(&runner.socket(), true);
    client.stream.set_nonblocking(true).unwrap();
    let requests: Vec<u8> = (0..10_000).flat_map(|cookie| request(0, READ, cookie, 0, 4096)).collect();
    let (mut sent, mut turns_stalled) = (0, 0);
    // Stalls once the server has stopped reading and both sockets are full.
    while turns_stalled < 200 {
        match client.stream.write(&requests[sent % requests.len()..]) {
            Ok(count) => (sent, turns_stalled) = (sent + count, 0),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                runner.until("a turn has passed", |_, _| true);
                turns_stalled += 1;
            }
            Err(error) => panic!("{error}"),
        }
        assert!(sent < 64 << 20, "requests are taken without end");
    }
    assert_serves(&runner);
}

#[test]
fn more_clients_than_places_wait_their_turn() {
    let runner = Runner::start(Setup::default());
    let mut clients: Vec<Client> = (0..16).map(|_| Client::open(&runner.socket(), true)).collect();
    let waiting = UnixStream::connect(runner.socket()).unwrap();
    assert_eq!(runner.call(|server, _| server.connections()), 16);
    clients.pop();
    let mut waiting = Client { stream: waiting };
    assert_eq!(waiting.take(8), b"NBDMAGIC");
    assert_eq!(runner.call(|server, _| server.connections()), 16);
}

/// A valid session: negotiation, writes, reads, status, trim, disconnect.
fn session() -> Vec<u8> {
    let option = |option: u32, data: &[u8]| {
        let mut bytes = b"IHAVEOPT".to_vec();
        bytes.extend(option.to_be_bytes());
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(data);
        bytes
    };
    let mut bytes = 3u32.to_be_bytes().to_vec();
    bytes.extend(option(8, &[]));
    bytes.extend(option(9, &meta_context("", &[])));
    bytes.extend(option(10, &meta_context("disk0", &["base:allocation"])));
    bytes.extend(option(6, &info("disk0")));
    bytes.extend(option(7, &info("disk0")));
    bytes.extend(request(FUA, WRITE, 1, 0, 4096));
    bytes.extend([3; 4096]);
    bytes.extend(request(0, READ, 2, 0, 65536));
    bytes.extend(request(REQ_ONE, BLOCK_STATUS, 3, 0, 1 << 20));
    bytes.extend(request(0, WRITE_ZEROES, 4, 8192, 8192));
    bytes.extend(request(0, TRIM, 5, 8192, 8192));
    bytes.extend(request(0, WRITE, 6, 65536, 20_480));
    bytes.extend([4; 20_480]);
    bytes.extend(request(0, FLUSH, 7, 0, 0));
    bytes.extend(request(0, DISC, 8, 0, 0));
    bytes
}

/// Sends everything, closes its side, and waits for the server to close: it always does.
fn offer(runner: &Runner, bytes: &[u8]) {
    let mut client = Client { stream: UnixStream::connect(runner.socket()).unwrap() };
    client.stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let mut reader = Client { stream: client.stream.try_clone().unwrap() };
    let reading = std::thread::spawn(move || reader.is_closed_by_server());
    // The server may close before it has read everything.
    drop(client.stream.write_all(bytes));
    drop(client.stream.shutdown(std::net::Shutdown::Write));
    assert!(reading.join().unwrap());
}

#[test]
fn any_bytes_at_all_end_in_a_closed_connection_and_a_living_server() {
    let runner = Runner::start(Setup { size: 1 << 20, ..Setup::default() });
    let valid = session();
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..2000),
        // Changed in a few places.
        prop::collection::vec((0..valid.len(), any::<u8>()), 1..6).prop_map({
            let valid = valid.clone();
            move |changes| {
                let mut bytes = valid.clone();
                changes.into_iter().for_each(|(at, byte)| bytes[at] = byte);
                bytes
            }
        }),
        // A part left out, or said twice.
        (0..valid.len(), 0..valid.len(), any::<bool>()).prop_map({
            let valid = valid.clone();
            move |(a, b, twice)| {
                let (from, to) = (a.min(b), a.max(b));
                if twice { [&valid[..to], &valid[from..]].concat() } else { [&valid[..from], &valid[to..]].concat() }
            }
        }),
    ];
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(bytes in bytes)| offer(&runner, &bytes));
    drop(runner);
    let runner = Runner::start(Setup::default());
    offer(&runner, &valid);
    assert_serves(&runner);
}
