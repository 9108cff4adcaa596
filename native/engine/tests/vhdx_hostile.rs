//! Files somebody wrote to hurt: opening never panics, never loops, and never takes more memory than the file can justify.
//! And the opposite promise: serving allocates nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod vhdx_support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use vhdx_support::crash_file::CrashFile;
use vhdx_support::{Dice, MIB, close, new_image, read_disk, write_disk};
use vmstorage_engine::disk::{ByteRange, ErrorKind};
use vmstorage_engine::file::{ReadAt, WriteAt};
use vmstorage_engine::formats::vhdx::{CreateOptions, Overlay, VhdxKind, inspect, open};
use vmstorage_engine::formats::{Extent, ImageMap, Mapping};

/// Counts what this thread allocates.
struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static LIVE: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

fn count(bytes: i64) {
    CALLS.set(CALLS.get() + 1);
    LIVE.set(LIVE.get() + bytes);
    PEAK.set(PEAK.get().max(LIVE.get()));
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting allocates nothing (the cells are const).
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get() - layout.size() as i64);
        // SAFETY: `ptr` came from the system's allocator with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size as i64 - layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The log of a small image in memory, twice (as bytes and as entries), and its tables. Measured: 4 MiB.
const OPEN_BYTES_MAX: i64 = 8 << 20;
/// One open of a small image, however it was forged. Measured: a few milliseconds; the machine may be busy.
const OPEN_TIME_MAX: Duration = Duration::from_secs(5);

fn options(kind: VhdxKind, blocks: u64) -> CreateOptions {
    let mut options = CreateOptions::new(kind, blocks * MIB, "hostile test");
    options.block_bytes = MIB;
    options
}

/// Images with something in every structure: a clean one, a dirty one with a full log, a fixed one.
fn seeds() -> Vec<CrashFile> {
    let written = |kind, blocks, count: u64, clean| {
        let file = CrashFile::of(&new_image(&options(kind, blocks)).unwrap());
        let mut map = open(&file, true).unwrap().map;
        for index in 0..count {
            write_disk(&mut map, &file, index * MIB, &[index as u8 + 1; 512]);
        }
        if clean {
            close(&mut map, &file);
        }
        file.sync().unwrap();
        file
    };
    vec![
        written(VhdxKind::Dynamic, 20, 5, true),
        written(VhdxKind::Dynamic, 200, 120, false),
        written(VhdxKind::Dynamic, 20, 1, false),
        written(VhdxKind::Fixed, 3, 2, false),
    ]
}

fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

fn reseal(file: &CrashFile, offset: u64, len: usize) {
    let mut bytes = vec![0; len];
    if file.read_exact_at(&mut bytes, offset).is_err() {
        return;
    }
    bytes[4..8].fill(0);
    let sum = crc32c(&bytes);
    file.write_all_at(&sum.to_le_bytes(), offset + 4).unwrap();
}

/// Values that sit on borders.
const VALUES: [u64; 16] = [
    0,
    1,
    2,
    511,
    4095,
    4096,
    0x10_0000,
    0x20_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_f000,
    0xffff_ffff,
    0x7fff_ffff_fff0_0000,
    0x8000_0000_0000_0000,
    0xffff_ffff_fff0_0006,
    u64::MAX,
];

/// Changes a few bytes where they hurt, and mends the checksums over them more often than not.
fn mutate(file: &CrashFile, dice: &mut Dice) {
    let places: [(u64, u64); 7] =
        [(0, 600), (64 << 10, 96), (128 << 10, 96), (192 << 10, 96), (MIB, 64 << 10), (2 * MIB, 200), (3 * MIB, 2048)];
    for _ in 0..dice.roll(4) + 1 {
        let (start, len) = match dice.roll(10) {
            0 => (0, file.len().unwrap()),
            1 => (2 * MIB + (64 << 10), 64),
            // The first words of an entry of the log.
            2 | 3 => (MIB + dice.roll(40) * 4096, 200),
            _ => places[dice.roll(7) as usize],
        };
        let at = start + dice.roll(len);
        let bytes = match dice.roll(3) {
            0 => VALUES[dice.roll(16) as usize].to_le_bytes().to_vec(),
            1 => (VALUES[dice.roll(12) as usize] as u32).to_le_bytes().to_vec(),
            _ => vec![dice.roll(256) as u8],
        };
        // Fields are aligned; half of the changes hit one exactly.
        let at = if dice.roll(2) == 0 { at & !7 } else { at };
        if at + bytes.len() as u64 <= file.len().unwrap() {
            file.write_all_at(&bytes, at).unwrap();
            if (192 << 10..256 << 10).contains(&at) {
                // Both copies alike, or the tables would only disagree.
                file.write_all_at(&bytes, at + (64 << 10)).unwrap();
            }
        }
    }
    if dice.roll(5) > 0 {
        for offset in [64 << 10, 128 << 10] {
            reseal(file, offset, 4096);
        }
        for offset in [192 << 10, 256 << 10] {
            reseal(file, offset, 64 << 10);
        }
        for page in 0..32 {
            let mut head = [0; 12];
            file.read_exact_at(&mut head, MIB + page * 4096).unwrap();
            let len = u32::from_le_bytes(head[8..].try_into().unwrap());
            if head[..4] == *b"loge" && (4096..=1 << 17).contains(&len) {
                reseal(file, MIB + page * 4096, len as usize);
            }
        }
    }
    if dice.roll(20) == 0 {
        let len = file.len().unwrap();
        file.set_len(dice.roll(len + MIB)).unwrap();
    }
}

#[test]
fn a_forged_image_is_opened_or_refused_in_bounded_time_and_memory() {
    let rounds: u64 = std::env::var("VMSTORAGE_FUZZ_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(6000);
    let seeds = seeds();
    let (mut opened, mut refusals) = (0, std::collections::BTreeSet::new());
    for round in 0..rounds {
        let mut dice = Dice::new(round + 1);
        let file = seeds[(round % seeds.len() as u64) as usize].clone();
        mutate(&file, &mut dice);
        let before = file.clone();
        PEAK.set(LIVE.get());
        let (live, start) = (LIVE.get(), Instant::now());
        let result = open(&file, false);
        let (took, peak) = (start.elapsed(), PEAK.get() - live);
        assert!(took < OPEN_TIME_MAX, "round {round} took {took:?}");
        assert!(peak < OPEN_BYTES_MAX, "round {round} took {peak} bytes");
        assert!(file.same_content(&before), "round {round}: a read-only open wrote to the file");
        assert_eq!(inspect(&file).is_ok(), result.is_ok());
        match result {
            Err(error) => {
                assert!(matches!(error.kind, ErrorKind::Corrupt | ErrorKind::Unsupported), "round {round}: {error:?}");
                // The rule without its numbers.
                refusals.insert(error.message.replace(|c: char| c.is_ascii_hexdigit(), ""));
                assert!(open(&file, true).is_err());
                assert!(file.same_content(&before), "round {round}: a refused image was written to");
            }
            Ok(image) => {
                opened += 1;
                served(&file, &image.map, image.overlay(), image.facts.size_bytes);
                if image.overlay().file_len().max(image.facts.file_bytes) < 1 << 30 {
                    written(&file, &mut dice);
                }
            }
        }
    }
    eprintln!("{opened} of {rounds} opened, {} kinds of refusal", refusals.len());
    assert!(opened > 0 && refusals.len() > 20, "the forger reaches the rules: {refusals:#?}");
}

/// What was opened is served: extents tile the disk and lie in the file.
fn served(file: &CrashFile, map: &impl ImageMap, overlay: &Overlay, size: u64) {
    let mut extents = Vec::new();
    // The first and last parts of a disk that a forged size may have made enormous.
    for range in [ByteRange::new(0, size.min(256 * MIB)), ByteRange::new(size - size.min(4096), size.min(4096))] {
        extents.clear();
        map.map_read(range, &mut extents);
        let mut len_sum = 0;
        for extent in &extents {
            len_sum += match *extent {
                Extent::Zero { len } => len,
                Extent::Data { file_offset, len } => {
                    assert!(file_offset >= MIB && file_offset + len <= overlay.file_len().max(file.len().unwrap()));
                    len
                }
            };
        }
        assert_eq!(len_sum, range.len);
    }
}

/// What opens for writing can be written, closed and opened again.
fn written(file: &CrashFile, dice: &mut Dice) {
    let Ok(image) = open(file, true) else { return };
    let (mut map, size) = (image.map, image.facts.size_bytes);
    let at = dice.roll(size.min(20 * MIB) / 4096) * 4096;
    let len = 4096.min(size - at) as usize;
    write_disk(&mut map, file, at, &vec![0x77; len]);
    close(&mut map, file);
    let image = open(file, false).unwrap();
    let bytes = read_disk(file, &image.map, image.overlay(), ByteRange::new(at, len as u64));
    assert!(bytes.iter().all(|byte| *byte == 0x77));
}

#[test]
fn the_memory_of_an_open_disk_is_its_table() {
    // 1 TiB of 1 MiB blocks: 8 MiB of table.
    let file = new_image(&options(VhdxKind::Dynamic, 1 << 20)).unwrap();
    PEAK.set(LIVE.get());
    let before = LIVE.get();
    let image = open(&file, true).unwrap();
    let (held, peak) = (LIVE.get() - before, PEAK.get() - before);
    assert!(held < 9 << 20 && peak < 11 << 20, "{held} bytes held, {peak} at the most");
    drop(image);
}

#[test]
fn mapping_what_exists_allocates_nothing() {
    let file = CrashFile::of(&new_image(&options(VhdxKind::Dynamic, 64)).unwrap());
    let mut map = open(&file, true).unwrap().map;
    for index in (0..64).step_by(2) {
        write_disk(&mut map, &file, index * MIB, &[1; 4096]);
    }
    let (mut extents, mut ready) = (Vec::with_capacity(64), Vec::new());
    let before = CALLS.get();
    for round in 0..1000u64 {
        extents.clear();
        map.map_read(ByteRange::new(round % 60 * MIB + 512, 3 * MIB), &mut extents);
        extents.clear();
        let range = ByteRange::new(round % 32 * 2 * MIB + 4096, MIB - 4096);
        assert_eq!(map.map_write(range, round, &mut extents).unwrap(), Mapping::Ready);
        assert!(map.next_io().is_none());
        map.take_ready(&mut ready);
    }
    assert_eq!(CALLS.get(), before);
}
