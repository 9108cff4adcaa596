use std::fs::File;
use std::os::unix::fs::FileExt;

use super::*;
use crate::exports::vhost_user_blk::memory::RegionPlace;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const ENTRIES: u16 = 16;
const SERIAL: [u8; 20] = *b"0123456789abcdefghij";

// Guest addresses: the table at 0, an indirect one, a header, buffers.
const TABLE_2: u64 = 0x800;
const HEADER: u64 = 0x1000;
const DATA: u64 = 0x2000;
const STATUS: u64 = 0x8000;
const MEMORY_BYTES: u64 = 0x9000;

struct Bench {
    memory: File,
    map: MemoryMap,
    parts: Parts,
}

impl Bench {
    fn new() -> Self {
        let memory = tempfile::tempfile().unwrap();
        memory.set_len(MEMORY_BYTES).unwrap();
        let place = RegionPlace { guest: 0, len: MEMORY_BYTES, user: 0x7000_0000, file_offset: 0 };
        let map = MemoryMap::from_table([(place, memory.try_clone().unwrap())]).unwrap();
        Self { memory, map, parts: Parts::default() }
    }

    fn header(&self, kind: u32, sector: u64) {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&kind.to_le_bytes());
        bytes[8..].copy_from_slice(&sector.to_le_bytes());
        self.memory.write_at(&bytes, HEADER).unwrap();
    }

    fn segment(&self, index: u64, sector: u64, sectors: u32, flags: u32) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&sector.to_le_bytes());
        bytes[8..12].copy_from_slice(&sectors.to_le_bytes());
        bytes[12..].copy_from_slice(&flags.to_le_bytes());
        self.memory.write_at(&bytes, DATA + 16 * index).unwrap();
    }

    fn descriptor(&self, table: u64, index: u16, address: u64, len: u32, flags: u16, next: u16) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&address.to_le_bytes());
        bytes[8..12].copy_from_slice(&len.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.to_le_bytes());
        self.memory.write_at(&bytes, table + 16 * u64::from(index)).unwrap();
    }

    /// Writes a chain of (address, length, device writes) and parses it.
    fn parse(&mut self, chain: &[(u64, u32, bool)]) -> Result<(Wanted, *mut u8), Malformed> {
        for (index, (address, len, writes)) in chain.iter().enumerate() {
            let next = if index + 1 < chain.len() { NEXT } else { 0 };
            let flags = next | if *writes { WRITE } else { 0 };
            self.descriptor(0, index as u16, *address, *len, flags, index as u16 + 1);
        }
        self.gather()
    }

    fn gather(&mut self) -> Result<(Wanted, *mut u8), Malformed> {
        self.parts.gather(&self.map, 0, ENTRIES, 0)?;
        self.parts.parse(&SERIAL)
    }

    fn wanted(&mut self, chain: &[(u64, u32, bool)]) -> Wanted {
        self.parse(chain).unwrap().0
    }

    fn host(&self, guest: u64) -> *mut u8 {
        let mut out = IoVecs::new();
        assert!(self.map.host_ranges(guest, 1, &mut out));
        out[0].iov_base.cast()
    }
}

const READ: u32 = VIRTIO_BLK_T_IN;
const WRITE_REQUEST: u32 = VIRTIO_BLK_T_OUT;
const REFUSED: Wanted = Wanted::Answer(Status::IoError);

#[test]
fn header_data_and_status_may_be_cut_anywhere() {
    let mut bench = Bench::new();
    bench.header(READ, 10);
    let expected = Wanted::Read { offset: 5120, len: 1024 };
    let plain = [(HEADER, 16, false), (DATA, 1024, true), (STATUS, 1, true)];
    let (wanted, status) = bench.parse(&plain).unwrap();
    assert_eq!((wanted, status), (expected, bench.host(STATUS)));
    let cut_header = [(HEADER, 5, false), (HEADER + 5, 11, false), (DATA, 1024, true), (STATUS, 1, true)];
    assert_eq!(bench.wanted(&cut_header), expected);
    let (wanted, status) = bench.parse(&[(HEADER, 16, false), (DATA, 700, true), (DATA + 700, 325, true)]).unwrap();
    assert_eq!((wanted, status), (expected, bench.host(DATA + 1024)), "the status ends the data's last buffer");
    bench.header(WRITE_REQUEST, 10);
    bench.memory.write_at(&[7; 512], HEADER + 16).unwrap();
    assert_eq!(bench.wanted(&[(HEADER, 528, false), (STATUS, 1, true)]), Wanted::Write { offset: 5120, len: 512 });
    assert_eq!(bench.parts.readable[0].iov_base.cast(), bench.host(HEADER + 16), "data in the header's buffer");
}

#[test]
fn an_indirect_table_is_followed_and_a_nested_or_crooked_one_is_not() {
    let mut bench = Bench::new();
    bench.header(READ, 0);
    bench.descriptor(0, 0, TABLE_2, 48, INDIRECT, 0);
    bench.descriptor(TABLE_2, 0, HEADER, 16, NEXT, 1);
    bench.descriptor(TABLE_2, 1, DATA, 512, NEXT | WRITE, 2);
    bench.descriptor(TABLE_2, 2, STATUS, 1, WRITE, 0);
    assert_eq!(bench.gather().unwrap().0, Wanted::Read { offset: 0, len: 512 });
    bench.descriptor(TABLE_2, 1, DATA, 512, NEXT | WRITE, 3);
    assert!(bench.gather().is_err(), "an index beyond the indirect table");
    bench.descriptor(TABLE_2, 1, 0, 32, INDIRECT, 0);
    assert!(bench.gather().is_err(), "nested");
    for len in [0, 8, 47] {
        bench.descriptor(0, 0, TABLE_2, len, INDIRECT, 0);
        assert!(bench.gather().is_err(), "{len} bytes");
    }
    bench.descriptor(0, 0, MEMORY_BYTES, 32, INDIRECT, 0);
    assert!(bench.gather().is_err(), "outside of memory");
    bench.descriptor(0, 0, u64::MAX - 8, 32, INDIRECT, 0);
    assert!(bench.gather().is_err(), "at the end of the address space");
}

#[test]
fn loops_and_indices_beyond_the_table_end() {
    let mut bench = Bench::new();
    bench.descriptor(0, 0, HEADER, 16, NEXT, 1);
    bench.descriptor(0, 1, DATA, 16, NEXT, 0);
    assert!(bench.gather().is_err(), "a loop");
    bench.descriptor(0, 1, DATA, 16, NEXT, ENTRIES);
    assert!(bench.gather().is_err());
    assert!(bench.parts.gather(&bench.map, 0, ENTRIES, ENTRIES).is_err(), "a head beyond the table");
}

#[test]
fn what_cannot_be_answered_breaks_the_ring_and_everything_else_is_answered() {
    let mut bench = Bench::new();
    bench.header(READ, 0);
    let outside = MEMORY_BYTES - 8;
    assert!(bench.parse(&[(HEADER, 16, false)]).is_err(), "no status");
    assert!(bench.parse(&[(HEADER, 16, false), (DATA, 512, true), (outside, 16, true)]).is_err(), "status unmapped");
    assert!(bench.parse(&[(HEADER, 16, false), (STATUS, 0, true)]).is_err(), "status of no length");
    let (header, data, status) = ((HEADER, 16, false), (DATA, 512, true), (STATUS, 1, true));
    assert_eq!(bench.wanted(&[header, (outside, 512, true), status]), REFUSED, "data unmapped");
    assert_eq!(bench.wanted(&[(outside, 16, false), data, status]), REFUSED, "header unmapped");
    assert_eq!(bench.wanted(&[(HEADER, 15, false), data, status]), REFUSED, "header too short");
    assert_eq!(bench.wanted(&[data, header, status]), REFUSED, "readable after writable");
    assert_eq!(bench.wanted(&[header, (DATA, 513, true), status]), REFUSED, "not whole sectors");
    bench.header(READ, u64::MAX / 512);
    assert_eq!(bench.wanted(&[header, data, status]), REFUSED, "beyond any disk");
    bench.header(READ, u64::MAX);
    assert_eq!(bench.wanted(&[header, data, status]), REFUSED, "an offset that overflows");
    bench.header(99, 0);
    assert_eq!(bench.wanted(&[header, status]), Wanted::Answer(Status::Unsupported));
}

#[test]
fn discards_and_write_zeroes_are_checked_before_any_is_done() {
    let mut bench = Bench::new();
    let chain = |segments: u32| [(HEADER, 16, false), (DATA, 16 * segments, false), (STATUS, 1, true)];
    bench.header(VIRTIO_BLK_T_WRITE_ZEROES, 0);
    bench.segment(0, 8, 16, 1);
    bench.segment(1, 100, 1, 0);
    assert_eq!(bench.wanted(&chain(2)), Wanted::Zero);
    let kind = |unmap| RequestKind::WriteZeroes { unmap };
    let expected = [(kind(true), ByteRange::new(4096, 8192)), (kind(false), ByteRange::new(51200, 512))];
    assert_eq!(bench.parts.segments, expected);
    bench.segment(1, 100, 1, 2);
    assert_eq!(bench.wanted(&chain(2)), Wanted::Answer(Status::Unsupported), "an unknown flag");
    bench.segment(1, u64::MAX, 1, 0);
    assert_eq!(bench.wanted(&chain(2)), REFUSED);
    bench.segment(1, 0, u32::MAX, 0);
    assert_eq!(bench.wanted(&chain(2)), REFUSED, "more than was said to be possible");
    assert_eq!(bench.wanted(&[(HEADER, 16, false), (DATA, 17, false), (STATUS, 1, true)]), REFUSED);
    assert_eq!(bench.wanted(&[(HEADER, 16, false), (STATUS, 1, true)]), REFUSED, "no segment");
    assert_eq!(bench.wanted(&chain(MAX_ZEROED_SEGMENTS + 1)), REFUSED);
    bench.segment(0, 0, 0, 0);
    assert_eq!(bench.wanted(&chain(1)), Wanted::Answer(Status::Ok), "nothing to zero");
    bench.header(VIRTIO_BLK_T_DISCARD, 0);
    bench.segment(0, 8, 16, 0);
    assert_eq!(bench.wanted(&chain(1)), Wanted::Zero);
    assert_eq!(bench.parts.segments, [(RequestKind::Discard, ByteRange::new(4096, 8192))]);
    bench.segment(0, 8, 16, 1);
    assert_eq!(bench.wanted(&chain(1)), Wanted::Answer(Status::Unsupported), "unmap says nothing for a discard");
}

#[test]
fn the_identity_goes_into_buffers_cut_anywhere() {
    let mut bench = Bench::new();
    bench.header(VIRTIO_BLK_T_GET_ID, 0);
    let chain = [(HEADER, 16, false), (DATA, 7, true), (DATA + 100, 13, true), (STATUS, 1, true)];
    assert_eq!(bench.wanted(&chain), Wanted::Identity);
    // SAFETY: `bench.map` keeps the buffers mapped.
    assert_eq!(unsafe { bench.parts.write_identity(&SERIAL) }, 20);
    let mut found = [0; 13];
    bench.memory.read_exact_at(&mut found, DATA + 100).unwrap();
    assert_eq!(&found, b"789abcdefghij");
    assert_eq!(bench.wanted(&[(HEADER, 16, false), (DATA, 19, true), (STATUS, 1, true)]), REFUSED, "too short");
}

mod any_chain {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever a guest writes into table, header and segments: an answer or a broken ring, and no buffer outside memory.
        #[test]
        fn is_refused_or_stays_inside_memory(
            descriptors in prop::collection::vec((0..MEMORY_BYTES + 64, 0u32..2048, 0u16..8, 0u16..18), 16),
            contents in prop::collection::vec(any::<u8>(), 256),
            kind in prop::sample::select(vec![0u32, 1, 4, 8, 11, 13, 77]),
        ) {
            let mut bench = Bench::new();
            for (index, (address, len, flags, next)) in descriptors.into_iter().enumerate() {
                bench.descriptor(0, index as u16, address, len, flags, next);
            }
            for at in [HEADER, DATA, TABLE_2] {
                bench.memory.write_at(&contents, at).unwrap();
            }
            bench.memory.write_at(&kind.to_le_bytes(), HEADER).unwrap();
            if let Ok((_, status)) = bench.gather() {
                let (first, last) = (bench.host(0) as usize, bench.host(MEMORY_BYTES - 1) as usize);
                prop_assert!((first..=last).contains(&(status as usize)));
                for range in bench.parts.readable.iter().chain(&bench.parts.writable) {
                    let start = range.iov_base as usize;
                    prop_assert!(range.iov_len > 0 && start >= first && start + range.iov_len - 1 <= last);
                }
            }
        }
    }
}
