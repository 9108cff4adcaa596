//! What a well-behaved client sees, request by request.

use vmstorage_engine::disk::RequestKind;
use vmstorage_engine::exports::Export;

use crate::client::*;
use crate::memory_disk::Logged;
use crate::runner::{Runner, Setup};

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|n| (n / 512) as u8 ^ (n as u8) ^ seed).collect()
}

fn steady() -> Setup {
    Setup { shuffle: false, ..Setup::default() }
}

fn open(setup: Setup, structured: bool) -> (Runner, Client) {
    let runner = Runner::start(setup);
    let client = Client::open(&runner.socket(), structured);
    (runner, client)
}

#[test]
fn what_was_written_is_read_in_both_kinds_of_reply() {
    let (runner, mut client) = open(Setup::default(), true);
    let mut simple = Client::open(&runner.socket(), false);
    for (cookie, &(offset, len)) in
        [(0u64, 512usize), (512, 4096), (1 << 20, 65536), (3 << 20, 1 << 20), (8 << 20, 32 << 20)].iter().enumerate()
    {
        let data = pattern(len, cookie as u8 + 1);
        client.write(0, cookie as u64, offset, &data);
        assert_eq!(client.error_of(cookie as u64), 0);
        client.request(0, READ, 100, offset, len as u32);
        assert!(client.content_of(100, offset, len as u32).0 == data);
        simple.request(0, READ, 7, offset, len as u32);
        assert_eq!(simple.error_of(7), 0);
        assert!(simple.take(len) == data);
    }
}

#[test]
fn holes_are_answered_without_asking_the_disk() {
    let (runner, mut client) = open(steady(), true);
    client.request(0, READ, 1, 0, 32 << 20);
    let (content, chunks) = client.content_of(1, 0, 32 << 20);
    assert!(content.iter().all(|&byte| byte == 0));
    assert_eq!(chunks, [(0, 32 << 20, true)]);
    assert_eq!(runner.disk(|disk| std::mem::take(&mut disk.log)), []);

    runner.disk(|disk| {
        disk.write(8192, &[1; 4096]);
        disk.write(65536, &[2; 8192]);
    });
    client.request(0, READ, 2, 4608, 131_072 - 4608);
    let (content, chunks) = client.content_of(2, 4608, 131_072 - 4608);
    assert!(content == runner.disk(|disk| disk.contents(131_072))[4608..]);
    assert_eq!(
        chunks,
        [(4608, 3584, true), (8192, 4096, false), (12288, 53248, true), (65536, 8192, false), (73728, 57344, true)]
    );
    let asked = runner.disk(|disk| disk.log.clone());
    let read = |offset, len| Logged { kind: RequestKind::Read, offset, len, fua: false };
    assert_eq!(asked, [read(8192, 4096), read(65536, 8192)]);
}

#[test]
fn a_fragmented_large_read_comes_back_in_chunks_that_fit() {
    let (runner, mut client) = open(Setup::default(), true);
    runner.disk(|disk| (0..400u64).for_each(|n| disk.write(n * 16384, &pattern(8192, n as u8))));
    let len = 7 << 20;
    client.request(0, READ, 1, 0, len);
    let (content, chunks) = client.content_of(1, 0, len);
    assert!(content == runner.disk(|disk| disk.contents(u64::from(len))));
    assert!(chunks.len() <= 64);
}

#[test]
fn dont_fragment_gets_one_chunk() {
    let (runner, mut client) = open(Setup::default(), true);
    runner.disk(|disk| disk.write(65536, &[7; 4096]));
    client.request(DF, READ, 1, 0, 262_144);
    assert_eq!(client.content_of(1, 0, 262_144).1, [(0, 262_144, false)]);
    client.request(DF, READ, 2, 1 << 20, 262_144);
    assert_eq!(client.content_of(2, 1 << 20, 262_144).1, [(1 << 20, 262_144, true)]);
}

#[test]
fn a_read_that_fails_in_one_piece_fails_as_a_whole() {
    let (runner, mut client) = open(Setup::default(), true);
    runner.disk(|disk| {
        disk.write(0, &[1; 4096]);
        disk.write(65536, &[1; 4096]);
        disk.failure = Some((RequestKind::Read, 65536, libc::EIO));
    });
    client.request(0, READ, 9, 0, 131_072);
    assert_eq!(client.error_of(9), 5);
    client.request(0, READ, 10, 0, 4096);
    assert_eq!(client.content_of(10, 0, 4096).0, [1; 4096]);
}

#[test]
fn flags_of_writes_reach_the_disk() {
    let (runner, mut client) = open(steady(), true);
    client.write(FUA, 1, 4096, &[1; 4096]);
    client.write(0, 2, 0, &[1; 512]);
    client.request(FUA, WRITE_ZEROES, 3, 0, 8192);
    client.request(NO_HOLE, WRITE_ZEROES, 4, 8192, 8192);
    client.request(FUA, TRIM, 5, 16384, 8192);
    client.request(FUA, FLUSH, 6, 0, 0);
    client.request(0, CACHE, 7, 0, 8192);
    let mut answered: Vec<u64> = (0..7)
        .map(|_| match client.reply() {
            Reply::Simple { error: 0, cookie } => cookie,
            reply => panic!("{reply:?}"),
        })
        .collect();
    answered.sort_unstable();
    assert_eq!(answered, [1, 2, 3, 4, 5, 6, 7]);
    let mut log = runner.disk(|disk| disk.log.clone());
    let logged = |kind, offset, len, fua| Logged { kind, offset, len, fua };
    let flushes = log.iter().filter(|entry| entry.kind == RequestKind::Flush).count();
    log.retain(|entry| entry.kind != RequestKind::Flush);
    assert_eq!(flushes, 3, "one asked for, and one each behind the zeroing and the trim with FUA");
    assert_eq!(
        log,
        [
            logged(RequestKind::Write, 4096, 4096, true),
            logged(RequestKind::Write, 0, 512, false),
            logged(RequestKind::WriteZeroes { unmap: true }, 0, 8192, false),
            logged(RequestKind::WriteZeroes { unmap: false }, 8192, 8192, false),
            logged(RequestKind::Discard, 16384, 8192, false),
        ]
    );
}

#[test]
fn zeroing_with_fua_is_answered_only_after_its_flush() {
    let (runner, mut client) = open(steady(), false);
    runner.disk(|disk| disk.failure = Some((RequestKind::Flush, 0, libc::EIO)));
    client.request(FUA, WRITE_ZEROES, 1, 0, 4096);
    assert_eq!(client.error_of(1), 5);
    client.request(0, WRITE_ZEROES, 2, 0, 4096);
    assert_eq!(client.error_of(2), 0);
}

#[test]
fn block_status_shows_where_data_lies() {
    let (runner, mut client) = open(Setup::default(), true);
    runner.disk(|disk| disk.write(1 << 20, &[1; 65536]));
    client.request(0, BLOCK_STATUS, 1, 0, 64 << 20);
    assert_eq!(client.status_of(1), [(1 << 20, 3), (65536, 0), ((63 << 20) - 65536, 3)]);
    client.request(REQ_ONE, BLOCK_STATUS, 2, 0, 64 << 20);
    assert_eq!(client.status_of(2), [(1 << 20, 3)]);
}

#[test]
fn refused_requests_are_answered_and_change_nothing() {
    let (runner, mut client) = open(Setup::default(), true);
    let end = 64u64 << 20;
    const SECTOR: [u8; 512] = [9; 512];
    client.write(0, 1, end, &SECTOR);
    assert_eq!(client.error_of(1), 28);
    client.write(0, 2, 1, &SECTOR);
    assert_eq!(client.error_of(2), 22);
    client.write(0, 3, 0, &SECTOR[..511]);
    assert_eq!(client.error_of(3), 22);
    client.write(DF, 4, 0, &SECTOR);
    assert_eq!(client.error_of(4), 22);
    for (cookie, (flags, command, offset, len, error)) in [
        (0, READ, end, 512, 22),
        (0, READ, u64::MAX - 511, 512, 22),
        (0, READ, 0, (32 << 20) + 512, 22),
        (0, READ, 0, 0, 22),
        (0, READ, 512, 100, 22),
        (REQ_ONE, READ, 0, 512, 22),
        (0, WRITE, 0, 0, 22),
        (0, WRITE_ZEROES, end - 512, 1024, 28),
        (FAST_ZERO, WRITE_ZEROES, 0, 4096, 95),
        (NO_HOLE, TRIM, 0, 4096, 22),
        (0, TRIM, end, 512, 22),
        (0, FLUSH, 0, 512, 22),
        (0, BLOCK_STATUS, end, 512, 22),
        (0, CACHE, end, 512, 22),
        (0, 8, 0, 512, 22),
        (0, 999, 0, 512, 22),
        (1 << 15, FLUSH, 0, 0, 22),
    ]
    .into_iter()
    .enumerate()
    {
        client.request(flags, command, cookie as u64, offset, len);
        assert_eq!(client.error_of(cookie as u64), error, "{flags} {command} {offset} {len}");
    }
    assert_eq!(runner.disk(|disk| disk.log.clone()), []);
}

#[test]
fn without_structured_replies_there_is_neither_df_nor_block_status() {
    let (_runner, mut client) = open(Setup::default(), false);
    client.request(DF, READ, 1, 0, 512);
    assert_eq!(client.error_of(1), 22);
    client.request(0, BLOCK_STATUS, 2, 0, 512);
    assert_eq!(client.error_of(2), 22);
}

#[test]
fn a_read_only_export_answers_eperm_and_reads() {
    let (runner, mut client) = open(Setup { read_only: true, ..Setup::default() }, true);
    client.write(0, 1, 0, &[1; 4096]);
    assert_eq!(client.error_of(1), 1);
    for command in [TRIM, WRITE_ZEROES] {
        client.request(0, command, 2, 0, 4096);
        assert_eq!(client.error_of(2), 1);
    }
    client.request(0, FLUSH, 3, 0, 0);
    assert_eq!(client.error_of(3), 0);
    client.request(0, READ, 4, 0, 4096);
    assert_eq!(client.content_of(4, 0, 4096).0, [0; 4096]);
    let written = runner.disk(|disk| disk.log.iter().any(|entry| entry.kind != RequestKind::Flush));
    assert!(!written);
}

#[test]
fn sectors_of_4096_bytes_are_the_unit_where_the_disk_has_them() {
    let (_runner, mut client) = open(Setup { sector: 4096, ..Setup::default() }, true);
    client.write(0, 1, 512, &[1; 4096]);
    assert_eq!(client.error_of(1), 22);
    client.write(0, 2, 4096, &[1; 4096]);
    assert_eq!(client.error_of(2), 0);
}

#[test]
fn errors_of_the_disk_become_errors_of_the_protocol() {
    let (runner, mut client) = open(Setup::default(), true);
    for (errno, error) in
        [(libc::EIO, 5), (libc::ENOSPC, 28), (libc::EDQUOT, 28), (libc::EROFS, 1), (libc::ENXIO, 5), (libc::ENOMEM, 12)]
    {
        runner.disk(|disk| disk.failure = Some((RequestKind::Write, 0, errno)));
        client.write(0, 1, 0, &[1; 512]);
        assert_eq!(client.error_of(1), error);
    }
}

#[test]
fn disconnecting_waits_for_what_was_asked() {
    let (runner, mut client) = open(Setup::default(), true);
    runner.disk(|disk| disk.hold = true);
    for cookie in 0..16 {
        client.write(0, cookie, cookie * 65536, &pattern(65536, cookie as u8));
    }
    client.request(0, DISC, 0, 0, 0);
    runner.until("all writes are under way", |_, cx| cx.requests.len() == 16);
    assert_eq!(runner.call(|server, _| server.connections()), 1);
    runner.disk(|disk| disk.hold = false);
    let mut answered: Vec<u64> = (0..16)
        .map(|_| match client.reply() {
            Reply::Simple { error: 0, cookie } => cookie,
            reply => panic!("{reply:?}"),
        })
        .collect();
    answered.sort_unstable();
    assert_eq!(answered, (0..16).collect::<Vec<_>>());
    assert!(client.is_closed_by_server());
    runner.until("the connection is gone", |server, _| server.connections() == 0);
}

#[test]
fn a_client_that_only_stops_sending_is_still_answered() {
    let (runner, mut client) = open(Setup::default(), true);
    runner.disk(|disk| disk.write(0, &[5; 1 << 20]));
    client.request(0, READ, 1, 0, 1 << 20);
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(client.content_of(1, 0, 1 << 20).0.iter().all(|&byte| byte == 5));
    assert!(client.is_closed_by_server());
}

#[test]
fn no_more_than_a_queue_is_taken_from_one_client_and_others_go_on() {
    let (runner, mut greedy) = open(Setup::default(), true);
    runner.disk(|disk| {
        disk.write(0, &[5; 4096]);
        disk.hold = true;
    });
    let requests: Vec<u8> = (0..1000).flat_map(|cookie| request(0, READ, cookie, 0, 4096)).collect();
    greedy.send(&requests);
    runner.until("the queue is full", |server, _| server.in_flight() == 128);
    let mut other = Client::open(&runner.socket(), true);
    other.request(0, READ, 1, 1 << 20, 4096);
    assert_eq!(other.content_of(1, 1 << 20, 4096).0, [0; 4096]);
    runner.disk(|disk| disk.hold = false);
    let mut seen = [false; 1000];
    for _ in 0..1000 {
        let Reply::Chunk { done: true, kind: 1, cookie, payload } = greedy.reply() else { panic!() };
        assert!(payload[8..] == [5; 4096]);
        assert!(!std::mem::replace(&mut seen[cookie as usize], true));
    }
}

#[test]
fn payload_memory_of_a_connection_is_bounded() {
    let (runner, mut client) = open(Setup::default(), true);
    runner.disk(|disk| {
        disk.write(0, &vec![5; 16 << 20]);
        disk.hold = true;
    });
    (0..8).for_each(|cookie| client.request(0, READ, cookie, 0, 16 << 20));
    runner.until("two reads are under way", |_, cx| cx.requests.len() == 2);
    client.request(0, CACHE, 99, 0, 512);
    let mut other = Client::open(&runner.socket(), true);
    other.request(0, CACHE, 1, 0, 512);
    assert_eq!(other.error_of(1), 0);
    assert_eq!(runner.call(|_, cx| cx.requests.len()), 2);
    runner.disk(|disk| disk.hold = false);
    let mut done = 0;
    while done < 9 {
        match client.reply() {
            Reply::Chunk { done: true, payload, .. } => done += usize::from(payload.len() == (16 << 20) + 8),
            Reply::Simple { error: 0, cookie: 99 } => done += 1,
            reply => panic!("{reply:?}"),
        }
    }
}

#[test]
fn a_warm_data_path_maps_no_memory() {
    let (runner, mut client) = open(Setup::default(), true);
    let mut round = |cookie| {
        for step in 0..16 {
            client.write(0, cookie + step, step * 65536, &pattern(65536, 3));
            client.request(0, READ, cookie + step + 100, step * 65536, 65536);
        }
        for _ in 0..32 {
            client.reply();
        }
    };
    (0..20).for_each(&mut round);
    let warm = runner.call(|server, _| server.buffers_mapped());
    assert!(warm <= 32, "{warm}");
    (0..100).for_each(&mut round);
    assert!(runner.call(|server, _| server.buffers_mapped()) <= 32);
    assert!(runner.call(|server, _| server.buffer_bytes_kept()) > 0);
    drop(client);
    runner.until("nothing is kept for clients that are gone", |server, _| server.buffer_bytes_kept() == 0);
}

#[test]
fn a_buffer_the_engine_still_holds_is_not_reused() {
    let (runner, mut client) = open(steady(), true);
    runner.disk(|disk| disk.keep_references = true);
    for n in 0..8 {
        client.write(0, n, n * 4096, &pattern(4096, n as u8));
        assert_eq!(client.error_of(n), 0);
    }
    assert_eq!(runner.call(|server, _| server.buffers_mapped()), 8);
    runner.disk(|disk| {
        disk.keep_references = false;
        disk.kept.clear();
    });
    for n in 0..8 {
        client.write(0, n, n * 4096, &pattern(4096, n as u8));
        assert_eq!(client.error_of(n), 0);
    }
    assert_eq!(runner.call(|server, _| server.buffers_mapped()), 8);
}

#[test]
fn stopping_answers_what_was_taken_and_removes_the_socket() {
    let (mut runner, mut client) = open(Setup::default(), true);
    let mut idle = Client::open(&runner.socket(), false);
    let mut newcomer = Client::connect(&runner.socket());
    runner.disk(|disk| disk.hold = true);
    client.write(0, 1, 0, &[1; 65536]);
    runner.until("the write is under way", |_, cx| cx.requests.len() == 1);
    runner.stop();
    runner.disk(|disk| disk.hold = false);
    assert_eq!(client.error_of(1), 0);
    assert!(client.is_closed_by_server() && idle.is_closed_by_server() && newcomer.is_closed_by_server());
    runner.join();
    assert!(!runner.socket().exists());
}

#[test]
fn a_write_that_was_only_half_sent_when_the_server_stops_is_not_done() {
    for abort in [false, true] {
        let (mut runner, mut client) = open(Setup::default(), true);
        client.request(0, WRITE, 1, 0, 1 << 20);
        client.send(&[9; 300_000]);
        runner.until("the payload is awaited", |server, _| server.buffers_mapped() == 1);
        if abort {
            runner.call(|server, cx| server.abort(cx))
        } else {
            runner.stop()
        }
        assert!(client.is_closed_by_server());
        runner.join();
        assert_eq!(runner.disk.lock().unwrap().log, []);
    }
}

#[test]
fn aborting_ends_clients_that_never_read() {
    let (mut runner, mut client) = open(Setup::default(), true);
    runner.disk(|disk| disk.write(0, &vec![5; 32 << 20]));
    client.request(0, READ, 1, 0, 32 << 20);
    client.request(0, READ, 2, 0, 32 << 20);
    let disk = std::sync::Arc::clone(&runner.disk);
    let read = move || disk.lock().unwrap().log.len() == 1;
    runner.until("the first answer is on its way", move |server, _| server.in_flight() == 0 && read());
    runner.stop();
    assert_eq!(runner.call(|server, _| server.connections()), 1);
    runner.call(|server, cx| server.abort(cx));
    runner.join();
}

#[test]
fn the_old_way_of_naming_an_export_works() {
    let runner = Runner::start(Setup::default());
    for (flags, zeroes) in [(1u32, 124), (3, 0), (0, 124)] {
        let mut client = Client::connect(&runner.socket());
        client.send(&flags.to_be_bytes());
        client.option(1, b"disk0");
        assert_eq!(client.take(8), (64u64 << 20).to_be_bytes());
        assert_eq!(client.take(2), [0x0c, 0x6d]);
        assert!(client.take(zeroes).iter().all(|&byte| byte == 0));
        client.request(0, READ, 1, 0, 512);
        assert_eq!(client.error_of(1), 0);
        assert_eq!(client.take(512), [0; 512]);
    }
}

#[test]
fn options_are_answered_as_the_protocol_says() {
    const UNSUP: u32 = 1 << 31 | 1;
    const INVALID: u32 = 1 << 31 | 3;
    const UNKNOWN: u32 = 1 << 31 | 6;
    const TOO_BIG: u32 = 1 << 31 | 9;
    let runner = Runner::start(Setup::default());
    let mut client = Client::connect(&runner.socket());
    client.send(&3u32.to_be_bytes());
    for (option, data, kinds) in [
        (3, vec![], vec![2, 1]),
        (3, vec![0], vec![INVALID]),
        (5, vec![], vec![UNSUP]),
        (11, vec![], vec![UNSUP]),
        (0xFFFF_FFFF, vec![1, 2, 3], vec![UNSUP]),
        (9, meta_context("disk0", &[]), vec![INVALID]),
        (10, meta_context("disk0", &["base:allocation"]), vec![INVALID]),
        (8, vec![0], vec![INVALID]),
        (8, vec![], vec![1]),
        (9, meta_context("disk0", &[]), vec![4, 1]),
        (9, meta_context("disk0", &["base:"]), vec![4, 1]),
        (9, meta_context("disk0", &["qemu:"]), vec![1]),
        (9, meta_context("disk1", &[]), vec![UNKNOWN]),
        (10, meta_context("", &["x-other:thing", "base:allocation"]), vec![4, 1]),
        (10, meta_context("disk0", &["base:"]), vec![1]),
        (10, meta_context("disk0", &["base:allocation"]), vec![4, 1]),
        (10, vec![0, 0, 0, 9, 0], vec![INVALID]),
        (6, info(""), vec![3, 3, 1]),
        (6, b"\0\0\0\x05disk0\0\x02\0\x01\0\x03".to_vec(), vec![3, 3, 3, 1]),
        (6, info("disk1"), vec![UNKNOWN]),
        (7, info("disk1"), vec![UNKNOWN]),
        (7, vec![], vec![INVALID]),
        (7, [info("disk0"), vec![0]].concat(), vec![INVALID]),
        (7, info(&"x".repeat(5000)), vec![INVALID]),
        (7, vec![0; 70_000], vec![TOO_BIG]),
        (2, vec![], vec![1]),
    ] {
        client.option(option, &data);
        assert_eq!(client.option_replies(option), kinds, "option {option} with {} bytes", data.len());
    }
    assert!(client.is_closed_by_server());
}

#[test]
fn selecting_contexts_again_replaces_the_first_selection_also_when_it_fails() {
    let runner = Runner::start(Setup::default());
    for second in [meta_context("disk0", &["x-other:thing"]), vec![1, 2, 3]] {
        let mut client = Client::connect(&runner.socket());
        client.send(&3u32.to_be_bytes());
        client.option(8, &[]);
        client.option_replies(8);
        client.option(10, &meta_context("disk0", &["base:allocation"]));
        assert_eq!(client.option_replies(10), [4, 1]);
        client.option(10, &second);
        client.option_replies(10);
        client.option(7, &info("disk0"));
        client.option_replies(7);
        client.request(0, BLOCK_STATUS, 1, 0, 4096);
        assert_eq!(client.error_of(1), 22);
    }
}

#[test]
fn a_context_counts_only_for_the_name_it_was_selected_with() {
    let runner = Runner::start(Setup::default());
    for (name, error) in [("disk0", 0), ("", 22)] {
        let mut client = Client::connect(&runner.socket());
        client.send(&3u32.to_be_bytes());
        client.option(8, &[]);
        client.option_replies(8);
        client.option(10, &meta_context("disk0", &["base:allocation"]));
        client.option_replies(10);
        client.option(7, &info(name));
        client.option_replies(7);
        client.request(0, BLOCK_STATUS, 1, 0, 4096);
        if error == 0 { assert_eq!(client.status_of(1), [(4096, 3)]) } else { assert_eq!(client.error_of(1), error) }
    }
}
