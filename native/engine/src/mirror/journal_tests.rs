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

#[test]
fn a_record_torn_at_any_sector_leaves_the_one_before() {
    let folder = folder();
    let path = made(folder.path());
    let phases = [
        JournalPhase::Copy,
        JournalPhase::Mirror,
        JournalPhase::Prepared,
        JournalPhase::Committed,
        JournalPhase::Released,
    ];
    let mut before = JournalPhase::Started;
    for phase in phases {
        let old = [slot(&path, 0), slot(&path, 1)];
        let (_, mut writer) = Journal::open(&path).expect("open");
        let target = writer.slot;
        assert_eq!(writer.record(phase).0, RecordResult::Durable);
        drop(writer);
        let new = slot(&path, target);
        assert_eq!(slot(&path, target ^ 1), old[target as usize ^ 1], "the good slot is not touched");
        // Any subset of the eight sectors may have reached the disk.
        for landed in 0..256u32 {
            let mut torn = old[target as usize].clone();
            for sector in (0..8).filter(|sector| landed >> sector & 1 == 1) {
                let span = sector * 512..(sector + 1) * 512;
                torn[span.clone()].copy_from_slice(&new[span]);
            }
            put(&path, target * 4096, &torn);
            let (journal, writer) = Journal::open(&path).expect("always one valid slot");
            let whole = torn == new;
            assert_eq!(journal.phase(), if whole { phase } else { before }, "sectors {landed:08b}");
            assert_eq!(
                writer.slot,
                if whole { target ^ 1 } else { target },
                "the next record never hits the good slot"
            );
        }
        put(&path, target * 4096, &new);
        before = phase;
    }
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
    put(&path, 100, b"x");
    expect("the checksum of a superblock");
    std::fs::write(&path, &good).expect("write");
    put(&path, 0, b"X");
    expect("begins with VMSTMOVE");
    std::fs::write(&path, &good).expect("write");
    put(&path, 0, &[0; 4096]);
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
    assert_eq!(
        with(72, &(1u64 << 40).to_le_bytes()),
        Err(Flaw::Rule("the length of the file follows from the plan and the disks"))
    );
    assert_eq!(with(8, &2u32.to_le_bytes()), Err(Flaw::Version(2)));
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
    assert_eq!(left.len(), 1, "no draft is left");
    Journal::remove(&path).expect("removed");
    Journal::remove(&path).expect("removed twice is removed");
    assert_eq!(kind(Journal::open(&path)).0, ErrorKind::NotFound);
    assert_eq!(kind(Journal::create(&path, PLAN, &[1; 257], BOOT)).0, ErrorKind::InvalidArgument);
}

#[test]
fn every_byte_of_it_is_allocated() {
    use std::os::unix::fs::MetadataExt;
    let folder = folder();
    let path = made(folder.path());
    let facts = std::fs::metadata(&path).expect("metadata");
    // 10 GiB: 163840 chunks, 20 KiB per bitmap; nothing; two chunks: a page each.
    assert_eq!(facts.len(), 8192 + 4096 + 2 * 20480 + 2 * 4096);
    assert!(facts.blocks() * 512 >= facts.len(), "{} blocks", facts.blocks());
    assert_eq!(facts.mode() & 0o777, 0o600);
}

#[test]
fn a_move_without_disks_has_a_journal_too() {
    let folder = folder();
    let path = folder.path().join("move.journal");
    Journal::create(&path, PLAN, &[], BOOT).expect("a journal");
    assert!(Journal::open(&path).expect("open").0.setups().is_empty());
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
    assert!(error.is_some());
    writer.file = good;
    drop((journal, writer));
    let (journal, mut writer) = Journal::open(&path).expect("open");
    assert_eq!(journal.phase(), JournalPhase::Prepared);
    assert_eq!((writer.slot, writer.record(JournalPhase::Committed).0), (slot, RecordResult::Durable));
}
