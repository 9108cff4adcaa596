//! A file in memory that knows what of it is durable.
//!
//! * kill: what was written is there (the kernel lives on).
//! * power cut: what was synced is there; of everything since, any subset of whole writes or of 512-byte sectors, and the
//!   length is any of those the file had since.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use vmstorage_engine::file::{ReadAt, WriteAt};

use super::Dice;

const PAGE: usize = 4096;
const SECTOR: usize = 512;

type Page = Arc<[u8; PAGE]>;

#[derive(Clone, Default)]
struct Bytes {
    pages: HashMap<u64, Page>,
    len: u64,
}

impl Bytes {
    fn write(&mut self, bytes: &[u8], offset: u64) {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let (index, within) = (at / PAGE as u64, (at % PAGE as u64) as usize);
            let step = (PAGE - within).min(bytes.len() - done);
            let page = self.pages.entry(index).or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[within..within + step].copy_from_slice(&bytes[done..done + step]);
            done += step;
        }
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.pages.retain(|index, _| index * (PAGE as u64) < len);
            let within = (len % PAGE as u64) as usize;
            if let (true, Some(page)) = (within > 0, self.pages.get_mut(&(len / PAGE as u64))) {
                Arc::make_mut(page)[within..].fill(0);
            }
        }
        self.len = len;
    }
}

#[derive(Clone)]
enum Effect {
    Write { offset: u64, bytes: Arc<[u8]> },
    SetLen(u64),
}

#[derive(Clone, Default)]
struct State {
    now: Bytes,
    durable: Bytes,
    since: Vec<Effect>,
}

/// Clones are cheap: pages are shared until written.
#[derive(Clone, Default)]
pub struct CrashFile(RefCell<State>);

impl CrashFile {
    /// The content of a real file, durable.
    pub fn of(file: &std::fs::File) -> Self {
        let mut bytes = Bytes { len: ReadAt::len(file).unwrap(), ..Bytes::default() };
        let mut page = [0; PAGE];
        for index in 0..bytes.len.div_ceil(PAGE as u64) {
            let at = index * PAGE as u64;
            let there = (bytes.len - at).min(PAGE as u64) as usize;
            page.fill(0);
            ReadAt::read_exact_at(file, &mut page[..there], at).unwrap();
            if page != [0; PAGE] {
                bytes.pages.insert(index, Arc::new(page));
            }
        }
        Self(RefCell::new(State { durable: bytes.clone(), now: bytes, since: Vec::new() }))
    }

    /// The file as the next process finds it after this one was killed. (Not flushed by that.)
    pub fn killed(&self) -> Self {
        self.clone()
    }

    /// The file as it is found after the power failed. `keep` of 100 writes, or of 100 sectors (a die says which), since the
    /// last sync have survived.
    pub fn power_cut(&self, dice: &mut Dice, keep: u64) -> Self {
        let state = self.0.borrow();
        let mut found = state.durable.clone();
        let lengths: Vec<u64> = std::iter::once(found.len)
            .chain(state.since.iter().filter_map(|effect| match effect {
                Effect::SetLen(len) => Some(*len),
                Effect::Write { .. } => None,
            }))
            .collect();
        let len = match keep {
            0 => found.len,
            100 => lengths[lengths.len() - 1],
            _ => lengths[dice.roll(lengths.len() as u64) as usize],
        };
        let whole_writes = dice.roll(2) == 0;
        for effect in &state.since {
            let Effect::Write { offset, bytes } = effect else { continue };
            if whole_writes {
                if dice.roll(100) < keep {
                    found.write(bytes, *offset);
                }
                continue;
            }
            for (index, sector) in bytes.chunks(SECTOR).enumerate() {
                if dice.roll(100) < keep {
                    found.write(sector, offset + (index * SECTOR) as u64);
                }
            }
        }
        found.set_len(u64::MAX);
        found.set_len(len);
        Self(RefCell::new(State { now: found.clone(), durable: found, since: Vec::new() }))
    }

    /// Every byte there is, for comparing two files.
    pub fn same_content(&self, other: &Self) -> bool {
        let (a, b) = (self.0.borrow(), other.0.borrow());
        let page = |bytes: &Bytes, index: &u64| bytes.pages.get(index).map_or([0; PAGE], |page| **page);
        a.now.len == b.now.len
            && a.now.pages.keys().chain(b.now.pages.keys()).all(|index| page(&a.now, index) == page(&b.now, index))
    }
}

impl ReadAt for CrashFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.0.borrow();
        if !buf.is_empty() && offset + buf.len() as u64 > state.now.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let (index, within) = (at / PAGE as u64, (at % PAGE as u64) as usize);
            let step = (PAGE - within).min(buf.len() - done);
            match state.now.pages.get(&index) {
                Some(page) => buf[done..done + step].copy_from_slice(&page[within..within + step]),
                None => buf[done..done + step].fill(0),
            }
            done += step;
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.borrow().now.len)
    }
}

impl WriteAt for CrashFile {
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        assert!(offset + buf.len() as u64 <= state.now.len, "nothing is ever written behind the end of the file");
        state.now.write(buf, offset);
        state.since.push(Effect::Write { offset, bytes: buf.into() });
        Ok(())
    }

    fn zero_at(&self, offset: u64, len: u64) -> io::Result<()> {
        self.write_all_at(&vec![0; len as usize], offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        state.now.set_len(len);
        state.since.push(Effect::SetLen(len));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        state.durable = state.now.clone();
        state.since.clear();
        Ok(())
    }
}
