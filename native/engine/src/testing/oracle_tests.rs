use super::*;
use crate::testing::block::fill;

const BLOCK: u32 = 4096;

fn ledger() -> Ledger {
    Ledger::create(None, 7, 1 << 20, BLOCK, InitialContent::Zeros).unwrap()
}

fn block(number: u64) -> ByteRange {
    ByteRange::new(number * 4096, 4096)
}

/// Whether block 0 may hold what write `sequence` (0: zeros) puts there.
fn may_hold(ledger: &Ledger, sequence: u64) -> bool {
    let verdict = verify_image(ledger, |offset, data| {
        data.fill(0);
        if offset == 0 && sequence != 0 {
            fill(&mut data[..4096], 7, 0, sequence);
        }
        Ok(())
    });
    verdict.unwrap().blocks_wrong == 0
}

#[test]
fn an_acknowledged_write_replaces_what_was_acknowledged_before_it() {
    let mut ledger = ledger();
    assert!(may_hold(&ledger, 0));
    let a = ledger.submit(block(0), false).unwrap();
    assert!(may_hold(&ledger, 0) && may_hold(&ledger, a), "in flight: either");
    ledger.acknowledge(block(0), a);
    assert!(!may_hold(&ledger, 0) && may_hold(&ledger, a), "a lost acknowledged write is found");
    let b = ledger.submit(block(0), false).unwrap();
    ledger.acknowledge(block(0), b);
    assert!(!may_hold(&ledger, a), "a stale block is found");
}

#[test]
fn of_overlapping_writes_any_may_be_on_top() {
    let mut ledger = ledger();
    let a = ledger.submit(block(0), false).unwrap();
    let b = ledger.submit(block(0), false).unwrap();
    ledger.acknowledge(block(0), b);
    ledger.acknowledge(block(0), a);
    assert!(may_hold(&ledger, a) && may_hold(&ledger, b) && !may_hold(&ledger, 0));
    let mixed = verify_image(&ledger, |offset, data| {
        data.fill(0);
        if offset == 0 {
            fill(&mut data[..4096], 7, 0, a);
            fill(&mut data[512..1024], 7, 512, b);
        }
        Ok(())
    });
    assert_eq!(mixed.unwrap().blocks_wrong, 0, "by sectors, too");
    let c = ledger.submit(block(0), false).unwrap();
    ledger.acknowledge(block(0), c);
    assert!(!may_hold(&ledger, a) && !may_hold(&ledger, b) && may_hold(&ledger, c));
}

#[test]
fn a_failed_write_is_possible_until_a_later_one_is_acknowledged() {
    let mut ledger = ledger();
    let a = ledger.submit(block(0), false).unwrap();
    ledger.fail(block(0), a);
    assert!(may_hold(&ledger, a) && may_hold(&ledger, 0));
    let zeros = ledger.submit(block(0), true).unwrap();
    ledger.acknowledge(block(0), zeros);
    assert!(!may_hold(&ledger, a) && may_hold(&ledger, 0));
}

#[test]
fn a_read_may_see_whatever_was_legal_at_any_time_while_it_ran() {
    let mut ledger = ledger();
    let mut content = vec![0; 4096];
    let a = ledger.submit(block(0), false).unwrap();
    ledger.acknowledge(block(0), a);
    let mut read = ReadInFlight::default();
    ledger.start_read(block(0), &mut read);
    let b = ledger.submit(block(0), false).unwrap();
    ledger.acknowledge(block(0), b);
    let c = ledger.submit(block(0), false).unwrap();
    ledger.acknowledge(block(0), c);
    for (sequence, expected) in [(a, 0), (b, 0), (c, 0), (1, 1)] {
        fill(&mut content, 7, 0, sequence);
        assert_eq!(ledger.judge(&read, &content, &mut None), expected, "{sequence} of {a} {b} {c}");
    }
    content.fill(0);
    let mut why = None;
    assert_eq!(ledger.judge(&read, &content, &mut why), 1, "zeros were legal before, not since");
    assert!(why.unwrap().contains("disk 7 at byte 0"));
}

#[test]
fn a_block_takes_a_bounded_number_of_undecided_writes() {
    let mut ledger = ledger();
    let submitted = (0..20).filter(|_| ledger.submit(block(3), false).is_some()).count();
    assert_eq!(submitted, SLOTS - 1, "one slot holds the initial content");
}

#[test]
fn another_process_reads_the_same_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let mut ledger = Ledger::create(Some(&path), 7, 1 << 20, BLOCK, InitialContent::Zeros).unwrap();
    let a = ledger.submit(block(0), false).unwrap();
    ledger.acknowledge(block(0), a);
    let other = Ledger::open(&path).unwrap();
    assert!(may_hold(&other, a) && !may_hold(&other, 0));
    std::fs::write(&path, [0; 100]).unwrap();
    assert!(Ledger::open(&path).is_err());
}

#[test]
fn of_a_disk_with_unknown_content_only_written_blocks_are_judged() {
    let mut ledger = Ledger::create(None, 7, 1 << 20, BLOCK, InitialContent::Unknown).unwrap();
    let garbage = |_: u64, data: &mut [u8]| -> io::Result<()> {
        data.fill(0x5a);
        Ok(())
    };
    assert_eq!(verify_image(&ledger, garbage).unwrap().blocks_wrong, 0);
    let a = ledger.submit(block(0), false).unwrap();
    ledger.acknowledge(block(0), a);
    assert_eq!(verify_image(&ledger, garbage).unwrap().blocks_wrong, 1);
}

#[test]
fn a_sector_half_old_and_half_new_is_a_finding_unless_a_write_ran_beside_the_read() {
    let mut ledger = ledger();
    let a = ledger.submit(block(0), false).unwrap();
    ledger.acknowledge(block(0), a);
    let torn = |ledger: &Ledger, read: &ReadInFlight, b: u64| {
        let (mut content, mut newer) = (vec![0; 4096], vec![0; 4096]);
        fill(&mut content, 7, 0, a);
        fill(&mut newer, 7, 0, b);
        content[..256].copy_from_slice(&newer[..256]);
        ledger.judge(read, &content, &mut None)
    };
    let mut read = ReadInFlight::default();
    ledger.start_read(block(0), &mut read);
    assert_eq!(torn(&ledger, &read, a + 9), 1, "no write at all");
    let b = ledger.submit(block(0), false).unwrap();
    assert_eq!(torn(&ledger, &read, b), 0, "submitted after the read");
    ledger.start_read(block(0), &mut read);
    ledger.acknowledge(block(0), b);
    assert_eq!(torn(&ledger, &read, b), 0, "in flight when the read began");
    ledger.start_read(block(0), &mut read);
    assert_eq!(torn(&ledger, &read, b), 1, "over when the read began");
}
