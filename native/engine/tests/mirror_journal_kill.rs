//! A journal's marks after a real kill -9. Alone in its process: a child made by fork shares the locks of every other test's files.

use vmstorage_engine::mirror::*;

const SIZES: [u64; 3] = [10 << 30, 0, 64 * 1024 + 512];

#[test]
fn what_a_mirror_had_marked_when_it_was_killed_are_there_when_its_journal_is_opened_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("move.journal");
    let (journal, writer) = Journal::create(&path, b"{}", &SIZES, [7; 16]).expect("a journal");
    let chunks = SIZES[0].div_ceil(CHUNK_BYTES);
    let map = |words: &SharedWords| SavedMap::new(words.clone(), chunks).expect("room");
    let setups = journal.setups().expect("marks");
    let revocation = journal.revocation().expect("marks");
    let (dirty, intent) = (map(&setups[0].dirty), map(&setups[0].intent));
    // SAFETY: the child only stores into mapped memory and kills itself: nothing that another thread's lock could stop.
    let child = unsafe { libc::fork() };
    if child == 0 {
        dirty.set(3..5);
        intent.set(chunks - 1..chunks);
        revocation.set();
        // SAFETY: plain system calls.
        unsafe {
            libc::kill(libc::getpid(), libc::SIGKILL);
            libc::_exit(1);
        }
    }
    let mut status = 0;
    // SAFETY: waits for the child made above.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL);
    drop((revocation, dirty, intent, setups, journal, writer));

    let (journal, _writer) = Journal::open(&path).expect("open");
    let setups = journal.setups().expect("marks");
    assert!(map(&setups[0].dirty).get(3) && map(&setups[0].dirty).get(4) && !map(&setups[0].dirty).get(5));
    assert!(map(&setups[0].intent).get(chunks - 1));
    assert!(journal.revocation().expect("marks").is_set());
    assert!(setups[2].dirty.as_slice().len() == 1 && setups[1].dirty.as_slice().is_empty());
    let machine =
        Move::resume(MoveLimits::default(), JournalPhase::Mirror, journal.revocation().expect("marks"), setups)
            .expect("resumed");
    assert_eq!(machine.progress().dirty_bytes, 3 * CHUNK_BYTES);
}
