//! The marks of a move over the death of their process.

use super::*;
use crate::disk::ErrorKind;
use crate::mirror::SavedMap;

const ID: [u8; 16] = *b"sixteen letters.";
const BOOT: [u8; 16] = [3; 16];
const SIZES: [u64; 2] = [10 << 30, 64 * 1024 + 512];

#[test]
fn what_is_stored_is_found_by_the_next_that_opens_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("deep/er/vm.marks");
    let marks = Marks::create(&path, ID, BOOT, &SIZES).expect("marks");
    let revocation = marks.revocation().expect("a word");
    assert!(!revocation.is_set());
    revocation.set();
    marks.recorded(7);
    SavedMap::new(marks.setups(&SIZES)[1].intent.clone(), 2).expect("room").set(1..2);
    drop(marks);
    let marks = Marks::open(&path, ID, &SIZES).expect("readable").expect("there");
    assert!(marks.revocation().expect("a word").is_set());
    assert_eq!(marks.sequence(), 7);
    let setups = marks.setups(&SIZES);
    let map = |words: &SharedWords| SavedMap::new(words.clone(), 2).expect("room").words().collect::<Vec<_>>();
    assert_eq!(map(&setups[1].intent), [(0, 0b10)]);
    assert_eq!((map(&setups[1].dirty), map(&setups[0].intent)), (vec![(0, 0)], vec![(0, 0)]));
}

#[test]
fn those_of_another_journal_or_of_another_length_are_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("vm.marks");
    assert!(Marks::open(&path, ID, &SIZES).expect("no error").is_none());
    drop(Marks::create(&path, ID, BOOT, &SIZES).expect("marks"));
    assert!(Marks::open(&path, [9; 16], &SIZES).expect("no error").is_none());
    assert!(Marks::open(&path, ID, &SIZES[..1]).expect("no error").is_none());
    assert!(Marks::open(&path, ID, &SIZES).expect("no error").is_some());
}

#[test]
fn they_tell_a_journal_that_is_missing_from_one_that_never_was_or_has_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("vm.marks");
    assert_eq!(Marks::find(&path, BOOT).expect("no error"), MarksFound::None);
    let marks = Marks::create(&path, ID, BOOT, &SIZES).expect("marks");
    assert_eq!(Marks::find(&path, BOOT).expect("no error"), MarksFound::LeftOver, "no journal was made yet");
    marks.recorded(1);
    assert_eq!(Marks::find(&path, BOOT).expect("no error"), MarksFound::OfAJournal);
    assert_eq!(Marks::find(&path, [4; 16]).expect("no error"), MarksFound::LeftOver, "a power cut came between");
    Marks::begin_ending(&path).expect("no error");
    assert_eq!(Marks::find(&path, BOOT).expect("no error"), MarksFound::LeftOver);
    Marks::remove(&path).and_then(|()| Marks::remove(&path)).expect("removed twice is removed");
}

#[test]
fn every_byte_of_them_has_its_space() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("vm.marks");
    drop(Marks::create(&path, ID, BOOT, &SIZES).expect("marks"));
    let facts = std::fs::metadata(&path).expect("metadata");
    // 10 GiB: 163840 chunks, 20 KiB per bitmap; two chunks: a page each.
    assert_eq!(facts.len(), 4096 + 2 * 20480 + 2 * 4096);
    assert!(facts.blocks() * 512 >= facts.len(), "{} blocks", facts.blocks());
    assert_eq!(facts.mode() & 0o777, 0o600);
}

#[test]
fn a_full_memory_is_no_space_and_leaves_nothing() {
    let shared = Path::new("/dev/shm");
    let is_tmpfs = rustix::fs::statfs(shared).is_ok_and(|facts| facts.f_type as u64 == TMPFS);
    if !is_tmpfs {
        return eprintln!("skipped: /dev/shm is not a tmpfs here");
    }
    let folder = tempfile::tempdir_in(shared).expect("a folder");
    let path = folder.path().join("vm.marks");
    // 4096 disks of 64 TiB: a tebibyte of bitmaps.
    let error = Marks::create(&path, ID, BOOT, &vec![64 << 40; 4096]).expect_err("there is not so much memory");
    assert_eq!(error.kind, ErrorKind::NoSpace, "{error}");
    assert!(!path.exists());
}
