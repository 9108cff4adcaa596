//! A whole move under the built-in guest: the worker, its journal, its targets, on raw and VHDX.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step is a failed test

mod support;

use rustix::fs::{IFlags, ioctl_setflags};
use support::vm::{MIB, Vm, load};
use vmstorage_engine::formats::Format;

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
