//! A dynamic VHDX survives kills and power cuts at any instant: judged on a file that forgets what was not flushed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod vhdx_support;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use vhdx_support::crash_file::CrashFile;
use vhdx_support::{Dice, MIB, new_image, perform, read_disk, write_disk};
use vmstorage_engine::disk::ByteRange;
use vmstorage_engine::file::{ReadAt, WriteAt};
use vmstorage_engine::formats::vhdx::{CreateOptions, Overlay, VhdxKind, VhdxMap, inspect, open};
use vmstorage_engine::formats::{Extent, ImageMap, Mapping, MetaIo, MetaOp};

const PAGE: u64 = 4096;
const SECTOR: u64 = 512;
/// Guest pages that are written, per block: at its start, in its middle, at its end.
const PAGES_PER_BLOCK: [u64; 3] = [0, 100, 255];

fn small_image(blocks: u64) -> CrashFile {
    let mut options = CreateOptions::new(VhdxKind::Dynamic, blocks * MIB - PAGE, "crash test");
    options.block_bytes = MIB;
    CrashFile::of(&new_image(&options).unwrap())
}

/// A page of content that says, in every sector, which page it is and which version.
fn stamped(page: u64, version: u64) -> Vec<u8> {
    let mut bytes = vec![0; PAGE as usize];
    for sector in bytes.chunks_mut(SECTOR as usize) {
        for word in sector.chunks_mut(16) {
            word[..8].copy_from_slice(&page.to_le_bytes());
            word[8..].copy_from_slice(&version.to_le_bytes());
        }
    }
    bytes
}

/// The version each sector of a page holds. Zeros are version 0.
fn versions(page: u64, bytes: &[u8]) -> Vec<u64> {
    bytes
        .chunks(SECTOR as usize)
        .map(|sector| {
            let version = u64::from_le_bytes(sector[8..16].try_into().unwrap());
            let expected = if version == 0 { vec![0; PAGE as usize] } else { stamped(page, version) };
            assert!(sector == &expected[..SECTOR as usize], "page {page} holds bytes nobody wrote to it");
            version
        })
        .collect()
}

/// What a guest may find in a page.
#[derive(Default)]
struct Promise {
    /// Acknowledged last, and what may stand in its place: writes under way.
    acknowledged: u64,
    under_way: BTreeSet<u64>,
    /// Flushed, and everything written since.
    flushed: u64,
    since_flush: BTreeSet<u64>,
}

enum Work {
    /// A guest write waiting for its mapping.
    Waiting,
    /// Mapped; its payload is under way.
    Payload(Vec<Extent>),
}

struct GuestWrite {
    name: u64,
    range: ByteRange,
    version: u64,
    work: Work,
}

/// A service reduced to the bone: guest writes, the map, the file, all completing when the test says so.
struct Machine {
    file: CrashFile,
    map: VhdxMap,
    pages: BTreeMap<u64, Promise>,
    writes: Vec<GuestWrite>,
    meta: VecDeque<MetaIo>,
    last_name: u64,
    size: u64,
}

impl Machine {
    fn start(file: CrashFile, pages: BTreeMap<u64, Promise>) -> Self {
        let image = open(&file, true).unwrap();
        assert!(image.overlay().is_empty());
        let size = image.facts.size_bytes;
        Self { file, map: image.map, pages, writes: Vec::new(), meta: VecDeque::new(), last_name: 0, size }
    }

    fn pages_of(range: ByteRange) -> impl Iterator<Item = u64> {
        range.start / PAGE..range.end() / PAGE
    }

    fn write(&mut self, first: u64, count: u64) {
        let range = ByteRange::new(first * PAGE, count * PAGE);
        // One writer per page at a time: which of two overlapping writes wins is not the map's business.
        if range.end() > self.size || self.writes.iter().any(|write| write.range.overlaps(&range)) {
            return;
        }
        self.last_name += 1;
        let version = self.last_name + self.pages.values().map(|p| p.acknowledged).max().unwrap_or(0);
        for page in Self::pages_of(range) {
            let promise = self.pages.entry(page).or_default();
            promise.under_way.insert(version);
            promise.since_flush.insert(version);
        }
        self.writes.push(GuestWrite { name: self.last_name, range, version, work: Work::Waiting });
        self.attempt(self.writes.len() - 1);
    }

    fn attempt(&mut self, index: usize) {
        let mut extents = Vec::new();
        let write = &mut self.writes[index];
        if let Mapping::Ready = self.map.map_write(write.range, write.name, &mut extents).unwrap() {
            write.work = Work::Payload(extents);
        }
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(io) = self.map.next_io() {
            self.meta.push_back(io);
        }
    }

    /// One metadata operation completes.
    fn meta_step(&mut self) {
        let Some(io) = self.meta.pop_front() else { return };
        self.map.io_done(io.id, perform(&io.op, &self.file));
        self.collect();
        let mut ready = Vec::new();
        self.map.take_ready(&mut ready);
        for (name, result) in ready {
            assert_eq!(result, Ok(()));
            let index = self.writes.iter().position(|write| write.name == name).unwrap();
            self.attempt(index);
        }
    }

    /// One payload write completes and is acknowledged.
    fn payload_step(&mut self, which: u64) {
        let ready: Vec<usize> =
            (0..self.writes.len()).filter(|&i| matches!(self.writes[i].work, Work::Payload(_))).collect();
        if ready.is_empty() {
            return;
        }
        let write = self.writes.remove(ready[which as usize % ready.len()]);
        self.put_payload(&write);
        for page in Self::pages_of(write.range) {
            let promise = self.pages.get_mut(&page).unwrap();
            promise.under_way.clear();
            promise.acknowledged = write.version;
        }
    }

    fn put_payload(&self, write: &GuestWrite) {
        let Work::Payload(extents) = &write.work else { return };
        let content: Vec<u8> = Self::pages_of(write.range).flat_map(|page| stamped(page, write.version)).collect();
        let mut done = 0;
        for extent in extents {
            let Extent::Data { file_offset, len } = extent else { panic!("a written extent is data") };
            self.file.write_all_at(&content[done..done + *len as usize], *file_offset).unwrap();
            done += *len as usize;
        }
    }

    fn flush(&mut self) {
        self.file.sync().unwrap();
        for promise in self.pages.values_mut() {
            promise.flushed = promise.acknowledged;
            promise.since_flush = promise.under_way.clone();
        }
    }

    fn settle(&mut self) {
        while !self.writes.is_empty() {
            while !self.meta.is_empty() {
                self.meta_step();
            }
            self.payload_step(0);
        }
    }

    fn close(&mut self) {
        self.settle();
        self.map.begin_close();
        self.collect();
        while !self.meta.is_empty() {
            self.meta_step();
        }
        assert!(self.map.is_clean());
        assert!(!inspect(&self.file).unwrap().dirty_log);
    }

    /// The process dies; some of the payload under way has reached the kernel.
    fn kill(mut self, dice: &mut Dice) -> Self {
        for write in &self.writes {
            if dice.roll(2) == 0 {
                self.put_payload(write);
            }
        }
        let found = self.file.killed();
        read_only_equals_replayed(&found);
        let mut next = Machine::start(found, std::mem::take(&mut self.pages));
        next.verify(|promise| {
            let mut allowed = promise.under_way.clone();
            allowed.insert(promise.acknowledged);
            allowed
        });
        next
    }

    fn power_cut(mut self, dice: &mut Dice, keep: u64) -> Self {
        for write in &self.writes {
            if dice.roll(2) == 0 {
                self.put_payload(write);
            }
        }
        let found = self.file.power_cut(dice, keep);
        read_only_equals_replayed(&found);
        let mut next = Machine::start(found, std::mem::take(&mut self.pages));
        next.verify(|promise| {
            let mut allowed = promise.since_flush.clone();
            allowed.insert(promise.flushed);
            allowed
        });
        next
    }

    /// Every sector holds a version it may hold, everything else zeros; then what is there is what counts.
    fn verify(&mut self, allowed: impl Fn(&Promise) -> BTreeSet<u64>) {
        let mut settled = BTreeMap::new();
        for (&page, promise) in &self.pages {
            let bytes = read_disk(&self.file, &self.map, &Overlay::default(), ByteRange::new(page * PAGE, PAGE));
            let (found, allowed) = (versions(page, &bytes), allowed(promise));
            assert!(
                found.iter().all(|version| allowed.contains(version)),
                "page {page}: {found:?}, allowed {allowed:?}"
            );
            settled.insert(page, found);
        }
        // A page torn between versions is written again as a whole, so that the next round has one version to ask for.
        self.pages.clear();
        for (page, found) in settled {
            let version = found[0];
            if found.iter().any(|other| *other != version) {
                let fresh = found.iter().max().unwrap() + 1;
                write_disk(&mut self.map, &self.file, page * PAGE, &stamped(page, fresh));
                self.pages.insert(
                    page,
                    Promise { acknowledged: fresh, since_flush: [version, fresh].into(), ..Promise::default() },
                );
            } else {
                self.pages.insert(page, Promise { acknowledged: version, flushed: version, ..Promise::default() });
            }
        }
        self.flush();
    }
}

/// Opening read-only writes nothing and shows what replaying shows.
fn read_only_equals_replayed(found: &CrashFile) {
    let before = found.clone();
    let image = open(found, false).unwrap();
    assert!(found.same_content(&before), "a read-only open wrote to the file");
    let replayed_file = found.clone();
    let replayed = open(&replayed_file, true).unwrap();
    assert_eq!(image.facts.allocated_blocks, replayed.facts.allocated_blocks);
    assert!(!inspect(&replayed_file).unwrap().dirty_log);
    let size = image.facts.size_bytes;
    let mut extents = Vec::new();
    replayed.map.map_read(ByteRange::new(0, size), &mut extents);
    let mut at = 0;
    for extent in extents {
        let len = match extent {
            Extent::Zero { len } => len,
            Extent::Data { len, .. } => {
                for page in (at..at + len).step_by(PAGE as usize) {
                    let range = ByteRange::new(page, PAGE.min(size - page));
                    let one = read_disk(found, &image.map, image.overlay(), range);
                    let other = read_disk(&replayed_file, &replayed.map, &Overlay::default(), range);
                    assert!(one == other, "overlay and replay differ at {page}");
                }
                len
            }
        };
        at += len;
    }
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Write { block: u64, page: usize, count: u64 },
    Meta { steps: u8 },
    Payload { which: u64, count: u8 },
    Flush,
    Kill { seed: u64 },
    PowerCut { seed: u64, keep: u64 },
    Reopen,
}

fn action(blocks: u64) -> impl Strategy<Value = Action> {
    prop_oneof![
        40 => (0..blocks, 0..PAGES_PER_BLOCK.len(), 1u64..4).prop_map(|(block, page, count)| Action::Write { block, page, count }),
        30 => (1u8..8).prop_map(|steps| Action::Meta { steps }),
        30 => (any::<u64>(), 1u8..8).prop_map(|(which, count)| Action::Payload { which, count }),
        8 => Just(Action::Flush),
        3 => any::<u64>().prop_map(|seed| Action::Kill { seed }),
        5 => (any::<u64>(), prop_oneof![Just(0), Just(100), 1u64..100]).prop_map(|(seed, keep)| Action::PowerCut { seed, keep }),
        1 => Just(Action::Reopen),
    ]
}

fn run(blocks: u64, actions: &[Action]) {
    let mut machine = Machine::start(small_image(blocks), BTreeMap::new());
    for action in actions {
        match *action {
            Action::Write { block, page, count } => machine.write(block * (MIB / PAGE) + PAGES_PER_BLOCK[page], count),
            Action::Meta { steps } => (0..steps).for_each(|_| machine.meta_step()),
            Action::Payload { which, count } => (0..count).for_each(|_| machine.payload_step(which)),
            Action::Flush => machine.flush(),
            Action::Kill { seed } => machine = machine.kill(&mut Dice::new(seed)),
            Action::PowerCut { seed, keep } => machine = machine.power_cut(&mut Dice::new(seed), keep),
            Action::Reopen => {
                machine.close();
                let file = machine.file.clone();
                machine = Machine::start(file, machine.pages);
            }
        }
    }
    machine.settle();
    machine = machine.kill(&mut Dice::new(1));
    machine.close();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_acknowledged_is_lost_by_a_kill_and_nothing_flushed_by_a_power_cut(
        actions in proptest::collection::vec(action(24), 1..220),
    ) {
        run(24, &actions);
    }
}

/// From one written block to the next, so that the pages of the BAT take turns: an entry repairs what it writes over, only
/// a page that no durable entry of the lap touches shows that it was applied too early.
const STRIDE: u64 = 13;

/// Cuts the power `samples` times and judges what is found: a valid image, with the flushed blocks among the last ones.
fn cut(file: &CrashFile, dice: &mut Dice, samples: u64, flushed: u64) {
    for sample in 0..samples {
        let keep = match sample {
            0 => 0,
            1 => 100,
            _ => [30, 50, 70, 90, 97][dice.roll(5) as usize],
        };
        let found = file.power_cut(dice, keep);
        let image = open(&found, false).unwrap();
        // The last ones and the first ones: whichever lap of the log they were in.
        for index in (0..flushed).rev().take(3).chain(0..flushed.min(3)) {
            let bytes = read_disk(&found, &image.map, image.overlay(), ByteRange::new(index * STRIDE * MIB, PAGE));
            assert_eq!(bytes, stamped(index, 1), "flushed block {index}, {keep} of 100 kept");
        }
    }
}

/// Cuts after every single operation: a few times after ordinary ones, often around those that only come at the ends of a
/// session and of a lap of the log.
fn cut_through(map: &mut VhdxMap, file: &CrashFile, dice: &mut Dice, flushed: u64, closely: &mut u64) {
    while let Some(io) = map.next_io() {
        let ordinary = match &io.op {
            MetaOp::Extend { .. } => true,
            MetaOp::Write { offset, .. } => (MIB..2 * MIB - PAGE).contains(offset),
            MetaOp::Flush => false,
        };
        *closely = if ordinary { closely.saturating_sub(1) } else { 8 };
        map.io_done(io.id, perform(&io.op, file));
        cut(file, dice, if *closely > 0 { 60 } else { 3 }, flushed);
    }
}

/// 300 allocations one by one are two and a third laps of the log.
#[test]
fn the_power_may_fail_after_every_operation_of_two_laps_of_the_log() {
    let blocks = 300;
    let file = small_image(blocks * STRIDE);
    let mut map = open(&file, true).unwrap().map;
    let (mut dice, mut flushed, mut closely) = (Dice::new(42), 0, 0);
    for block in 0..blocks {
        let mut extents = Vec::new();
        while map.map_write(ByteRange::new(block * STRIDE * MIB, PAGE), 1, &mut extents).unwrap() == Mapping::Pending {
            cut_through(&mut map, &file, &mut dice, flushed, &mut closely);
            map.take_ready(&mut Vec::new());
        }
        let Extent::Data { file_offset, .. } = extents[0] else { panic!("a written extent is data") };
        file.write_all_at(&stamped(block, 1), file_offset).unwrap();
        if block % 50 == 49 {
            file.sync().unwrap();
            flushed = block + 1;
        }
    }
    map.begin_close();
    cut_through(&mut map, &file, &mut dice, flushed, &mut closely);
    assert!(map.is_clean());
    let facts = inspect(&file).unwrap();
    assert!(!facts.dirty_log && facts.allocated_blocks == blocks);
}

/// Recovery is a write like any other: it may be cut short as often as it likes.
#[test]
fn the_power_may_fail_during_replay() {
    let file = small_image(40);
    let mut map = open(&file, true).unwrap().map;
    for block in 0..40 {
        write_disk(&mut map, &file, block * MIB, &stamped(block, 1));
    }
    file.sync().unwrap();
    let mut dice = Dice::new(7);
    for keep in (0..=100).step_by(5) {
        // Replays into a copy whose last flush did not happen.
        let once = file.power_cut(&mut dice, 100);
        let again = Unflushed::replay(&once).power_cut(&mut dice, keep);
        let image = open(&again, true).unwrap();
        for block in 0..40 {
            let bytes = read_disk(&again, &image.map, &Overlay::default(), ByteRange::new(block * MIB, PAGE));
            assert_eq!(bytes, stamped(block, 1));
        }
    }
}

/// Passes everything on and stops flushing after the first (the new FileWriteGuid's), as a cut in the middle of it would.
struct Unflushed<'a> {
    file: &'a CrashFile,
    syncs: std::cell::Cell<u32>,
}

impl Unflushed<'_> {
    fn replay(file: &CrashFile) -> CrashFile {
        let wrapped = Unflushed { file, syncs: 0.into() };
        assert!(open(&wrapped, true).is_err(), "the flush fails");
        file.clone()
    }
}

impl ReadAt for Unflushed<'_> {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn len(&self) -> std::io::Result<u64> {
        self.file.len()
    }
}

impl WriteAt for Unflushed<'_> {
    fn write_all_at(&self, buf: &[u8], offset: u64) -> std::io::Result<()> {
        self.file.write_all_at(buf, offset)
    }

    fn zero_at(&self, offset: u64, len: u64) -> std::io::Result<()> {
        self.file.zero_at(offset, len)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> std::io::Result<()> {
        self.syncs.set(self.syncs.get() + 1);
        match self.syncs.get() {
            1 => self.file.sync(),
            _ => Err(std::io::Error::from_raw_os_error(libc::EIO)),
        }
    }
}
