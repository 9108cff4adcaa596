//! VHDX as others see it: qemu-img in both directions, and images made by Hyper-V, disk2vhd and old QEMU.
//!
//! A peer that is missing is a skip with its reason; with `CI=true` it is an error. Foreign images are looked for in
//! `VMSTORAGE_IMAGES`, or `../shared/images` beside the repository.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod vhdx_support;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;
use vhdx_support::{Dice, MIB, close, pattern, read_disk, write_disk};
use vmstorage_engine::disk::{ByteRange, ErrorKind};
use vmstorage_engine::formats::vhdx::{CreateOptions, VhdxImage, VhdxKind, create, inspect, open};
use vmstorage_engine::formats::{Extent, ImageMap};

/// What a reader reads at a time.
const CHUNK: u64 = 4 * MIB;

fn missing(what: &str) {
    assert!(std::env::var_os("CI").is_none_or(|v| v != "true"), "{what} is missing, and CI=true allows no skips");
    eprintln!("skipped: {what} is missing");
}

fn has_qemu_img() -> bool {
    let found = Command::new("qemu-img").arg("--version").stdout(Stdio::null()).status().is_ok_and(|s| s.success());
    if !found {
        missing("qemu-img");
    }
    found
}

fn qemu_img(args: &[&str]) -> Output {
    Command::new("qemu-img").args(args).output().unwrap()
}

/// Runs qemu-img, which must succeed.
fn qemu_img_ok(args: &[&str]) -> String {
    let output = qemu_img(args);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "qemu-img {args:?}: {text}{errors}");
    text
}

fn check_clean(path: &Path) {
    let text = qemu_img_ok(&["check", "-f", "vhdx", text(path)]);
    assert!(text.contains("No errors were found"), "{text}");
}

fn compare(raw: &Path, vhdx: &Path) {
    let said = qemu_img_ok(&["compare", "-f", "raw", "-F", "vhdx", text(raw), text(vhdx)]);
    assert!(said.contains("identical"), "{said}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn read_write(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

/// Creates the file as a caller must: new, or not at all.
fn create_at(path: &Path, options: &CreateOptions) {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).unwrap();
    create(&file, options).unwrap();
}

fn sha256_of_stdin(feed: impl FnOnce(&mut dyn Write)) -> String {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sha256sum is part of coreutils");
    feed(child.stdin.as_mut().unwrap());
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}

fn sha256_of_file(path: &Path) -> String {
    sha256_of_stdin(|out| std::io::copy(&mut File::open(path).unwrap(), out).map(|_| ()).unwrap())
}

fn for_each_chunk(image: &VhdxImage, file: &File, mut each: impl FnMut(u64, &[u8])) {
    let (mut at, size) = (0, image.facts.size_bytes);
    while at < size {
        let range = ByteRange::new(at, CHUNK.min(size - at));
        each(at, &read_disk(file, &image.map, image.overlay(), range));
        at = range.end();
    }
}

fn sha256_of_disk(image: &VhdxImage, file: &File) -> String {
    let zeros = vec![0; CHUNK as usize];
    sha256_of_stdin(|out| {
        let (mut at, size) = (0, image.facts.size_bytes);
        let mut extents = Vec::new();
        while at < size {
            let range = ByteRange::new(at, CHUNK.min(size - at));
            extents.clear();
            image.map.map_read(range, &mut extents);
            match extents[..] {
                [Extent::Zero { len }] => out.write_all(&zeros[..len as usize]).unwrap(),
                _ => out.write_all(&read_disk(file, &image.map, image.overlay(), range)).unwrap(),
            }
            at = range.end();
        }
    })
}

// ---- images made by others ----

struct Foreign {
    name: String,
    file_hash: String,
    guest_bytes: u64,
    guest_hash: String,
    parents: String,
}

/// The folder and the VHDX rows of its manifest, or `None` where it is not there.
fn foreign_images() -> Option<(PathBuf, Vec<Foreign>)> {
    let folder = match std::env::var_os("VMSTORAGE_IMAGES") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/images"),
    };
    let Ok(manifest) = std::fs::read_to_string(folder.join("manifest.tsv")) else {
        missing(&format!("the folder of foreign images ('{}')", folder.display()));
        return None;
    };
    let rows = manifest.lines().skip(1).map(|line| line.split('\t').collect::<Vec<_>>());
    let rows = rows.filter(|row| row[0].ends_with("vhdx") && row[1] != "-").map(|row| Foreign {
        name: row[0].to_owned(),
        file_hash: row[2].to_owned(),
        guest_bytes: row[3].parse().unwrap(),
        guest_hash: row[4].to_owned(),
        parents: row[5].to_owned(),
    });
    Some((folder, rows.collect()))
}

fn unpack(folder: &Path, name: &str, into: &TempDir) -> PathBuf {
    let path = into.path().join(name);
    let status = Command::new("gzip")
        .args(["-dc", text(&folder.join(format!("{name}.gz")))])
        .stdout(File::create(&path).unwrap())
        .status()
        .expect("gzip is an essential package");
    assert!(status.success());
    path
}

#[test]
fn images_made_by_others_read_as_their_makers_meant_and_are_not_written() {
    let Some((folder, images)) = foreign_images() else { return };
    let scratch = TempDir::new().unwrap();
    let mut read = Vec::new();
    for image in images.iter().filter(|image| image.parents == "-") {
        let path = unpack(&folder, &image.name, &scratch);
        let file = File::open(&path).unwrap();
        let opened = open(&file, false).unwrap_or_else(|error| panic!("{}: {error}", image.name));
        assert_eq!(opened.facts.size_bytes, image.guest_bytes, "{}", image.name);
        assert_eq!(sha256_of_disk(&opened, &file), image.guest_hash, "{}", image.name);
        assert_eq!(opened.facts.dirty_log, image.name.contains("dirtylog"));
        assert_eq!(inspect(&file).unwrap(), opened.facts);
        assert_eq!(sha256_of_file(&path), image.file_hash, "{} was written to", image.name);
        // Opening for writing changes nothing either, until something is written or has to be replayed.
        if !opened.facts.dirty_log {
            open(&read_write(&path), true).unwrap();
            assert_eq!(sha256_of_file(&path), image.file_hash, "{} was written to", image.name);
        }
        read.push(image.name.as_str());
    }
    for name in
        ["ext2", "ntfs-dynamic", "ntfs-fixed", "fat-parent", "ntfs-parent", "iotest-dynamic-1G", "test-disk2vhd"]
    {
        assert!(read.contains(&format!("{name}.vhdx").as_str()), "{name}.vhdx is not in the folder");
    }
    assert!(read.contains(&"iotest-dirtylog-10G-4M.vhdx"));
}

#[test]
fn differencing_images_are_refused_by_name_and_not_written() {
    let Some((folder, images)) = foreign_images() else { return };
    let scratch = TempDir::new().unwrap();
    let mut refused = 0;
    for image in images.iter().filter(|image| image.parents != "-") {
        let path = unpack(&folder, &image.name, &scratch);
        for writable in [false, true] {
            let error = open(&read_write(&path), writable).err().unwrap();
            assert_eq!(error.kind, ErrorKind::Unsupported);
            let parent = image.parents.trim_end_matches(".vhdx");
            assert!(error.message.contains("differencing disk") && error.message.contains(parent), "{}", error.message);
        }
        assert_eq!(inspect(&File::open(&path).unwrap()).unwrap_err().kind, ErrorKind::Unsupported);
        assert_eq!(sha256_of_file(&path), image.file_hash);
        refused += 1;
    }
    assert!(refused >= 2);
}

#[test]
fn a_dirty_log_of_another_writer_is_replayed_into_the_file_as_qemu_does() {
    let Some((folder, images)) = foreign_images() else { return };
    if !has_qemu_img() {
        return;
    }
    let scratch = TempDir::new().unwrap();
    let image = images.iter().find(|image| image.name.contains("dirtylog")).unwrap();
    let ours = unpack(&folder, &image.name, &scratch);
    let theirs = scratch.path().join("theirs.vhdx");
    std::fs::copy(&ours, &theirs).unwrap();
    let opened = open(&read_write(&ours), true).unwrap();
    assert!(opened.facts.dirty_log && opened.overlay().is_empty());
    assert!(!inspect(&File::open(&ours).unwrap()).unwrap().dirty_log);
    check_clean(&ours);
    qemu_img_ok(&["check", "-f", "vhdx", "-r", "all", text(&theirs)]);
    let said = qemu_img_ok(&["compare", "-f", "vhdx", "-F", "vhdx", text(&ours), text(&theirs)]);
    assert!(said.contains("identical"), "{said}");
}

#[test]
fn a_file_cut_short_is_refused() {
    let Some((folder, _)) = foreign_images() else { return };
    let scratch = TempDir::new().unwrap();
    for name in ["iotest-dirtylog-10G-4M.vhdx", "ntfs-fixed.vhdx", "test-disk2vhd.vhdx"] {
        let path = unpack(&folder, name, &scratch);
        let file = read_write(&path);
        file.set_len(file.metadata().unwrap().len() - MIB).unwrap();
        let error = open(&file, false).err().unwrap();
        assert_eq!(error.kind, ErrorKind::Corrupt);
        assert!(error.message.contains("truncated") || error.message.contains("end of the file"), "{}", error.message);
    }
}

// ---- qemu-img makes it, we read and write it ----

/// A raw disk of `size` bytes with pieces of content all over it, the last sector included.
fn raw_disk(path: &Path, size: u64, seed: u64) {
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    let mut dice = Dice::new(seed);
    for piece in 0..24 {
        let len = (dice.roll(256) + 1) * 512;
        let at = dice.roll((size - len) / 512) * 512;
        file.write_all_at(&pattern(seed + piece, len as usize), at).unwrap();
    }
    file.write_all_at(&pattern(seed + 99, 512), size - 512).unwrap();
}

fn equals_raw(image: &VhdxImage, file: &File, raw: &Path) {
    let raw = File::open(raw).unwrap();
    assert_eq!(image.facts.size_bytes, raw.metadata().unwrap().len());
    for_each_chunk(image, file, |at, bytes| {
        let mut expected = vec![0; bytes.len()];
        raw.read_exact_at(&mut expected, at).unwrap();
        assert!(bytes == expected, "content differs between {at} and {}", at + bytes.len() as u64);
    });
}

/// Sizes that are and are not multiples of the block; every block size qemu-img and we know.
const GEOMETRIES: [(u64, u64); 9] = [
    (MIB, 64 * MIB),
    (MIB, 3 * MIB + 512),
    (2 * MIB, 33 * MIB + 7 * 512),
    (4 * MIB, 40 * MIB),
    (8 * MIB, 65 * MIB + 4096),
    (16 * MIB, 100 * MIB - 512),
    (32 * MIB, 70 * MIB),
    (128 * MIB, 130 * MIB),
    (256 * MIB, 258 * MIB),
];

#[test]
fn what_qemu_img_converts_reads_the_same_and_stays_right_when_we_write() {
    if !has_qemu_img() {
        return;
    }
    for (index, (block, size)) in GEOMETRIES.into_iter().enumerate() {
        for subformat in ["dynamic", "fixed"] {
            let scratch = TempDir::new().unwrap();
            let (raw, vhdx) = (scratch.path().join("disk.img"), scratch.path().join("disk.vhdx"));
            raw_disk(&raw, size, index as u64);
            let options = format!("subformat={subformat},block_size={block}");
            qemu_img_ok(&["convert", "-f", "raw", "-O", "vhdx", "-o", &options, text(&raw), text(&vhdx)]);
            let file = read_write(&vhdx);
            let mut image = open(&file, true).unwrap();
            equals_raw(&image, &file, &raw);
            assert_eq!(image.facts.block_bytes, block);
            // Ours on top: inside blocks, across blocks, at the end.
            let mirror = read_write(&raw);
            let mut dice = Dice::new(index as u64 + 100);
            for piece in 0..12 {
                let len = (dice.roll(4096) + 1) * 512;
                let at = match piece {
                    0 => size - len,
                    _ => dice.roll((size - len) / 512) * 512,
                };
                let bytes = pattern(piece + 1000, len as usize);
                write_disk(&mut image.map, &file, at, &bytes);
                mirror.write_all_at(&bytes, at).unwrap();
            }
            close(&mut image.map, &file);
            check_clean(&vhdx);
            compare(&raw, &vhdx);
        }
    }
}

#[test]
fn a_log_longer_than_usual_is_written_so_that_qemu_img_replays_it() {
    if !has_qemu_img() {
        return;
    }
    let scratch = TempDir::new().unwrap();
    let (raw, vhdx) = (scratch.path().join("disk.img"), scratch.path().join("disk.vhdx"));
    qemu_img_ok(&["create", "-f", "vhdx", "-o", "block_size=1M,log_size=3M", text(&vhdx), "600M"]);
    write_blocks(&vhdx, &raw, 600 * MIB, MIB, 500);
    replayed_by_qemu(&vhdx, &raw);
}

// ---- we make it, qemu-img reads it ----

fn options(kind: VhdxKind, size: u64, block: u64) -> CreateOptions {
    let mut options = CreateOptions::new(kind, size, "vmstorage");
    options.block_bytes = block;
    options
}

#[test]
fn what_we_create_and_write_is_clean_and_equal_for_qemu_img() {
    if !has_qemu_img() {
        return;
    }
    for (index, (block, size)) in GEOMETRIES.into_iter().enumerate() {
        for kind in [VhdxKind::Dynamic, VhdxKind::Fixed] {
            let scratch = TempDir::new().unwrap();
            let (raw, vhdx) = (scratch.path().join("disk.img"), scratch.path().join("disk.vhdx"));
            create_at(&vhdx, &options(kind, size, block));
            check_clean(&vhdx);
            let info = qemu_img_ok(&["info", "-f", "vhdx", "--output=json", text(&vhdx)]);
            assert!(info.contains(&format!("\"virtual-size\": {size}")), "{info}");
            if kind == VhdxKind::Fixed {
                let allocated = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&vhdx).unwrap()) * 512;
                assert!(allocated >= size, "a fixed disk has its space: {allocated} of {size}");
            }
            raw_disk(&raw, size, index as u64);
            let file = read_write(&vhdx);
            let mut image = open(&file, true).unwrap();
            let source = File::open(&raw).unwrap();
            for at in (0..size).step_by(MIB as usize / 2) {
                let mut bytes = vec![0; (size - at).min(MIB / 2) as usize];
                source.read_exact_at(&mut bytes, at).unwrap();
                if bytes.iter().any(|byte| *byte != 0) {
                    write_disk(&mut image.map, &file, at, &bytes);
                }
            }
            equals_raw(&image, &file, &raw);
            close(&mut image.map, &file);
            check_clean(&vhdx);
            compare(&raw, &vhdx);
            equals_raw(&open(&file, false).unwrap(), &file, &raw);
        }
    }
}

/// Writes a sector into each of the first `count` blocks, in a scattered order, without closing.
fn write_blocks(vhdx: &Path, raw: &Path, size: u64, block: u64, count: u64) {
    let (file, mirror) = (read_write(vhdx), File::create(raw).unwrap());
    mirror.set_len(size).unwrap();
    let mut image = open(&file, true).unwrap();
    for index in 0..count {
        let at = (index * 7919 % count) * block + (index % 100) * 512;
        let bytes = pattern(index, 512);
        write_disk(&mut image.map, &file, at, &bytes);
        mirror.write_all_at(&bytes, at).unwrap();
    }
}

/// A copy is repaired by qemu-img and equal then; the original opens the same way with us, read-only and for writing.
fn replayed_by_qemu(vhdx: &Path, raw: &Path) {
    let copy = vhdx.with_extension("copy.vhdx");
    std::fs::copy(vhdx, &copy).unwrap();
    assert!(inspect(&File::open(&copy).unwrap()).unwrap().dirty_log);
    let refused = qemu_img(&["compare", "-f", "raw", "-F", "vhdx", text(raw), text(&copy)]);
    assert!(!refused.status.success(), "qemu-img sees that the log has to be replayed");
    qemu_img_ok(&["check", "-f", "vhdx", "-r", "all", text(&copy)]);
    check_clean(&copy);
    compare(raw, &copy);
    let hash = sha256_of_file(vhdx);
    let file = read_write(vhdx);
    equals_raw(&open(&file, false).unwrap(), &file, raw);
    assert_eq!(sha256_of_file(vhdx), hash, "read-only means read-only");
    open(&file, true).unwrap();
    check_clean(vhdx);
    compare(raw, vhdx);
}

#[test]
fn a_file_left_without_a_clean_close_is_replayed_by_qemu_img_at_every_length_of_the_log() {
    if !has_qemu_img() {
        return;
    }
    // 126 single entries fill the log: the counts stand around the ends of its laps.
    for count in [1, 2, 125, 126, 127, 128, 252, 253, 379] {
        let scratch = TempDir::new().unwrap();
        let (raw, vhdx) = (scratch.path().join("disk.img"), scratch.path().join("disk.vhdx"));
        create_at(&vhdx, &options(VhdxKind::Dynamic, 700 * MIB, MIB));
        write_blocks(&vhdx, &raw, 700 * MIB, MIB, count);
        replayed_by_qemu(&vhdx, &raw);
    }
}

#[test]
fn a_fixed_file_left_without_a_clean_close_has_a_log_without_changes_and_is_replayed_too() {
    if !has_qemu_img() {
        return;
    }
    let scratch = TempDir::new().unwrap();
    let (raw, vhdx) = (scratch.path().join("disk.img"), scratch.path().join("disk.vhdx"));
    create_at(&vhdx, &options(VhdxKind::Fixed, 20 * MIB, MIB));
    write_blocks(&vhdx, &raw, 20 * MIB, MIB, 20);
    replayed_by_qemu(&vhdx, &raw);
}

#[test]
fn qemu_img_accepts_the_largest_disks() {
    if !has_qemu_img() {
        return;
    }
    let scratch = TempDir::new().unwrap();
    for (name, size, block) in [("32m", 64 << 40, 32 * MIB), ("256m", 64 << 40, 256 * MIB), ("1m", 2 << 40, MIB)] {
        let vhdx = scratch.path().join(format!("{name}.vhdx"));
        create_at(&vhdx, &options(VhdxKind::Dynamic, size, block));
        let file = read_write(&vhdx);
        let mut image = open(&file, true).unwrap();
        let last = pattern(5, 4096);
        write_disk(&mut image.map, &file, size - 4096, &last);
        close(&mut image.map, &file);
        check_clean(&vhdx);
        let seen = Command::new("qemu-io")
            .args(["-r", "-f", "vhdx", "-c", &format!("read -v {} 16", size - 4096), text(&vhdx)])
            .output();
        let Ok(seen) = seen else { return missing("qemu-io") };
        let bytes: Vec<String> = last[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(String::from_utf8_lossy(&seen.stdout).contains(&bytes.join(" ")), "{seen:?}");
    }
}

#[test]
fn qemu_and_we_take_turns_on_one_file() {
    if !has_qemu_img() {
        return;
    }
    let scratch = TempDir::new().unwrap();
    let (raw, vhdx) = (scratch.path().join("disk.img"), scratch.path().join("disk.vhdx"));
    let size = 90 * MIB + 512;
    create_at(&vhdx, &options(VhdxKind::Dynamic, size, 2 * MIB));
    let mirror = File::create(&raw).unwrap();
    mirror.set_len(size).unwrap();
    for turn in 0..6u64 {
        let (at, fill) = ((turn * 13 + 2) * MIB, turn as u8 + 1);
        let write = format!("write -P {fill} {at} 1536k");
        let done = Command::new("qemu-io").args(["-f", "vhdx", "-c", &write, text(&vhdx)]).output();
        let Ok(done) = done else { return missing("qemu-io") };
        assert!(done.status.success());
        mirror.write_all_at(&vec![fill; 1536 << 10], at).unwrap();
        let file = read_write(&vhdx);
        let mut image = open(&file, true).unwrap();
        equals_raw(&image, &file, &raw);
        let bytes = pattern(turn, 3 << 20);
        write_disk(&mut image.map, &file, turn * 14 * MIB + 1024, &bytes);
        mirror.write_all_at(&bytes, turn * 14 * MIB + 1024).unwrap();
        close(&mut image.map, &file);
        check_clean(&vhdx);
        compare(&raw, &vhdx);
    }
}
