//! Clients that never asked for block sizes are served to the byte, and no byte beside what they ask for changes.

use vmstorage_engine::disk::RequestKind;

use crate::client::*;
use crate::runner::{Runner, Setup};

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn small(sector: u32) -> Setup {
    Setup { size: 256 << 10, sector, ..Setup::default() }
}

fn read(client: &mut Client, structured: bool, offset: u64, len: u32) -> Vec<u8> {
    client.request(0, READ, 9, offset, len);
    if structured {
        return client.content_of(9, offset, len).0;
    }
    assert_eq!(client.error_of(9), 0);
    client.take(len as usize)
}

#[test]
fn whatever_is_written_zeroed_and_read_is_as_on_a_disk_of_bytes() {
    for (sector, structured) in [(512, true), (4096, true), (512, false), (4096, false)] {
        let setup = small(sector);
        let runner = Runner::start(setup);
        let mut client = Client::open_bytewise(&runner.socket(), structured);
        let mut model = vec![0u8; setup.size as usize];
        let mut dice = Dice(0x5eed_0000 + u64::from(sector) + u64::from(structured));
        for step in 0..600u64 {
            // Short ones inside a block, across a border, and long ones; some happen to be whole blocks.
            let most = [3, 700, 20_000][dice.roll(3) as usize];
            let len = 1 + dice.roll(most);
            let offset = dice.roll(setup.size - len + 1);
            let (from, to) = (offset as usize, (offset + len) as usize);
            match dice.roll(4) {
                0 => {
                    let data: Vec<u8> = (0..len).map(|n| (n ^ step) as u8 | 1).collect();
                    client.write([0, FUA][step as usize % 2], step, offset, &data);
                    model[from..to].copy_from_slice(&data);
                    assert_eq!(client.error_of(step), 0);
                }
                1 => {
                    client.request([0, FUA, NO_HOLE][step as usize % 3], WRITE_ZEROES, step, offset, len as u32);
                    model[from..to].fill(0);
                    assert_eq!(client.error_of(step), 0);
                }
                2 => {
                    // Whole blocks inside; the memory disk makes zeros of them.
                    let sector = u64::from(sector);
                    let (inner, end) = (offset.next_multiple_of(sector), (offset + len) / sector * sector);
                    client.request(0, TRIM, step, offset, len as u32);
                    if inner < end {
                        model[inner as usize..end as usize].fill(0);
                    }
                    assert_eq!(client.error_of(step), 0);
                }
                _ => assert!(read(&mut client, structured, offset, len as u32) == model[from..to], "step {step}"),
            }
        }
        assert!(runner.disk(|disk| disk.contents(setup.size)) == model, "{sector}, structured: {structured}");
    }
}

/// Each client has every fourth stripe of 100 bytes, so all blocks are shared by several.
#[test]
fn clients_that_write_into_the_same_blocks_at_once_lose_nothing() {
    const STRIPE: u64 = 100;
    const CLIENTS: u64 = 4;
    for sector in [512, 4096] {
        let setup = small(sector);
        let runner = Runner::start(setup);
        let ask = |owner: u64| {
            let socket = runner.socket();
            move || {
                let mut client = Client::open_bytewise(&socket, true);
                let mut dice = Dice(77 + owner);
                let stripes = setup.size / STRIPE / CLIENTS;
                let mut mine = vec![0u8; stripes as usize];
                for round in 0..60u64 {
                    // Several under way, of different stripes.
                    let first = dice.roll(40);
                    let chosen: Vec<u64> = (0..8).map(|n| first + n).collect();
                    for &stripe in &chosen {
                        let value = (round * 7 + owner + 1) as u8 | 1;
                        let at = (stripe * CLIENTS + owner) * STRIPE;
                        if dice.roll(4) == 0 {
                            client.request(0, WRITE_ZEROES, stripe, at, STRIPE as u32);
                            mine[stripe as usize] = 0;
                        } else {
                            client.write(0, stripe, at, &[value; STRIPE as usize]);
                            mine[stripe as usize] = value;
                        }
                    }
                    for _ in &chosen {
                        let reply = client.reply();
                        assert!(matches!(reply, Reply::Simple { error: 0, .. }), "{reply:?}");
                    }
                }
                mine
            }
        };
        let threads: Vec<_> = (0..CLIENTS).map(|owner| std::thread::spawn(ask(owner))).collect();
        // Beside them a client of whole blocks, behind what they write to.
        let mut whole = Client::open(&runner.socket(), true);
        for step in 0..200u64 {
            whole.write(0, step, setup.size - 4096, &[step as u8; 4096]);
            assert_eq!(whole.error_of(step), 0);
        }
        let contents = |runner: &Runner| runner.disk(|disk| disk.contents(setup.size));
        let all: Vec<Vec<u8>> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let disk = contents(&runner);
        for (owner, mine) in all.iter().enumerate() {
            for (stripe, value) in mine.iter().enumerate().take(48) {
                let at = (stripe * CLIENTS as usize + owner) * STRIPE as usize;
                assert_eq!(disk[at..at + STRIPE as usize], [*value; STRIPE as usize], "{sector}: {owner}, {stripe}");
            }
        }
        assert!(disk[setup.size as usize - 4096..].iter().all(|byte| *byte == 199));
    }
}

#[test]
fn a_client_that_asks_for_block_sizes_is_told_them_and_held_to_them() {
    let runner = Runner::start(small(512));
    let mut asks = Client::open(&runner.socket(), true);
    asks.write(0, 1, 1, &[1; 512]);
    assert_eq!(asks.error_of(1), 22);
    let mut client = Client::connect(&runner.socket());
    client.send(&3u32.to_be_bytes());
    let minimum = |client: &mut Client, wanted: &[u16]| {
        client.option(6, &info_of("disk0", wanted));
        let replies: Vec<OptionReply> = (0..3).map(|_| client.option_reply()).collect();
        u32::from_be_bytes(replies[1].data[2..6].try_into().unwrap())
    };
    assert_eq!((minimum(&mut client, &[]), minimum(&mut client, &[3])), (1, 512));
}

#[test]
fn an_end_that_cannot_be_read_fails_the_request_and_lets_others_go_on() {
    let runner = Runner::start(small(512));
    let mut client = Client::open_bytewise(&runner.socket(), true);
    runner.disk(|disk| disk.failure = Some((RequestKind::Read, 1024, libc::EIO)));
    client.write(0, 1, 1030, &[1; 10]);
    assert_eq!(client.error_of(1), 5);
    runner.disk(|disk| disk.failure = None);
    client.write(0, 2, 1030, &[2; 10]);
    assert_eq!(client.error_of(2), 0);
    client.write(0, 3, 0, &[3; 512]);
    assert_eq!(client.error_of(3), 0);
    let contents = runner.disk(|disk| disk.contents(2048));
    assert_eq!((contents[1029], contents[1030], contents[1039], contents[1040]), (0, 2, 2, 0));
}

/// It has the disk to itself when it goes: who comes after must not wait for it.
#[test]
fn a_client_that_goes_in_the_middle_holds_up_nobody() {
    let runner = Runner::start(small(512));
    let mut stays = Client::open_bytewise(&runner.socket(), true);
    for round in 0..40u64 {
        let mut goes = Client::open_bytewise(&runner.socket(), true);
        for n in 0..4 {
            goes.write(0, n, 5 + n * 3, &[1; 2]);
        }
        drop(goes);
        stays.write(0, round, 2000 + round, &[7]);
        assert_eq!(stays.error_of(round), 0);
    }
}
