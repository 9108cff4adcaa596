//! How a VHDX behaves for the service that uses it: what is waited for, what failures cost, where new blocks come from.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod vhdx_support;

use std::os::unix::fs::FileExt;

use uuid::Uuid;
use vhdx_support::crash_file::CrashFile;
use vhdx_support::{MIB, close, drain, new_image, pattern, perform, read_disk, write_disk};
use vmstorage_engine::disk::{ByteRange, ErrorKind};
use vmstorage_engine::file::{ReadAt, WriteAt};
use vmstorage_engine::formats::vhdx::{
    CarriedItem, CreateOptions, Overlay, VhdxIdentity, VhdxKind, VhdxMap, inspect, open,
};
use vmstorage_engine::formats::{Extent, ImageMap, Mapping, MetaIo, MetaOp};

fn options(kind: VhdxKind, blocks: u64) -> CreateOptions {
    let mut options = CreateOptions::new(kind, blocks * MIB, "behaviour test");
    options.block_bytes = MIB;
    options
}

fn image(kind: VhdxKind, blocks: u64) -> (CrashFile, VhdxMap) {
    let file = CrashFile::of(&new_image(&options(kind, blocks)).unwrap());
    let map = open(&file, true).unwrap().map;
    (file, map)
}

fn block(index: u64) -> ByteRange {
    ByteRange::new(index * MIB, 4096)
}

fn ready(map: &mut VhdxMap) -> Vec<(u64, Result<(), i32>)> {
    let mut out = Vec::new();
    map.take_ready(&mut out);
    out
}

fn map_write(map: &mut VhdxMap, range: ByteRange, waiter: u64) -> Result<Mapping, i32> {
    map.map_write(range, waiter, &mut Vec::new()).map_err(|error| error.0)
}

/// A writable map whose session has begun.
fn begun(kind: VhdxKind, blocks: u64) -> (CrashFile, VhdxMap) {
    let (file, mut map) = image(kind, blocks);
    write_disk(&mut map, &file, 0, &[1; 4096]);
    (file, map)
}

/// Performs metadata I/O until `stop` says so of the next operation, which is returned unperformed.
fn run_until(map: &mut VhdxMap, file: &CrashFile, stop: impl Fn(&MetaOp) -> bool) -> MetaIo {
    for _ in 0..100 {
        let io = map.next_io().expect("there is metadata I/O to do");
        if stop(&io.op) {
            return io;
        }
        let result = perform(&io.op, file);
        map.io_done(io.id, result);
    }
    panic!("the operation did not come");
}

fn is_log_write(op: &MetaOp) -> bool {
    matches!(op, MetaOp::Write { offset, .. } if (MIB..2 * MIB).contains(offset))
}

#[test]
fn the_first_write_waits_until_the_new_header_is_durable_even_where_space_is_allocated() {
    let (file, mut map) = image(VhdxKind::Fixed, 4);
    let before = inspect(&file).unwrap();
    assert_eq!(map_write(&mut map, block(1), 5), Ok(Mapping::Pending));
    while let Some(io) = map.next_io() {
        assert_eq!(ready(&mut map), [], "nothing is ready before the last operation");
        map.io_done(io.id, perform(&io.op, &file));
    }
    assert_eq!(ready(&mut map), [(5, Ok(()))]);
    let found = inspect(&file.power_cut(&mut vhdx_support::Dice::new(1), 0)).unwrap();
    assert_ne!(found.data_write_guid, before.data_write_guid);
    assert_eq!(found.disk_id, before.disk_id);
    assert_eq!(map_write(&mut map, block(1), 6), Ok(Mapping::Ready), "from now on at once");
}

/// A copy under way: the file bears the name of the content that is being written into it.
fn copy(kind: VhdxKind) -> (CrashFile, VhdxMap, Uuid) {
    let (file, mut map) = image(kind, 4);
    map.keep_content_name();
    write_disk(&mut map, &file, 0, &[1; 4096]);
    let name = inspect(&file).unwrap().data_write_guid;
    (file, map, name)
}

#[test]
fn a_copy_keeps_the_name_of_the_content_when_it_is_written() {
    let (before, map) = image(VhdxKind::Dynamic, 4);
    assert_eq!(map.content_name(), Some(inspect(&before).unwrap().data_write_guid));
    let (file, mut map, name) = copy(VhdxKind::Dynamic);
    assert_eq!(map.content_name(), Some(name));
    close(&mut map, &file);
    let mut again = open(&file, true).unwrap().map;
    assert_eq!(again.content_name(), Some(name));
    // The session of whoever gets the copy is one like any other.
    assert!(!again.content_changes());
    write_disk(&mut again, &file, 0, &[2; 4096]);
    assert_ne!(inspect(&file).unwrap().data_write_guid, name);
}

#[test]
fn before_a_copy_is_changed_its_content_gets_a_name_of_its_own_durably() {
    for kind in [VhdxKind::Dynamic, VhdxKind::Fixed] {
        let (file, mut map, name) = copy(kind);
        assert!(map.content_changes() && !map.content_changes());
        assert_eq!(map.content_name(), None);
        assert_eq!(map_write(&mut map, block(0), 5), Ok(Mapping::Pending), "also where space is allocated");
        while let Some(io) = map.next_io() {
            assert_eq!(ready(&mut map), [], "nothing is ready before the last operation");
            map.io_done(io.id, perform(&io.op, &file));
        }
        assert_eq!(ready(&mut map), [(5, Ok(()))]);
        assert_eq!(map_write(&mut map, block(0), 6), Ok(Mapping::Ready));
        let cut = file.power_cut(&mut vhdx_support::Dice::new(1), 0);
        let found = inspect(&cut).unwrap();
        assert!(found.data_write_guid != name && found.dirty_log, "{found:?}");
        assert_eq!(read_disk(&cut, &open(&cut, true).unwrap().map, &Overlay::default(), block(0)), [1; 4096]);
        close(&mut map, &file);
        assert_eq!(inspect(&file).unwrap().data_write_guid, found.data_write_guid);
    }
}

#[test]
fn a_copy_whose_original_changes_before_its_first_write_begins_with_a_new_name() {
    let (file, mut map) = image(VhdxKind::Dynamic, 4);
    let name = inspect(&file).unwrap().data_write_guid;
    map.keep_content_name();
    assert!(map.content_changes());
    drain(&mut map, &file);
    assert!(map.content_name().is_some_and(|now| now != name), "without waiting for a write: there may be none");
    close(&mut map, &file);
    assert_ne!(inspect(&file).unwrap().data_write_guid, name);
}

#[test]
fn a_name_that_could_not_be_written_is_tried_again_by_the_next_write_and_not_in_a_loop() {
    let (file, mut map, name) = copy(VhdxKind::Dynamic);
    map.content_changes();
    assert_eq!(map_write(&mut map, block(0), 5), Ok(Mapping::Pending));
    let io = map.next_io().unwrap();
    map.io_done(io.id, Err(libc::EIO));
    assert_eq!(ready(&mut map), [(5, Err(libc::EIO))]);
    assert!(map.next_io().is_none(), "a failing disk is not asked again and again");
    assert_eq!(map_write(&mut map, block(0), 6), Ok(Mapping::Pending));
    drain(&mut map, &file);
    assert_eq!(ready(&mut map), [(6, Ok(()))]);
    close(&mut map, &file);
    assert_ne!(inspect(&file).unwrap().data_write_guid, name);
}

#[test]
fn an_image_that_is_opened_and_closed_without_a_write_is_not_touched() {
    let (file, mut map) = image(VhdxKind::Dynamic, 4);
    let before = file.clone();
    map.map_read(ByteRange::new(0, 4 * MIB), &mut Vec::new());
    close(&mut map, &file);
    assert!(file.same_content(&before));
}

#[test]
fn an_allocating_write_is_ready_when_its_log_entry_is_written_and_not_before() {
    let (file, mut map) = begun(VhdxKind::Dynamic, 8);
    assert_eq!(map_write(&mut map, block(3), 9), Ok(Mapping::Pending));
    let io = run_until(&mut map, &file, is_log_write);
    assert_eq!(ready(&mut map), []);
    let mut extents = Vec::new();
    map.map_read(block(3), &mut extents);
    assert_eq!(extents, [Extent::Zero { len: 4096 }], "not there before it would survive a kill");
    perform(&io.op, &file).unwrap();
    map.io_done(io.id, Ok(()));
    assert_eq!(ready(&mut map), [(9, Ok(()))]);
    assert!(map.next_io().is_none(), "no flush stands between the guest and its write");
    assert_eq!(open(&file.killed(), false).unwrap().facts.allocated_blocks, 2);
}

#[test]
fn allocations_that_wait_together_share_one_extension_and_one_log_entry() {
    let mut big = options(VhdxKind::Dynamic, 4096);
    big.physical_sector_bytes = 512;
    let file = CrashFile::of(&new_image(&big).unwrap());
    let mut map = open(&file, true).unwrap().map;
    write_disk(&mut map, &file, 0, &[1; 4096]);
    assert_eq!(map_write(&mut map, block(1), 1), Ok(Mapping::Pending));
    let first = map.next_io().unwrap();
    // Spread over eight pages of the BAT; one block is wanted twice.
    for waiter in 0..64 {
        assert_eq!(map_write(&mut map, block(2 + waiter / 2 * 64), 100 + waiter), Ok(Mapping::Pending));
    }
    map.io_done(first.id, perform(&first.op, &file));
    let mut operations = Vec::new();
    while let Some(io) = map.next_io() {
        operations.push(std::mem::discriminant(&io.op));
        map.io_done(io.id, perform(&io.op, &file));
    }
    assert_eq!(operations.len(), 3, "the first entry, then one extension and one entry for the rest");
    assert_eq!(ready(&mut map).len(), 65);
    assert_eq!(map.allocated_blocks(), 34);
}

#[test]
fn one_write_over_more_table_pages_than_an_entry_holds_is_ready_in_the_end() {
    let file = CrashFile::of(&new_image(&options(VhdxKind::Dynamic, 40 * 512)).unwrap());
    let mut map = open(&file, true).unwrap().map;
    write_disk(&mut map, &file, 0, &[1; 4096]);
    let all = ByteRange::new(0, 40 * 512 * MIB);
    assert_eq!(map_write(&mut map, all, 1), Ok(Mapping::Pending));
    drain(&mut map, &file);
    assert_eq!(ready(&mut map), [(1, Ok(()))]);
    let mut extents = Vec::new();
    assert_eq!(map.map_write(all, 2, &mut extents).unwrap(), Mapping::Ready);
    assert_eq!(extents.len(), 1, "blocks that follow each other in the file are one extent");
    assert_eq!((map.growth_bytes(), map.allocated_blocks()), (0, 40 * 512));
    close(&mut map, &file);
    assert_eq!(inspect(&file).unwrap().allocated_blocks, 40 * 512);
}

#[test]
fn growth_is_what_the_file_grows_by() {
    let mut options = options(VhdxKind::Dynamic, 10);
    options.size_bytes += 512;
    let file = CrashFile::of(&new_image(&options).unwrap());
    // A tail that a crash left behind, not even aligned.
    file.set_len(file.len().unwrap() + 5000).unwrap();
    let mut map = open(&file, true).unwrap().map;
    for index in [10, 3, 0, 7] {
        let expected = file.len().unwrap() + map.growth_bytes();
        write_disk(&mut map, &file, index * MIB, &[1; 512]);
        assert_eq!(file.len().unwrap() + map.growth_bytes(), expected);
    }
    let expected = file.len().unwrap() + map.growth_bytes();
    write_disk(&mut map, &file, 0, &vec![2; 10 * MIB as usize]);
    assert_eq!((file.len().unwrap(), map.growth_bytes()), (expected, 0));
}

#[test]
fn space_behind_the_last_block_that_a_crash_left_is_never_handed_out() {
    let (file, mut map) = begun(VhdxKind::Dynamic, 8);
    assert_eq!(map_write(&mut map, block(3), 9), Ok(Mapping::Pending));
    // Killed between the extension and the log entry; then somebody's late write lands there.
    run_until(&mut map, &file, is_log_write);
    let left = file.len().unwrap();
    file.write_all_at(&[0xaa; 4096], left - MIB).unwrap();
    let mut map = open(&file, true).unwrap().map;
    write_disk(&mut map, &file, 3 * MIB + 4096, &[1; 512]);
    assert_eq!(read_disk(&file, &map, &Overlay::default(), block(3)), [0; 4096]);
    let mut extents = Vec::new();
    map.map_read(block(3), &mut extents);
    assert_eq!(extents, [Extent::Data { file_offset: left, len: 4096 }]);
}

#[test]
fn blocks_marked_undefined_or_unmapped_read_as_zeros_and_their_space_is_not_given_to_others() {
    let (file, mut map) = begun(VhdxKind::Dynamic, 8);
    write_disk(&mut map, &file, MIB, &[2; 4096]);
    close(&mut map, &file);
    let anchors = file.len().unwrap();
    let entry = |index: u64, value: u64| file.write_all_at(&value.to_le_bytes(), 3 * MIB + index * 8).unwrap();
    // Block 1 becomes unmapped with a soft anchor to its old place; block 2 undefined, anchored behind the end of the file.
    entry(1, (anchors - MIB) | 3);
    entry(2, (anchors + 2 * MIB) | 1);
    file.sync().unwrap();
    let mut map = open(&file, true).unwrap().map;
    assert_eq!(map.allocated_blocks(), 1);
    for index in [1, 2] {
        assert_eq!(read_disk(&file, &map, &Overlay::default(), block(index)), [0; 4096]);
    }
    for index in 1..8 {
        write_disk(&mut map, &file, index * MIB, &[index as u8; 4096]);
        let mut extents = Vec::new();
        map.map_read(block(index), &mut extents);
        let [Extent::Data { file_offset, .. }] = extents[..] else { panic!("{extents:?}") };
        assert!(file_offset >= anchors + 3 * MIB, "block {index} at {file_offset}");
    }
}

#[test]
fn a_file_that_cannot_grow_fails_the_write_and_works_again_when_it_can() {
    let (file, mut map) = begun(VhdxKind::Dynamic, 8);
    for (errno, told) in [(libc::ENOSPC, libc::ENOSPC), (libc::EFBIG, libc::ENOSPC), (libc::EIO, libc::EIO)] {
        assert_eq!(map_write(&mut map, block(3), 9), Ok(Mapping::Pending));
        let io = run_until(&mut map, &file, |op| matches!(op, MetaOp::Extend { .. }));
        map.io_done(io.id, Err(errno));
        assert_eq!(ready(&mut map), [(9, Err(told))]);
        assert!(map.failure().is_none() && map.next_io().is_none());
    }
    write_disk(&mut map, &file, 3 * MIB, &[3; 4096]);
    close(&mut map, &file);
}

#[test]
fn a_failed_header_update_fails_the_first_write_and_is_tried_again_by_the_next() {
    for failing in 0..8 {
        let (file, mut map) = image(VhdxKind::Fixed, 2);
        assert_eq!(map_write(&mut map, block(1), 1), Ok(Mapping::Pending));
        for step in 0..=failing {
            let io = map.next_io().unwrap();
            // The failing operation may have done its work all the same.
            perform(&io.op, &file).unwrap();
            map.io_done(io.id, if step == failing { Err(libc::EIO) } else { Ok(()) });
        }
        assert_eq!(ready(&mut map), [(1, Err(libc::EIO))]);
        open(&file.killed(), true).unwrap();
        write_disk(&mut map, &file, MIB, &[2; 4096]);
        close(&mut map, &file);
        assert!(!inspect(&file).unwrap().dirty_log);
    }
    // Closing right after the failure leaves no log named either.
    let (file, mut map) = image(VhdxKind::Fixed, 2);
    assert_eq!(map_write(&mut map, block(1), 1), Ok(Mapping::Pending));
    let mut io = map.next_io().unwrap();
    for _ in 0..5 {
        map.io_done(io.id, perform(&io.op, &file));
        io = map.next_io().unwrap();
    }
    perform(&io.op, &file).unwrap();
    map.io_done(io.id, Err(libc::EIO));
    assert!(inspect(&file).unwrap().dirty_log);
    close(&mut map, &file);
    assert!(!inspect(&file).unwrap().dirty_log);
}

#[test]
fn a_failed_log_write_ends_allocation_says_why_and_costs_nothing_else() {
    for (errno, told) in [(libc::EIO, libc::EIO), (libc::ENOSPC, libc::ENOSPC), (libc::EDQUOT, libc::ENOSPC)] {
        let why = failed_log_write(errno, told);
        assert!(why.contains("write the log"), "{why}");
        assert!(why.contains(&std::io::Error::from_raw_os_error(errno).to_string()), "{why}");
    }
}

/// What the map says of a log write that ended with `errno`; every request that needs a new block is told `told`.
fn failed_log_write(errno: i32, told: i32) -> String {
    let (file, mut map) = begun(VhdxKind::Dynamic, 8);
    write_disk(&mut map, &file, 5 * MIB, &[5; 4096]);
    for waiter in [1, 2] {
        assert_eq!(map_write(&mut map, block(2 + waiter), waiter), Ok(Mapping::Pending));
    }
    let io = run_until(&mut map, &file, is_log_write);
    map.io_done(io.id, Err(errno));
    assert_eq!(ready(&mut map), [(1, Err(told)), (2, Err(told))]);
    let why = map.failure().unwrap().to_owned();
    assert_eq!(map_write(&mut map, block(3), 3), Err(told));
    assert_eq!(map_write(&mut map, ByteRange::new(5 * MIB, 2 * MIB), 3), Err(told));
    write_disk(&mut map, &file, 5 * MIB, &[6; 4096]);
    assert_eq!(read_disk(&file, &map, &Overlay::default(), block(5)), [6; 4096]);
    map.begin_close();
    assert!(map.next_io().is_none() && !map.is_clean());
    // The next open replays what was acknowledged.
    let map = open(&file, true).unwrap().map;
    assert_eq!(map.allocated_blocks(), 2);
    assert_eq!(read_disk(&file, &map, &Overlay::default(), block(5)), [6; 4096]);
    why
}

#[test]
fn any_failed_operation_of_a_checkpoint_or_a_close_leaves_a_file_that_replays() {
    let mut failed = 0;
    for failing in 0..30 {
        let (file, mut map) = begun(VhdxKind::Dynamic, 200);
        // Fill the log up to the edge of a checkpoint; then count operations.
        for index in 1..126 {
            write_disk(&mut map, &file, index * MIB, &[index as u8; 4096]);
        }
        assert_eq!(map_write(&mut map, block(150), 1), Ok(Mapping::Pending));
        let mut operation = 0;
        for closing in [false, true] {
            if closing {
                map.begin_close();
            }
            while let Some(io) = map.next_io() {
                let result = if operation == failing { Err(libc::EIO) } else { perform(&io.op, &file) };
                map.io_done(io.id, result);
                operation += 1;
            }
        }
        failed += usize::from(map.failure().is_some());
        let map = open(&file, true).unwrap().map;
        for index in 1..126 {
            assert_eq!(read_disk(&file, &map, &Overlay::default(), block(index)), [index as u8; 4096]);
        }
    }
    assert!(failed >= 10, "the checkpoint and the close have been failed: {failed}");
}

#[test]
fn a_read_only_map_refuses_to_write() {
    let (file, mut map) = begun(VhdxKind::Dynamic, 4);
    close(&mut map, &file);
    let mut map = open(&file, false).unwrap().map;
    assert_eq!(map_write(&mut map, block(0), 1), Err(libc::EROFS));
    map.begin_close();
    assert!(map.next_io().is_none() && map.is_clean());
}

#[test]
fn a_dynamic_file_begins_with_four_mebibytes_and_a_fixed_one_has_its_last_size() {
    let file = new_image(&CreateOptions::new(VhdxKind::Dynamic, 1 << 40, "x")).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 4 * MIB);
    let fixed = options(VhdxKind::Fixed, 5);
    let file = new_image(&fixed).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 9 * MIB);
    assert_eq!(fixed.initial_file_bytes().unwrap(), 9 * MIB);
    let facts = inspect(&file).unwrap();
    assert_eq!((facts.kind, facts.allocated_blocks, facts.blocks), (VhdxKind::Fixed, 5, 5));
}

#[test]
fn a_moved_disk_keeps_its_identity_and_geometry() {
    let mut first = options(VhdxKind::Dynamic, 5);
    first.logical_sector_bytes = 4096;
    let item = CarriedItem { id: Uuid::from_u128(11), flags: 1, value: b"backup-product: chain 42".to_vec() };
    first.identity = Some(VhdxIdentity {
        disk_id: Uuid::from_u128(0x1234),
        data_write_guid: Uuid::from_u128(0x5678),
        carried: vec![item],
    });
    let facts = inspect(&new_image(&first).unwrap()).unwrap();
    assert_eq!((facts.creator.as_str(), facts.disk_id), ("behaviour test", Uuid::from_u128(0x1234)));
    let moved = inspect(&new_image(&CreateOptions::like(&facts, "mover").unwrap()).unwrap()).unwrap();
    assert_eq!(moved.creator, "mover");
    assert_eq!(moved.identity(), facts.identity());
    assert_eq!(moved.identity().unwrap().carried.len(), 1);
    let same = |f: &vmstorage_engine::formats::vhdx::VhdxFacts| (f.geometry(), f.kind, f.block_bytes, f.disk_id);
    assert_eq!(same(&moved), same(&facts));
}

#[test]
fn what_no_vhdx_can_be_is_not_created() {
    let refused = |change: fn(&mut CreateOptions)| {
        let mut bad = options(VhdxKind::Dynamic, 5);
        change(&mut bad);
        let error = new_image(&bad).err().unwrap();
        assert_eq!(error.kind, ErrorKind::InvalidArgument, "{error}");
        error.message
    };
    assert!(refused(|o| o.size_bytes = 0).contains("virtual disk size 0"));
    assert!(refused(|o| o.size_bytes += 511).contains("multiple of the sector size"));
    assert!(refused(|o| o.size_bytes = (64 << 40) + 512).contains("64 TiB"));
    assert!(refused(|o| o.block_bytes = 3 * MIB).contains("block size"));
    assert!(refused(|o| o.logical_sector_bytes = 520).contains("logical sector size 520"));
    assert!(
        refused(|o| (o.logical_sector_bytes, o.physical_sector_bytes) = (4096, 512)).contains("smaller than logical")
    );
    assert!(refused(|o| o.creator = "x".repeat(257)).contains("257 UTF-16 units"));
    let used = tempfile::tempfile().unwrap();
    used.write_at(b"x", 0).unwrap();
    let error = vmstorage_engine::formats::vhdx::create(&used, &options(VhdxKind::Dynamic, 5)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidState);
}

#[test]
fn a_table_whose_bitmap_entries_say_zero_is_told_of_and_mended_by_the_next_write() {
    // As QEMU left it until April 2023: blocks that read as zeros, and the entry behind the first chunk (16 blocks) like them.
    let block = 256 * MIB;
    let mut options = CreateOptions::new(VhdxKind::Dynamic, 40 * block, "like an early QEMU");
    options.block_bytes = block;
    let file = new_image(&options).unwrap();
    let (bat, bitmap) = (3 * MIB, 16);
    for entry in 0..=bitmap {
        WriteAt::write_all_at(&file, &2u64.to_le_bytes(), bat + entry * 8).unwrap();
    }
    let entry = |file: &std::fs::File| {
        let mut bytes = [0; 8];
        ReadAt::read_exact_at(file, &mut bytes, bat + bitmap * 8).unwrap();
        u64::from_le_bytes(bytes)
    };
    let image = open(&file, true).unwrap();
    assert!(image.facts.warnings[0].contains("1 sector bitmap entries"), "{:?}", image.facts.warnings);
    let mut map = image.map;
    assert_eq!(read_disk(&file, &map, &Overlay::default(), ByteRange::new(15 * block, 4096)), [0; 4096]);
    write_disk(&mut map, &file, 17 * block, &pattern(3, 4096));
    close(&mut map, &file);
    assert_eq!(entry(&file), 0);
    let image = open(&file, false).unwrap();
    assert_eq!(image.facts.warnings, Vec::<String>::new());
    assert_eq!(read_disk(&file, &image.map, image.overlay(), ByteRange::new(17 * block, 4096)), pattern(3, 4096));
    // One that places something is a block that was lost from its place.
    WriteAt::write_all_at(&file, &((64 * MIB) | 6).to_le_bytes(), bat + bitmap * 8).unwrap();
    assert_eq!(open(&file, false).err().unwrap().kind, ErrorKind::Corrupt);
}

#[test]
fn four_kilobyte_sectors_and_chunks_of_the_table_are_served_right() {
    // Sector and block sizes that put bitmap entries between the blocks in use: chunk ratios 16 and 128.
    for (sector, chunk) in [(512, 16), (4096, 128)] {
        let block = 256 * MIB;
        let mut options = CreateOptions::new(VhdxKind::Dynamic, 300 * block - 8192, "chunks");
        (options.block_bytes, options.logical_sector_bytes) = (block, sector);
        let file = new_image(&options).unwrap();
        let mut map = open(&file, true).unwrap().map;
        assert_eq!(map.geometry().logical_sector_bytes, sector);
        let places = [0, chunk * block - 4096, chunk * block, 2 * chunk * block - 8192, 300 * block - 16384];
        for (seed, at) in places.into_iter().enumerate() {
            write_disk(&mut map, &file, at, &pattern(seed as u64, 8192));
        }
        close(&mut map, &file);
        let image = open(&file, false).unwrap();
        assert!(!image.facts.dirty_log);
        for (seed, at) in places.into_iter().enumerate().filter(|place| place.0 != 1 && place.0 != 2) {
            assert_eq!(
                read_disk(&file, &image.map, image.overlay(), ByteRange::new(at, 8192)),
                pattern(seed as u64, 8192)
            );
        }
        let across = read_disk(&file, &image.map, image.overlay(), ByteRange::new(places[1], 12288));
        assert_eq!(across, [&pattern(1, 8192)[..4096], &pattern(2, 8192)[..]].concat());
    }
}
