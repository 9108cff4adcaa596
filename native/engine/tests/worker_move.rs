//! A whole move under the built-in guest: the worker, its journal, its targets, on raw and VHDX.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step is a failed test

mod support;

use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{IFlags, ioctl_setflags};
use support::vm::{MIB, Vm, load};
use vmstorage_engine::disk::ByteRange;
use vmstorage_engine::file::{Trust, WriteAt};
use vmstorage_engine::formats::vhdx::{self, CarriedItem, CreateOptions, VhdxIdentity, VhdxKind, inspect};
use vmstorage_engine::formats::{Extent, Format, ImageMap, Mapping, MetaOp};
use vmstorage_engine::worker::{ServeDisk, Worker};

#[test]
fn a_raw_disk_moves_there_and_back_under_load() {
    let vm = Vm::start(Format::Raw, 1, 64 * MIB, load());
    let status = vm.do_move("a", "b");
    eprintln!("{status:?}");
    vm.do_move("b", "a");
    vm.finish("a");
}

#[test]
fn two_vhdx_disks_move_together_under_load() {
    let vm = Vm::start(Format::Vhdx, 2, 48 * MIB, load());
    let status = vm.do_move("a", "b");
    assert!(status.blackout_us.is_some(), "{status:?}");
    vm.finish("b");
}

fn name_of(path: &std::path::Path) -> uuid::Uuid {
    inspect(&std::fs::File::open(path).unwrap()).unwrap().data_write_guid
}

fn perform(file: &std::fs::File, op: &MetaOp) -> Result<(), i32> {
    match op {
        MetaOp::Write { offset, data } => WriteAt::write_all_at(file, data, *offset).unwrap(),
        MetaOp::Flush => file.sync_data().unwrap(),
        MetaOp::Extend { len } => file.set_len(*len).unwrap(),
    }
    Ok(())
}

/// A worker without a guest: the disks of a machine that is off.
fn move_at_rest(kind: VhdxKind) -> (tempfile::TempDir, [std::path::PathBuf; 2]) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let [source, target] = ["a.vhdx", "b.vhdx"].map(|name| folder.path().join(name));
    let mut options = CreateOptions::new(kind, 8 * MIB, "another program");
    options.block_bytes = MIB;
    let carried = vec![CarriedItem { id: uuid::Uuid::from_u128(1), flags: 1, value: b"of the backup".to_vec() }];
    let (disk_id, data_write_guid) = (uuid::Uuid::from_u128(2), uuid::Uuid::from_u128(3));
    options.identity = Some(VhdxIdentity { disk_id, data_write_guid, carried });
    let file = std::fs::File::options().read(true).write(true).create_new(true).open(&source).unwrap();
    vhdx::create(&file, &options).unwrap();
    // Without a content there is nothing to write, and the first write is what names it.
    let mut map = vhdx::open(&file, true).unwrap().map;
    map.keep_content_name();
    let mut extents = Vec::new();
    while map.map_write(ByteRange::new(3 * MIB, 4096), 0, &mut extents).unwrap() == Mapping::Pending {
        while let Some(io) = map.next_io() {
            map.io_done(io.id, perform(&file, &io.op));
        }
    }
    let Extent::Data { file_offset, .. } = extents[0] else { panic!("what is written is data") };
    file.write_all_at(&[7; 4096], file_offset).unwrap();
    map.begin_close();
    while let Some(io) = map.next_io() {
        map.io_done(io.id, perform(&file, &io.op));
    }
    let worker = Worker::start(Arc::new(|| {})).unwrap();
    let disk = ServeDisk {
        index: 0,
        path: source.clone(),
        format: Format::Vhdx,
        read_only: false,
        vhost_user_socket: None,
        nbd_socket: None,
        queues: 1,
        trust: Trust::own(),
    };
    let journal = folder.path().join("journal");
    worker.serve(&[disk], &journal, Duration::ZERO).unwrap();
    let disks = [serde_json::json!({"disk": 0, "source": source, "target": target, "format": "vhdx"})];
    let plan = serde_json::json!({"schema": 1, "moveId": "m1", "disks": disks}).to_string();
    worker.start_move(&plan, &journal).unwrap();
    while worker.status().unwrap().r#move.unwrap().outcome.is_none() {
        std::thread::yield_now();
    }
    worker.release_move().unwrap();
    worker.end_move().unwrap();
    worker.close();
    (folder, [source, target])
}

#[test]
fn a_vhdx_whose_content_does_not_change_keeps_all_that_identifies_it() {
    for kind in [VhdxKind::Dynamic, VhdxKind::Fixed] {
        let (_folder, files) = move_at_rest(kind);
        let [source, target] = files.map(|path| inspect(&std::fs::File::open(path).unwrap()).unwrap());
        assert_eq!(target.identity().unwrap(), source.identity().unwrap());
        assert_eq!(target.identity().unwrap().carried.len(), 1);
        assert!(!target.dirty_log);
    }
}

#[test]
fn a_vhdx_that_is_written_while_it_moves_gets_a_new_name_of_its_content() {
    let vm = Vm::start(Format::Vhdx, 1, 48 * MIB, load());
    let before = name_of(&vm.path("a", 0));
    vm.worker.start_move(&vm.plan("a", "b"), &vm.journal()).unwrap();
    while name_of(&vm.path("b", 0)) == before {
        std::thread::yield_now();
    }
    let phase = vm.worker.status().unwrap().journal.unwrap().phase;
    assert_ne!(phase, "committed", "the name came with the first write, not with the first one after the switch");
    assert!(vm.outcome().outcome.unwrap().ok);
    vm.worker.release_move().unwrap();
    vm.worker.end_move().unwrap();
    vm.finish("b");
}

#[test]
fn a_stopped_move_leaves_nothing_and_a_second_one_works() {
    let vm = Vm::start(Format::Raw, 1, 64 * MIB, load());
    vm.worker.start_move(&vm.plan("a", "b"), &vm.journal()).unwrap();
    assert!(vm.worker.stop_move().unwrap());
    assert!(!vm.path("b", 0).exists());
    assert_eq!(vm.status().outcome.unwrap().code, "OperationStopped");
    vm.worker.end_move().unwrap();
    vm.do_move("a", "b");
    vm.finish("b");
}

#[test]
fn a_stopped_move_gives_its_space_back_bit_by_bit_before_it_is_forgotten() {
    let vm = Vm::start(Format::Raw, 1, 64 * MIB, load());
    vm.worker.start_move(&vm.plan("a", "b"), &vm.journal()).unwrap();
    let target = std::fs::File::options().write(true).open(vm.path("b", 0)).unwrap();
    // A disk of some size, without the time it takes to copy one.
    rustix::fs::fallocate(&target, rustix::fs::FallocateFlags::empty(), 0, 320 * MIB).unwrap();
    assert!(vm.worker.stop_move().unwrap());
    assert!(!vm.path("b", 0).exists());
    vm.worker.end_move().unwrap();
    let left = target.metadata().unwrap().len();
    assert!(left > 0 && left <= 32 * MIB, "{left}: the last step is the close");
    vm.do_move("a", "b");
    vm.finish("b");
}

/// Later and later, by how often the move was looked at before, until it is too late.
#[test]
fn a_move_stopped_at_any_moment_leaves_nothing_or_is_complete() {
    let vm = Vm::start(Format::Vhdx, 2, 48 * MIB, load());
    let mut looks = 0;
    loop {
        vm.worker.start_move(&vm.plan("a", "b"), &vm.journal()).unwrap();
        for _ in 0..looks {
            vm.status();
        }
        if !vm.worker.stop_move().unwrap() {
            break;
        }
        let status = vm.status();
        assert_eq!(status.outcome.as_ref().unwrap().code, "OperationStopped", "after {looks} looks: {status:?}");
        assert!((0..vm.disks).all(|disk| !vm.path("b", disk).exists()), "after {looks} looks: {status:?}");
        vm.worker.end_move().unwrap();
        looks = looks * 2 + 1;
    }
    assert!(vm.outcome().outcome.unwrap().ok);
    vm.worker.release_move().unwrap();
    vm.worker.end_move().unwrap();
    vm.finish("b");
}

#[test]
fn a_file_that_took_the_place_of_a_target_is_not_deleted_in_its_stead() {
    let vm = Vm::start(Format::Raw, 1, 64 * MIB, load());
    vm.worker.start_move(&vm.plan("a", "b"), &vm.journal()).unwrap();
    std::fs::rename(vm.path("b", 0), vm.folder.path().join("elsewhere")).unwrap();
    std::fs::write(vm.path("b", 0), b"mine").unwrap();
    assert!(vm.worker.stop_move().unwrap());
    assert_eq!(std::fs::read(vm.path("b", 0)).unwrap(), b"mine");
    vm.worker.end_move().unwrap();
    vm.finish("a");
}

#[test]
fn a_move_that_fails_at_its_start_leaves_no_journal_even_if_a_target_of_it_cannot_be_deleted() {
    let vm = Vm::start(Format::Raw, 2, 16 * MIB, load());
    std::fs::write(vm.path("b", 1), b"mine").unwrap();
    let folder = std::fs::File::open(vm.folder.path().join("b")).unwrap();
    // Files can be made in it and none can be taken out.
    if ioctl_setflags(&folder, IFlags::APPEND).is_err() {
        eprintln!("skipped: a folder cannot be made append-only here");
        return;
    }
    let refused = vm.worker.start_move(&vm.plan("a", "b"), &vm.journal());
    ioctl_setflags(&folder, IFlags::empty()).unwrap();
    let refused = refused.expect_err("a target was there").to_string();
    assert!(vm.path("b", 0).exists(), "or this tests nothing");
    assert!(!vm.journal().exists(), "the next worker would begin with it again");
    assert!(refused.contains("disk1") && refused.contains("disk0"), "says both: {refused}");
    vm.do_move("a", "c");
    vm.finish("c");
}

#[test]
fn a_target_that_is_there_is_never_overwritten() {
    let vm = Vm::start(Format::Raw, 1, 16 * MIB, load());
    std::fs::write(vm.path("b", 0), b"mine").unwrap();
    assert!(vm.worker.start_move(&vm.plan("a", "b"), &vm.journal()).is_err());
    assert_eq!(std::fs::read(vm.path("b", 0)).unwrap(), b"mine");
    assert!(!vm.journal().exists());
    std::fs::remove_file(vm.path("b", 0)).unwrap();
    vm.do_move("a", "b");
    vm.finish("b");
}
