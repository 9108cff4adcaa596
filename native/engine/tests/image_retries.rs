//! A kernel that interrupts, asks to try again and moves less than it was asked to: an image does what it was told all the same.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed step is a failed test

use std::path::{Path, PathBuf};

use vmstorage_engine::disk::{ByteRange, Errno};
use vmstorage_engine::file::{LockWait, Trust};
use vmstorage_engine::formats::Format;
use vmstorage_engine::image::{
    AlignedBuffer, CreateImage, Finished, Image, ImageKind, ImageOp, ImageReader, OpenImage, create_image, open_image,
};
use vmstorage_engine::reactor::{Completion, Op, Reactor, Token, Wait};
use vmstorage_engine::testing::random::Random;

const DISK_BYTES: u64 = 8 << 20;
const SECTOR: u64 = 512;

/// Does every operation at once, and often not the whole of it.
struct MoodyReactor {
    done: Vec<Completion>,
    random: Random,
    /// Of a thousand operations so many are refused for now, and so many moved in part.
    refused_permille: u64,
    short_permille: u64,
    /// A file system that cannot make a range of a file zeros, nor a hole.
    holes: bool,
}

fn outcome(result: isize) -> Result<u32, Errno> {
    if result < 0 { Err(std::io::Error::last_os_error().raw_os_error().unwrap()) } else { Ok(result as u32) }
}

impl MoodyReactor {
    fn transfer(
        &mut self,
        iov: *const libc::iovec,
        count: u32,
        call: impl Fn(*const libc::iovec, i32) -> isize,
    ) -> isize {
        // SAFETY: valid until the completion, by the contract of `submit`.
        let mut parts = unsafe { std::slice::from_raw_parts(iov, count as usize) }.to_vec();
        if self.random.below(1000) < self.short_permille {
            let whole: u64 = parts.iter().map(|part| part.iov_len as u64).sum();
            let mut left = (self.random.below(whole / SECTOR) + 1).min(whole / SECTOR) * SECTOR;
            for part in &mut parts {
                part.iov_len = part.iov_len.min(left as usize);
                left -= part.iov_len as u64;
            }
        }
        call(parts.as_ptr(), parts.len() as i32)
    }
}

impl Reactor for MoodyReactor {
    unsafe fn submit(&mut self, op: Op, token: Token) {
        if self.random.below(1000) < self.refused_permille {
            let errno = [libc::EINTR, libc::EAGAIN][self.random.below(2) as usize];
            return self.done.push(Completion { token, result: Err(errno) });
        }
        let result = match op {
            Op::Readv { fd, offset, iov, count } => self.transfer(iov, count, |iov, count| {
                // SAFETY: pointers and descriptor are valid by the contract of this function.
                unsafe { libc::preadv(fd, iov, count, offset as i64) }
            }),
            Op::Writev { fd, offset, iov, count } => self.transfer(iov, count, |iov, count| {
                // SAFETY: as above.
                unsafe { libc::pwritev(fd, iov, count, offset as i64) }
            }),
            // SAFETY: no memory is passed.
            Op::Sync { fd, .. } => unsafe { libc::fdatasync(fd) as isize },
            Op::Fallocate { .. } if !self.holes => {
                return self.done.push(Completion { token, result: Err(libc::EOPNOTSUPP) });
            }
            // SAFETY: as above.
            Op::Fallocate { fd, mode, offset, len } => unsafe {
                libc::fallocate(fd, mode, offset as i64, len as i64) as isize
            },
            // SAFETY: as above.
            Op::Truncate { fd, len } => unsafe { libc::ftruncate(fd, len as i64) as isize },
            other => unimplemented!("an image does no {other:?}"),
        };
        let result = outcome(result);
        self.done.push(Completion { token, result });
    }

    fn turn(&mut self, _wait: Wait, out: &mut Vec<Completion>) -> std::io::Result<()> {
        out.append(&mut self.done);
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.done.len()
    }

    fn name(&self) -> &'static str {
        "moody"
    }
}

fn new_image(folder: &Path, format: Format) -> PathBuf {
    let path = folder.join("disk");
    let options = CreateImage {
        format,
        kind: ImageKind::Dynamic,
        size_bytes: DISK_BYTES,
        block_bytes: (format == Format::Vhdx).then_some(1 << 20),
        logical_sector_bytes: None,
        physical_sector_bytes: None,
        identity: None,
        trust: Trust::own(),
    };
    create_image(&path, &options).unwrap();
    path
}

fn open(path: &Path, format: Format) -> Image {
    open_image(&OpenImage { path, format, writable: true, wait: LockWait::No, trust: Trust::own() }).unwrap()
}

fn settle(image: &mut Image, reactor: &mut MoodyReactor) -> Vec<Finished> {
    let (mut finished, mut completions) = (Vec::new(), Vec::new());
    loop {
        image.take_finished(&mut finished);
        reactor.turn(Wait::No, &mut completions).unwrap();
        if completions.is_empty() {
            return finished;
        }
        for completion in completions.drain(..) {
            image.on_io(completion.token.slot, completion.result, reactor);
        }
    }
}

fn run(image: &mut Image, reactor: &mut MoodyReactor, op: ImageOp, range: ByteRange, iov: &[libc::iovec]) {
    // SAFETY: the caller's buffer lives on until this returns, and then nothing is under way.
    unsafe { image.start(op, range, iov, 7, reactor) };
    let finished = settle(image, reactor);
    assert_eq!(
        finished.iter().map(|done| (done.tag, done.result)).collect::<Vec<_>>(),
        [(7, Ok(()))],
        "{op:?} {range:?}"
    );
}

#[test]
fn whatever_is_interrupted_or_cut_short_is_done_in_the_end() {
    for seed in 0..12 {
        for format in [Format::Raw, Format::Vhdx] {
            let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            let path = new_image(folder.path(), format);
            let mut image = open(&path, format);
            let random = Random::new(seed);
            let mut reactor = MoodyReactor {
                done: Vec::new(),
                random,
                refused_permille: 200,
                short_permille: 200,
                holes: seed % 2 == 0,
            };
            let mut model = vec![0u8; DISK_BYTES as usize];
            for step in 0..40u64 {
                let first = reactor.random.below(DISK_BYTES / SECTOR - 1);
                let most = (DISK_BYTES / SECTOR - first).min([1, 16, 3000][reactor.random.below(3) as usize]);
                let range = ByteRange::new(first * SECTOR, (reactor.random.below(most) + 1) * SECTOR);
                let place = range.start as usize..range.end() as usize;
                let mut buffer = AlignedBuffer::new(range.len as usize);
                match reactor.random.below(5) {
                    0 | 1 => {
                        buffer.as_mut_slice().fill((step + 1) as u8);
                        model[place].fill((step + 1) as u8);
                        run(&mut image, &mut reactor, ImageOp::Write, range, &[buffer.iovec()]);
                    }
                    2 => {
                        model[place].fill(0);
                        let unmap = reactor.random.below(2) == 0;
                        run(&mut image, &mut reactor, ImageOp::Zero { unmap }, range, &[]);
                    }
                    3 => run(&mut image, &mut reactor, ImageOp::Flush, ByteRange::default(), &[]),
                    _ => {
                        buffer.as_mut_slice().fill(0xee);
                        run(&mut image, &mut reactor, ImageOp::Read, range, &[buffer.iovec()]);
                        assert!(buffer.as_slice() == &model[place], "seed {seed} {format:?} step {step}: {range:?}");
                    }
                }
            }
            image.begin_close(&mut reactor);
            settle(&mut image, &mut reactor);
            assert!(image.is_clean(), "seed {seed} {format:?}");
            drop(image);
            let mut content = vec![0u8; DISK_BYTES as usize];
            ImageReader::open(&path, format).unwrap().read(0, &mut content).unwrap();
            assert!(content == model, "seed {seed} {format:?}");
        }
    }
}
