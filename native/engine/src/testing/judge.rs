//! Judges an image file by the ledger of its guest: what the ledger covers block by block, and everything behind it, where the guest never
//! wrote. Holes behind it are not read: a disk of 64 TiB is judged in seconds.

use std::io;
use std::path::Path;

use super::oracle::{InitialContent, Ledger, Verdict, verify_image};
use crate::disk::DiskError;
use crate::formats::Format;
use crate::image::ImageReader;

/// Bytes read at once behind the ledger's end.
const PIECE_BYTES: u64 = 1 << 20;

pub fn judge_image(path: &Path, format: Format, ledger: &Path) -> Result<Verdict, DiskError> {
    let failed = |e: io::Error| DiskError::io("check by its ledger", path, e);
    let reader = ImageReader::open(path, format)?;
    let ledger = Ledger::open(ledger).map_err(failed)?;
    let read = |offset, buffer: &mut [u8]| reader.read(offset, buffer).map_err(|e| io::Error::other(e.to_string()));
    let mut verdict = verify_image(&ledger, read).map_err(failed)?;
    if ledger.initial() == InitialContent::Zeros {
        find_data_behind(&reader, ledger.size_bytes(), &mut verdict)?;
    }
    Ok(verdict)
}

/// Each piece with other than zeros behind `from` counts as a wrong block.
fn find_data_behind(reader: &ImageReader, from: u64, verdict: &mut Verdict) -> Result<(), DiskError> {
    let mut at = from;
    let mut buffer = vec![0; PIECE_BYTES as usize];
    while let Some(data) = reader.next_data(at)? {
        at = data.start;
        while at < data.end() {
            let piece = &mut buffer[..PIECE_BYTES.min(data.end() - at) as usize];
            reader.read(at, piece)?;
            if let Some(byte) = piece.iter().position(|byte| *byte != 0) {
                verdict.wrong(format!("byte {} is not zero, and no guest ever wrote there", at + byte as u64));
            }
            at += piece.len() as u64;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::ByteRange;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_byte_behind_what_the_guest_used_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (image, ledger) = (folder.path().join("image"), folder.path().join("ledger"));
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(1 << 40).unwrap();
        let mut book = Ledger::create(Some(&ledger), 0, 1 << 20, 4096, InitialContent::Zeros).unwrap();
        let number = book.submit(ByteRange::new(0, 4096), true).unwrap();
        book.acknowledge(ByteRange::new(0, 4096), number);
        assert_eq!(judge_image(&image, Format::Raw, &ledger).unwrap().blocks_wrong, 0);
        file.write_all_at(&[1], (1 << 39) + 7).unwrap();
        let verdict = judge_image(&image, Format::Raw, &ledger).unwrap();
        assert_eq!(verdict.blocks_wrong, 1);
        assert_eq!(verdict.wrong, ["byte 549755813895 is not zero, and no guest ever wrote there"]);
    }
}
