//! Images of other formats under the name of a raw disk. A guest that is given one overwrites the container; a client reads the container
//! for the disk. So what the content looks like is a reason to refuse, and never to choose: a guest can write whatever it likes into its
//! disk, and one that has written such bytes is still started, served and moved (who attaches a disk is asked, who has it is not).
//!
//! Only what cannot be the beginning of a disk with partitions or a file system is listed. LUKS, ISO 9660 and LVM are what disks hold.

use std::io;
use std::os::unix::fs::FileExt;

use crate::disk::{DiskError, SECTOR_BYTES};
use crate::file::HostFile;

/// What is read of each end.
const END_BYTES: usize = SECTOR_BYTES as usize;

#[derive(Clone, Copy)]
enum At {
    /// Bytes from the start.
    Start(usize),
    /// Bytes before the end.
    End(usize),
}

struct Signature {
    name: &'static str,
    at: At,
    bytes: &'static [u8],
}

const fn row(name: &'static str, at: At, bytes: &'static [u8]) -> Signature {
    Signature { name, at, bytes }
}

/// Sources beside each group: QEMU's are the paths in its source tree.
const SIGNATURES: &[Signature] = &[
    // docs/interop/qcow2.rst; block/qcow.c has the same magic for version 1.
    row("a qcow2 image", At::Start(0), b"QFI\xfb"),
    // docs/interop/qed_spec.rst
    row("a QED image", At::Start(0), b"QED\0"),
    // [MS-VHDX] 2.2.1
    row("a VHDX image", At::Start(0), b"vhdxfile"),
    // Virtual Hard Disk Image Format Specification 1.0: the footer, its copy in front of a dynamic disk, and the 511 bytes of Virtual PC
    // before 2004.
    row("a VHD image", At::Start(0), b"conectix"),
    row("a VHD image", At::End(512), b"conectix"),
    row("a VHD image", At::End(511), b"conectix"),
    // VMware Virtual Disk Format 1.1 and 5.0; block/vmdk.c
    row("a VMDK image", At::Start(0), b"KDMV"),
    row("a VMDK image", At::Start(0), b"COWD"),
    row("a VMDK image", At::Start(0), &[0xbe, 0xba, 0xfe, 0xca, 0, 0, 0, 0]),
    row("the descriptor of a VMDK image", At::Start(0), b"# Disk DescriptorFile"),
    // block/vdi.c VDI_SIGNATURE
    row("a VDI image", At::Start(64), &[0x7f, 0x10, 0xda, 0xbe]),
    // docs/interop/parallels.rst
    row("a Parallels image", At::Start(0), b"WithoutFreeSpace"),
    row("a Parallels image", At::Start(0), b"WithouFreSpacExt"),
    // block/bochs.c HEADER_MAGIC
    row("a Bochs image", At::Start(0), b"Bochs Virtual HD Image"),
    // block/cloop.c
    row("a cloop image", At::Start(0), b"#!/bin/sh\n#V2.0 Format"),
    // block/dmg.c: the trailer
    row("a DMG image", At::End(512), b"koly"),
    // Proxmox VE, vma_spec.txt
    row("a VMA archive", At::Start(0), b"VMA\0"),
    // libewf, Expert Witness Compression Format, versions 1 and 2
    row("an EWF image", At::Start(0), b"EVF\x09\x0d\x0a\xff\x00"),
    row("an EWF image", At::Start(0), b"EVF2\x0d\x0a\x81\x00"),
    // Windows Imaging File Format 1.0
    row("a WIM archive", At::Start(0), b"MSWIM\0\0\0"),
    // Android Open Source Project, libsparse/sparse_format.h SPARSE_HEADER_MAGIC
    row("an Android sparse image", At::Start(0), &[0x3a, 0xff, 0x26, 0xed]),
    // What images are shipped in: RFC 1952, bzip2's and xz's format descriptions, RFC 8878, LZ4 frame format, 7-Zip 7zFormat.txt,
    // APPNOTE.TXT 4.3.7, POSIX ustar (an OVA is one)
    row("gzip data", At::Start(0), &[0x1f, 0x8b, 0x08]),
    row("bzip2 data", At::Start(4), b"1AY&SY"),
    row("xz data", At::Start(0), &[0xfd, b'7', b'z', b'X', b'Z', 0]),
    row("zstd data", At::Start(0), &[0x28, 0xb5, 0x2f, 0xfd]),
    row("LZ4 data", At::Start(0), &[0x04, 0x22, 0x4d, 0x18]),
    row("a 7-Zip archive", At::Start(0), &[b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c]),
    row("a ZIP archive", At::Start(0), b"PK\x03\x04"),
    row("a tar archive", At::Start(257), b"ustar"),
];

/// What the content of a raw disk looks like instead, with its article ("a qcow2 image"); `None` for everything a disk may hold.
pub fn foreign_content(file: &HostFile) -> Result<Option<&'static str>, DiskError> {
    let len = file.len()?;
    let failed = |e: io::Error| DiskError::io("read", file.path(), e);
    let (mut start, mut end) = ([0; END_BYTES], [0; END_BYTES]);
    let step = len.min(END_BYTES as u64) as usize;
    file.file().read_exact_at(&mut start[..step], 0).map_err(failed)?;
    file.file().read_exact_at(&mut end[..step], len - step as u64).map_err(failed)?;
    Ok(recognise(&start[..step], &end[..step]))
}

fn recognise(start: &[u8], end: &[u8]) -> Option<&'static str> {
    let is_there = |signature: &&Signature| {
        let there = match signature.at {
            At::Start(from) => start.get(from..),
            At::End(before) => end.len().checked_sub(before).map(|from| &end[from..]),
        };
        there.is_some_and(|bytes| bytes.starts_with(signature.bytes))
    };
    SIGNATURES.iter().find(is_there).map(|signature| signature.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(at: At, bytes: &[u8]) -> ([u8; END_BYTES], [u8; END_BYTES]) {
        let (mut start, mut end) = ([0; END_BYTES], [0; END_BYTES]);
        match at {
            At::Start(from) => start[from..from + bytes.len()].copy_from_slice(bytes),
            At::End(before) => end[END_BYTES - before..][..bytes.len()].copy_from_slice(bytes),
        }
        (start, end)
    }

    #[test]
    fn every_row_is_recognised_where_it_stands_and_nowhere_else() {
        for signature in SIGNATURES {
            let (start, end) = with(signature.at, signature.bytes);
            assert_eq!(recognise(&start, &end), Some(signature.name));
            let (mut start, mut end) = with(signature.at, signature.bytes);
            start.rotate_right(1);
            end.rotate_right(7);
            assert_eq!(recognise(&start, &end), None, "{} out of its place", signature.name);
        }
    }

    #[test]
    fn what_disks_hold_is_no_foreign_content() {
        let mut mbr = [0; END_BYTES];
        mbr[510..].copy_from_slice(&[0x55, 0xaa]);
        let luks = with(At::Start(0), b"LUKS\xba\xbe").0;
        let lvm = with(At::Start(24), b"LVM2 001").0;
        let gpt_end = with(At::End(512), b"EFI PART").1;
        for start in [[0; END_BYTES], mbr, luks, lvm] {
            assert_eq!(recognise(&start, &gpt_end), None);
        }
        assert_eq!(recognise(&[], &[]), None);
        assert_eq!(recognise(b"QF", b"QF"), None);
    }
}
