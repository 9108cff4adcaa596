//! The journal under torn writes, damage and a killed process.

use std::os::unix::fs::FileExt;

use super::*;
use crate::mirror::RecordResult;

const BOOT: [u8; 16] = [7; 16];
const PLAN: &[u8] = br#"{"schema":1,"moveId":"m"}"#;
const SIZES: [u64; 3] = [10 << 30, 0, 64 * 1024 + 512];

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// In memory, for what opens a journal thousands of times: each opening syncs.
fn quick_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| folder())
}

fn made(folder: &Path) -> PathBuf {
    let path = folder.join("move.journal");
    Journal::create(&path, PLAN, &SIZES, BOOT).expect("a journal");
    path
}

fn kind(result: Result<(Journal, JournalWriter), DiskError>) -> (ErrorKind, String) {
    match result {
        Ok(_) => panic!("it was accepted"),
        Err(error) => (error.kind, error.to_string()),
    }
}

fn slot(path: &Path, slot: u64) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    File::open(path).expect("open").read_exact_at(&mut bytes, slot * 4096).expect("read");
    bytes
}

fn put(path: &Path, at: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(path).expect("open").write_all_at(bytes, at).expect("write");
}

#[test]
fn what_was_recorded_is_found_again() {
    let folder = folder();
    let path = made(folder.path());
    for phase in [
        JournalPhase::Copy,
        JournalPhase::Mirror,
        JournalPhase::Verify,
        JournalPhase::Prepared,
        JournalPhase::Committed,
    ] {
        let (_, mut writer) = Journal::open(&path).expect("open");
        assert_eq!(writer.record(phase).0, RecordResult::Durable);
        drop(writer);
        let (journal, _) = Journal::open(&path).expect("open again");
        assert_eq!((journal.phase(), journal.plan(), journal.disk_bytes()), (phase, PLAN, &SIZES[..]));
        assert!(journal.is_of_boot(BOOT) && !journal.is_of_boot([8; 16]));
    }
}

/// Any subset of the eight sectors of `new` may have reached a slot that held `old`.
fn torn(old: &[u8], new: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..256u32).map(|landed| {
        let mut torn = old.to_vec();
        for sector in (0..8).filter(|sector| landed >> sector & 1 == 1) {
            let span = sector * 512..(sector + 1) * 512;
            torn[span.clone()].copy_from_slice(&new[span]);
        }
        torn
    })
}

#[test]
fn a_record_torn_in_either_slot_leaves_itself_or_the_one_before_and_then_stands_in_both() {
    let folder = quick_folder();
    let path = made(folder.path());
    let mut before = JournalPhase::Started;
    for phase in [
        JournalPhase::Copy,
        JournalPhase::Mirror,
        JournalPhase::Prepared,
        JournalPhase::Committed,
        JournalPhase::Released,
    ] {
        let old = slot(&path, 0);
        assert_eq!(old, slot(&path, 1));
        let (_, mut writer) = Journal::open(&path).expect("open");
        let first = writer.slot;
        assert_eq!(writer.record(phase).0, RecordResult::Durable);
        drop(writer);
        let new = slot(&path, first);
        assert_eq!(new, slot(&path, first ^ 1), "in both");
        // A crash in the first write, then one in the second.
        for (written, at, other) in [(first, first ^ 1, &old), (first ^ 1, first, &new)] {
            for torn in torn(&old, &new) {
                // The marks of a record that was never reported.
                std::fs::remove_file(JournalPlace::from(&path).marks).ok();
                if other == &old && before.authority() == Side::Source {
                    std::fs::remove_file(witness_of(&path)).ok();
                }
                put(&path, written * 4096, &torn);
                put(&path, at * 4096, other);
                let (journal, _) = Journal::open(&path).expect("always one valid slot");
                let is_new = torn == new || other == &new;
                assert_eq!(journal.phase(), if is_new { phase } else { before });
                assert_eq!(slot(&path, 0), slot(&path, 1), "nothing is acted upon that stands in one slot alone");
            }
        }
        put(&path, 0, &new);
        put(&path, 4096, &new);
        before = phase;
    }
}

#[test]
fn one_byte_of_a_superblock_changed_anywhere_is_the_same_record_or_a_refusal() {
    let folder = quick_folder();
    let path = made(folder.path());
    let (_, mut writer) = Journal::open(&path).expect("open");
    for phase in [JournalPhase::Prepared, JournalPhase::Committed] {
        assert_eq!(writer.record(phase).0, RecordResult::Durable);
    }
    drop(writer);
    let good = std::fs::read(&path).expect("read");
    for at in 0..2 * 4096 {
        for flip in [0x01, 0x80, 0xff] {
            put(&path, at, &[good[at as usize] ^ flip]);
            let (journal, _) = Journal::open(&path).unwrap_or_else(|error| panic!("byte {at}: {error}"));
            assert_eq!(journal.phase(), JournalPhase::Committed, "byte {at}");
            assert_eq!(std::fs::read(&path).expect("read"), good, "and it is mended");
        }
    }
}

#[test]
fn one_byte_of_the_plan_changed_anywhere_is_a_refusal() {
    let folder = quick_folder();
    let path = made(folder.path());
    let good = std::fs::read(&path).expect("read");
    for (at, byte) in good.iter().enumerate().skip(8192).take(PLAN.len()) {
        put(&path, at as u64, &[byte ^ 0x20]);
        assert_eq!(kind(Journal::open(&path)).0, ErrorKind::Corrupt, "byte {at}");
        put(&path, at as u64, &[*byte]);
    }
    Journal::open(&path).expect("the good one");
}

#[test]
fn an_older_copy_of_it_is_refused_as_long_as_its_marks_know_better() {
    let folder = folder();
    let path = made(folder.path());
    let (journal, mut writer) = Journal::open(&path).expect("open");
    let mut copies = vec![std::fs::read(&path).expect("read")];
    for phase in [JournalPhase::Copy, JournalPhase::Prepared, JournalPhase::Committed] {
        assert_eq!(writer.record(phase).0, RecordResult::Durable);
        copies.push(std::fs::read(&path).expect("read"));
    }
    drop((journal, writer));
    let newest = copies.pop().expect("one");
    for copy in copies {
        std::fs::write(&path, copy).expect("restore");
        let (kind, message) = kind(Journal::open(&path));
        assert!(kind == ErrorKind::Corrupt && message.contains("older copy"), "{message}");
    }
    std::fs::write(&path, newest).expect("restore");
    assert_eq!(Journal::open(&path).expect("open").0.phase(), JournalPhase::Committed);
}

#[test]
fn superblocks_of_two_journals_are_refused() {
    let folder = folder();
    let path = made(folder.path());
    let other = folder.path().join("other.journal");
    Journal::create(&other, PLAN, &SIZES, BOOT).expect("a journal");
    put(&path, 4096, &slot(&other, 0));
    let (kind, message) = kind(Journal::open(&path));
    assert!(kind == ErrorKind::Corrupt && message.contains("of one journal"), "{message}");
}

#[test]
fn damage_is_an_error_that_names_the_rule() {
    let folder = folder();
    let path = made(folder.path());
    let good = std::fs::read(&path).expect("read");
    let expect = |rule: &str| {
        let (kind, message) = kind(Journal::open(&path));
        assert_eq!(kind, ErrorKind::Corrupt, "{message}");
        assert!(message.contains(rule), "{message}");
    };
    let both = |at: u64, bytes: &[u8]| [at, 4096 + at].map(|at| put(&path, at, bytes));
    both(100, b"x");
    expect("the checksum of a superblock");
    std::fs::write(&path, &good).expect("write");
    both(0, b"X");
    expect("begins with VMSTMOVE");
    std::fs::write(&path, &good).expect("write");
    both(0, &[0; 4096]);
    expect("both are empty");
    std::fs::write(&path, &good).expect("write");
    put(&path, 8192, b"[");
    expect("the checksum of the plan");
    std::fs::write(&path, &good[..good.len() - 1]).expect("write");
    expect("its length");
    std::fs::write(&path, &good[..5000]).expect("write");
    expect("two superblocks");
    std::fs::write(&path, b"").expect("write");
    expect("two superblocks");
    std::fs::write(&path, &good).expect("write");
    Journal::open(&path).expect("the good one still opens");
}

#[test]
fn numbers_that_make_no_sense_are_refused_even_with_a_right_checksum() {
    let facts = Facts {
        sequence: 1,
        phase: JournalPhase::Copy,
        boot_id: BOOT,
        plan_bytes: 5,
        plan_checksum: 0,
        disk_bytes: vec![1 << 20],
        id: [5; 16],
    };
    let with = |at: usize, bytes: &[u8]| {
        let mut block = facts.encode().as_bytes().to_vec();
        block[at..at + bytes.len()].copy_from_slice(bytes);
        block[12..16].fill(0);
        let checksum = crc32c(&block);
        block[12..16].copy_from_slice(&checksum.to_le_bytes());
        Facts::decode(&block)
    };
    assert_eq!(with(0, b"V"), Ok(facts.clone()));
    assert_eq!(with(24, &77u32.to_le_bytes()), Err(Flaw::Rule("the phase is one of 1 to 9")));
    assert_eq!(with(28, &257u32.to_le_bytes()), Err(Flaw::Rule("a move has at most 256 disks")));
    assert_eq!(with(48, &u64::MAX.to_le_bytes()), Err(Flaw::Rule("the plan has at most 16 MiB")));
    assert_eq!(with(72, &u64::MAX.to_le_bytes()), Err(Flaw::Rule("a disk has at most 64 TiB")));
    assert_eq!(with(48, &5000u64.to_le_bytes()), Err(Flaw::Rule("the length of the file follows from the plan")));
    assert_eq!(with(8, &3u32.to_le_bytes()), Err(Flaw::Version(3)));
}

#[test]
fn a_journal_in_use_is_locked_until_reader_and_writer_are_gone() {
    let folder = folder();
    let path = folder.path().join("move.journal");
    let (journal, writer) = Journal::create(&path, PLAN, &SIZES, BOOT).expect("a journal");
    assert_eq!(kind(Journal::open(&path)).0, ErrorKind::Locked);
    drop(journal);
    assert_eq!(kind(Journal::open(&path)).0, ErrorKind::Locked, "the writer still holds it");
    drop(writer);
    Journal::open(&path).expect("free");
}

#[test]
fn it_appears_whole_or_not_at_all() {
    let folder = folder();
    let path = folder.path().join("move.journal");
    assert_eq!(kind(Journal::open(&path)).0, ErrorKind::NotFound);
    std::fs::write(folder.path().join("move.journal.new"), b"half").expect("a draft left by a crash");
    assert_eq!(kind(Journal::open(&path)).0, ErrorKind::NotFound);
    Journal::create(&path, PLAN, &SIZES, BOOT).expect("the draft is no obstacle");
    assert_eq!(kind(Journal::create(&path, b"other", &SIZES, BOOT)).0, ErrorKind::AlreadyExists);
    assert_eq!(Journal::open(&path).expect("unharmed").0.plan(), PLAN);
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("list").collect();
    assert_eq!(left.len(), 2, "itself and its marks: no draft is left");
    Journal::remove(&path).expect("removed");
    Journal::remove(&path).expect("removed twice is removed");
    assert_eq!(kind(Journal::open(&path)).0, ErrorKind::NotFound);
    assert_eq!(kind(Journal::create(&path, PLAN, &[1; 257], BOOT)).0, ErrorKind::InvalidArgument);
}

#[test]
fn it_is_small_whatever_the_disks_and_nobody_elses() {
    use std::os::unix::fs::MetadataExt;
    let folder = folder();
    let path = folder.path().join("move.journal");
    Journal::create(&path, PLAN, &[2 << 40], BOOT).expect("a journal");
    let facts = std::fs::metadata(&path).expect("metadata");
    assert_eq!(facts.len(), 8192 + 4096);
    assert_eq!(facts.mode() & 0o777, 0o600);
}

#[test]
fn it_goes_with_its_marks_and_marks_alone_say_that_it_is_missing() {
    let folder = folder();
    let path = made(folder.path());
    let place = JournalPlace::from(&path);
    assert!(place.marks.exists());
    std::fs::remove_file(&path).expect("lost");
    assert_eq!(Journal::missing(&place, BOOT).expect("no error"), MarksFound::OfAJournal);
    drop(std::fs::remove_file(&place.marks));
    let path = made(folder.path());
    Journal::remove(&path).expect("removed");
    assert!(!place.marks.exists());
    assert_eq!(Journal::missing(&place, BOOT).expect("no error"), MarksFound::None);
}

#[test]
fn a_move_without_disks_has_a_journal_too() {
    let folder = folder();
    let path = folder.path().join("move.journal");
    Journal::create(&path, PLAN, &[], BOOT).expect("a journal");
    assert!(Journal::open(&path).expect("open").0.setups().expect("marks").is_empty());
}

#[test]
fn a_record_that_cannot_be_written_says_so_and_keeps_the_last_good_one() {
    let folder = folder();
    let path = made(folder.path());
    let (journal, mut writer) = Journal::open(&path).expect("open");
    writer.record(JournalPhase::Prepared);
    let slot = writer.slot;
    let good = std::mem::replace(&mut writer.file, File::open(&path).expect("read-only"));
    let (result, error) = writer.record(JournalPhase::Committed);
    assert_eq!((result, writer.slot), (RecordResult::Failed, slot));
    assert_eq!(self::slot(&path, 0), self::slot(&path, 1), "neither slot was touched");
    assert!(error.is_some());
    writer.file = good;
    drop((journal, writer));
    let (journal, mut writer) = Journal::open(&path).expect("open");
    assert_eq!(journal.phase(), JournalPhase::Prepared);
    assert_eq!(writer.record(JournalPhase::Committed).0, RecordResult::Durable);
}

fn witness_of(path: &Path) -> PathBuf {
    Witness::of(path).expect("looked for").path().to_owned()
}

/// A journal with these records, its file as it was after each, and the last.
fn recorded(folder: &Path, phases: &[JournalPhase]) -> (PathBuf, Vec<Vec<u8>>) {
    let path = made(folder);
    let mut copies = vec![std::fs::read(&path).expect("read")];
    let (_, mut writer) = Journal::open(&path).expect("open");
    for phase in phases {
        assert_eq!(writer.record(*phase).0, RecordResult::Durable);
        copies.push(std::fs::read(&path).expect("read"));
    }
    (path, copies)
}

const TO_COMMITTED: [JournalPhase; 5] =
    [JournalPhase::Copy, JournalPhase::Mirror, JournalPhase::Verify, JournalPhase::Prepared, JournalPhase::Committed];

#[test]
fn after_a_reboot_no_older_copy_from_before_the_switch_is_believed_behind_it() {
    for later in [&[][..], &[JournalPhase::Released], &[JournalPhase::Released, JournalPhase::Deleted]] {
        let folder = folder();
        let (path, copies) = recorded(folder.path(), &[&TO_COMMITTED[..], later].concat());
        let (before, since) = copies.split_at(TO_COMMITTED.len());
        for older in before {
            // The machine has gone down: nothing in memory knows better.
            std::fs::remove_file(JournalPlace::from(&path).marks).ok();
            std::fs::write(&path, older).expect("restored");
            let (kind, message) = kind(Journal::open(&path));
            assert_eq!(kind, ErrorKind::Corrupt, "{message}");
            assert!(message.contains("older copy") && message.contains(".committed'"), "{message}");
            assert_eq!(&std::fs::read(&path).expect("read"), older, "and nothing is written into it");
        }
        for older in since {
            std::fs::write(&path, older).expect("restored");
            assert_eq!(Journal::open(&path).expect("the same side").0.phase().authority(), Side::Target);
        }
    }
}

#[test]
fn a_journal_whose_witness_stands_is_missing_also_after_a_reboot_and_no_other_takes_its_place() {
    let folder = folder();
    let (path, _) = recorded(folder.path(), &TO_COMMITTED);
    std::fs::remove_file(JournalPlace::from(&path).marks).ok();
    std::fs::remove_file(&path).expect("lost");
    let missing = Journal::missing(&JournalPlace::from(&path), [8; 16]).expect_err("it is missing");
    assert_eq!(missing.kind, ErrorKind::Corrupt, "{missing}");
    assert_eq!(kind(Journal::create(&path, PLAN, &SIZES, BOOT)).0, ErrorKind::Corrupt);
}

#[test]
fn a_switch_that_was_taken_back_leaves_no_witness() {
    for back in [JournalPhase::Mirror, JournalPhase::Cancelled] {
        let folder = folder();
        let (path, copies) = recorded(folder.path(), &[&TO_COMMITTED[..], &[back]].concat());
        assert!(!witness_of(&path).exists());
        assert_eq!(Journal::open(&path).expect("open").0.phase(), back);
        // Killed between the witness and the slots: COMMITTED stands alone, and is completed by who opens it.
        std::fs::write(&path, &copies[TO_COMMITTED.len()]).expect("the moment before");
        std::fs::remove_file(JournalPlace::from(&path).marks).ok();
        assert_eq!(Journal::open(&path).expect("open").0.phase(), JournalPhase::Committed);
        assert!(witness_of(&path).exists(), "before anybody acts upon it");
    }
}

#[test]
fn committed_is_not_reported_without_its_witness_and_the_end_leaves_none() {
    let folder = folder();
    let (path, _) = recorded(folder.path(), &TO_COMMITTED[..4]);
    let (_journal, mut writer) = Journal::open(&path).expect("open");
    // Where the witness has to be nothing can be made: a folder of its journal that has gone.
    let place =
        std::mem::replace(&mut writer.witness, Witness::of(&folder.path().join("gone/move.journal")).expect("absent"));
    let (result, error) = writer.record(JournalPhase::Committed);
    assert_eq!(result, RecordResult::Unknown);
    assert!(error.is_some_and(|error| error.to_string().contains("move.journal.committed")));
    writer.witness = place;
    assert_eq!(writer.record(JournalPhase::Committed).0, RecordResult::Durable);
    assert!(witness_of(&path).exists());
    Journal::remove(&path).expect("removed");
    assert_eq!(std::fs::read_dir(folder.path()).expect("list").count(), 0);
}
