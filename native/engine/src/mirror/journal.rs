//! The journal of one move: what a new process needs to go on, or to go back.
//!
//! ```text
//!   0        4 KiB      8 KiB          8 KiB + plan          ...
//!   │ slot A │ slot B   │ plan (JSON)  │ per disk: dirty bits, intent bits (each padded to 4 KiB)
//! ```
//! * A slot holds magic, version, sequence, phase, boot id, the lengths of everything behind it, and a CRC-32C over all of that.
//!   Records go to the two slots in turn, each followed by fdatasync: a torn write leaves the other slot, which says the phase before.
//! * The plan is written once, before the first record, with its CRC in both slots.
//! * The bitmaps are mapped MAP_SHARED. Every block of the file is allocated and written when it is made: a store into a hole of a
//!   full file system would be a SIGBUS.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use memmap2::{MmapOptions, MmapRaw};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::chunk_map::word_count;
use super::disk_state::DiskSetup;
use super::saved_map::SharedWords;
use super::vocabulary::{JournalPhase, RecordResult};
use super::chunk_count;
use crate::disk::{DiskError, ErrorKind};
use crate::file::{sync_folder_of, unlink_durably};

const MAGIC: [u8; 8] = *b"VMSTJRNL";
const VERSION: u32 = 1;
const PAGE: u64 = 4096;
const PLAN_OFFSET: u64 = 2 * PAGE;
/// A plan names at most 255 disks and a configuration: 1 MiB is far more than any real one.
const PLAN_BYTES_MAX: u64 = 1 << 20;
/// As many disk sizes as a slot has room for; a move has at most 255 disks.
const DISKS_MAX: usize = 255;
/// 64 TiB, the largest VHDX: anything above is no journal of ours.
const DISK_BYTES_MAX: u64 = 64 << 40;
/// What one write of zeros carries while the file is made.
const ZEROS_BYTES: usize = 1 << 20;

#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Slot {
    magic: [u8; 8],
    crc: u32,
    version: u32,
    sequence: u64,
    phase: u32,
    disks: u32,
    boot_id: [u8; 16],
    plan_bytes: u64,
    plan_crc: u32,
    reserved: u32,
    disk_bytes: [u64; DISKS_MAX],
}

impl Slot {
    /// Over the slot with its `crc` zero.
    fn checksum(&self) -> u32 {
        let mut plain = self.clone();
        plain.crc = 0;
        crc(plain.as_bytes())
    }

    fn sealed(mut self) -> Self {
        self.crc = self.checksum();
        self
    }

    fn page(&self) -> Vec<u8> {
        let mut page = self.as_bytes().to_vec();
        page.resize(PAGE as usize, 0);
        page
    }

    /// Why these bytes are no valid slot, or the slot.
    fn parse(page: &[u8]) -> Result<Self, &'static str> {
        let (slot, _) = Slot::read_from_prefix(page).map_err(|_| "is too short")?;
        if slot.magic != MAGIC {
            return Err("does not begin with the journal's mark");
        }
        if slot.crc != slot.checksum() {
            return Err("has a wrong checksum");
        }
        if slot.version != VERSION {
            return Err("is of another version");
        }
        if JournalPhase::from_number(slot.phase).is_none() {
            return Err("names an unknown phase");
        }
        let disks = slot.disks as usize;
        if disks == 0 || disks > DISKS_MAX || slot.disk_bytes[..disks].iter().any(|&b| b == 0 || b > DISK_BYTES_MAX) {
            return Err("names impossible disks");
        }
        if slot.plan_bytes == 0 || slot.plan_bytes > PLAN_BYTES_MAX {
            return Err("names an impossible plan");
        }
        Ok(slot)
    }

    fn phase(&self) -> JournalPhase {
        // `parse` and `create` let no other number in.
        JournalPhase::from_number(self.phase).unwrap_or(JournalPhase::Started)
    }
}

const _: () = assert!(size_of::<Slot>() <= PAGE as usize);

fn crc(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// Where the bitmaps of each disk lie: (offset of dirty, offset of intent, bytes of each).
fn layout(plan_bytes: u64, disk_bytes: &[u64]) -> (Vec<(u64, u64, u64)>, u64) {
    let mut at = PLAN_OFFSET + plan_bytes.next_multiple_of(PAGE);
    let places = disk_bytes
        .iter()
        .map(|&bytes| {
            let map = (word_count(chunk_count(bytes)) as u64 * 8).next_multiple_of(PAGE);
            let place = (at, at + map, map);
            at += 2 * map;
            place
        })
        .collect();
    (places, at)
}

/// The superblock's half, for the thread that records. Shares nothing with the mapped bitmaps.
pub struct JournalWriter {
    file: File,
    last: Slot,
}

impl JournalWriter {
    /// Makes `phase` durable: the slot that is not the newest is written and synced. Blocking.
    pub fn record(&mut self, phase: JournalPhase) -> RecordResult {
        let next = Slot { sequence: self.last.sequence + 1, phase: phase.number(), ..self.last.clone() }.sealed();
        let offset = (next.sequence % 2) * PAGE;
        let Err(_) = self.file.write_all_at(&next.page(), offset).and_then(|()| self.file.sync_data()) else {
            self.last = next;
            return RecordResult::Durable;
        };
        // The bytes may or may not be there. Put the old record's successor over it, so that a later reader sees the phase before;
        // only if that cannot be done either is the fate unknown.
        let back = Slot { sequence: self.last.sequence + 2, ..self.last.clone() }.sealed();
        let offset = (back.sequence % 2) * PAGE;
        let undone = self
            .file
            .write_all_at(&back.page(), offset)
            .and_then(|()| self.file.write_all_at(&[0; PAGE as usize], PAGE - offset))
            .and_then(|()| self.file.sync_data());
        match undone {
            Ok(()) => {
                self.last = back;
                RecordResult::Failed
            }
            Err(_) => RecordResult::Unknown,
        }
    }

    pub fn phase(&self) -> JournalPhase {
        self.last.phase()
    }
}

pub struct Journal {
    writer: JournalWriter,
    plan: Vec<u8>,
    map: Arc<MmapRaw>,
    map_offset: u64,
}

impl Journal {
    /// Makes the file (it must not exist) with its record `started`, durable with its folder when this returns.
    /// On failure nothing is left.
    pub fn create(path: &Path, plan: &[u8], disk_bytes: &[u64], boot_id: [u8; 16]) -> Result<Self, DiskError> {
        let invalid = |what: &str| DiskError::new(ErrorKind::InvalidArgument, format!("cannot make the journal: {what}")).at(path);
        if plan.is_empty() || plan.len() as u64 > PLAN_BYTES_MAX {
            return Err(invalid("its plan is empty or larger than 1 MiB"));
        }
        if disk_bytes.is_empty() || disk_bytes.len() > DISKS_MAX || disk_bytes.iter().any(|&b| b == 0 || b > DISK_BYTES_MAX) {
            return Err(invalid("it needs 1 to 255 disks of at most 64 TiB"));
        }
        let mut sizes = [0; DISKS_MAX];
        sizes[..disk_bytes.len()].copy_from_slice(disk_bytes);
        let slot = Slot {
            magic: MAGIC,
            crc: 0,
            version: VERSION,
            sequence: 2,
            phase: JournalPhase::Started.number(),
            disks: disk_bytes.len() as u32,
            boot_id,
            plan_bytes: plan.len() as u64,
            plan_crc: crc(plan),
            reserved: 0,
            disk_bytes: sizes,
        }
        .sealed();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|e| DiskError::io("create the journal", path, e))?;
        let made = fill(&file, plan, &slot).map_err(|e| DiskError::io("write the journal", path, e)).and_then(|()| sync_folder_of(path));
        if let Err(error) = made {
            drop(file);
            unlink_durably(path)?;
            return Err(error);
        }
        Self::over(file, slot, plan.to_vec(), path)
    }

    /// Opens and judges a journal; the newest valid slot counts. `Corrupt` names what is wrong.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let failed = |e| DiskError::io("read the journal", path, e);
        let corrupt = |what: String| DiskError::new(ErrorKind::Corrupt, format!("the journal '{}' {what}", path.display())).at(path);
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
        let mut pages = vec![0; 2 * PAGE as usize];
        file.read_exact_at(&mut pages, 0).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => corrupt("is shorter than its two superblocks".to_owned()),
            _ => failed(e),
        })?;
        let slots = [Slot::parse(&pages[..PAGE as usize]), Slot::parse(&pages[PAGE as usize..])];
        let slot = match slots {
            [Ok(a), Ok(b)] => if a.sequence > b.sequence { a } else { b },
            [Ok(slot), Err(_)] | [Err(_), Ok(slot)] => slot,
            [Err(a), Err(b)] => return Err(corrupt(format!("has no valid superblock: the first {a}, the second {b}"))),
        };
        let (_, end) = layout(slot.plan_bytes, &slot.disk_bytes[..slot.disks as usize]);
        if file.metadata().map_err(failed)?.len() < end {
            return Err(corrupt(format!("ends before its bitmaps do ({end} bytes)")));
        }
        let mut plan = vec![0; slot.plan_bytes as usize];
        file.read_exact_at(&mut plan, PLAN_OFFSET).map_err(failed)?;
        if crc(&plan) != slot.plan_crc {
            return Err(corrupt("has a plan with a wrong checksum".to_owned()));
        }
        Self::over(file, slot, plan, path)
    }

    fn over(file: File, last: Slot, plan: Vec<u8>, path: &Path) -> Result<Self, DiskError> {
        let map_offset = PLAN_OFFSET + last.plan_bytes.next_multiple_of(PAGE);
        let (_, end) = layout(last.plan_bytes, &last.disk_bytes[..last.disks as usize]);
        let map = MmapOptions::new().offset(map_offset).len((end - map_offset) as usize).map_raw(&file);
        let map = Arc::new(map.map_err(|e| DiskError::io("map the journal", path, e))?);
        Ok(Self { writer: JournalWriter { file, last }, plan, map, map_offset })
    }

    pub fn plan(&self) -> &[u8] {
        &self.plan
    }

    pub fn phase(&self) -> JournalPhase {
        self.writer.phase()
    }

    /// The boot in which the journal was made.
    pub fn boot_id(&self) -> [u8; 16] {
        self.writer.last.boot_id
    }

    /// The disks with their bitmaps, which keep the mapping alive.
    pub fn setups(&self) -> Vec<DiskSetup> {
        let slot = &self.writer.last;
        let sizes = &slot.disk_bytes[..slot.disks as usize];
        let (places, _) = layout(slot.plan_bytes, sizes);
        let words = |offset: u64, bytes: u64| {
            let keep: Arc<dyn std::any::Any + Send + Sync> = Arc::clone(&self.map) as _;
            let start = self.map.as_mut_ptr().wrapping_add((offset - self.map_offset) as usize).cast::<AtomicU64>().cast_const();
            // SAFETY: the range lies inside the mapping (`layout` made both), is page aligned, is kept alive by `keep`, backed by
            // allocated blocks, and only ever changed through atomics.
            unsafe { SharedWords::from_raw(keep, start, (bytes / 8) as usize) }
        };
        sizes
            .iter()
            .zip(places)
            .map(|(&size_bytes, (dirty, intent, bytes))| DiskSetup { size_bytes, dirty: words(dirty, bytes), intent: words(intent, bytes) })
            .collect()
    }

    /// The half that records; the bitmaps live on in the setups taken before.
    pub fn into_writer(self) -> JournalWriter {
        self.writer
    }
}

/// Every block of the file gets its place and its content now; the slots come last.
fn fill(file: &File, plan: &[u8], slot: &Slot) -> io::Result<()> {
    let (_, end) = layout(slot.plan_bytes, &slot.disk_bytes[..slot.disks as usize]);
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, end) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
        Err(e) => return Err(e.into()),
    }
    let zeros = vec![0; ZEROS_BYTES];
    let mut at = 0;
    while at < end {
        let step = (end - at).min(ZEROS_BYTES as u64);
        file.write_all_at(&zeros[..step as usize], at)?;
        at += step;
    }
    file.write_all_at(plan, PLAN_OFFSET)?;
    file.sync_all()?;
    file.write_all_at(&slot.page(), 0)?;
    file.sync_all()
}

/// Removes a journal durably. One that is not there is as good as removed.
pub fn remove_journal(path: &Path) -> Result<(), DiskError> {
    unlink_durably(path)
}

