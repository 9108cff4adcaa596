//! A disk in memory that knows which pages were ever written, keeps a log, and fails or holds requests when told to.

use std::collections::BTreeMap;

use vmstorage_engine::disk::{Errno, Request, RequestKind};

const PAGE_BYTES: u64 = 4096;

/// What the server asked of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logged {
    pub kind: RequestKind,
    pub offset: u64,
    pub len: u64,
    pub fua: bool,
}

#[derive(Default)]
pub struct MemoryDisk {
    pages: BTreeMap<u64, Box<[u8]>>,
    pub log: Vec<Logged>,
    /// Requests of this kind that touch the offset fail.
    pub failure: Option<(RequestKind, u64, Errno)>,
    /// While set, requests are taken and not answered.
    pub hold: bool,
    /// Buffers of acknowledged writes stay referenced, as by a mirror whose other half is still under way.
    pub keep_references: bool,
    pub kept: Vec<std::sync::Arc<dyn std::any::Any + Send + Sync>>,
}

impl MemoryDisk {
    pub fn write(&mut self, offset: u64, mut bytes: &[u8]) {
        let mut at = offset;
        while !bytes.is_empty() {
            let (page, inside) = (at / PAGE_BYTES, (at % PAGE_BYTES) as usize);
            let (now, rest) = bytes.split_at(bytes.len().min(PAGE_BYTES as usize - inside));
            let page = self.pages.entry(page).or_insert_with(|| vec![0; PAGE_BYTES as usize].into());
            page[inside..inside + now.len()].copy_from_slice(now);
            at += now.len() as u64;
            bytes = rest;
        }
    }

    pub fn read(&self, offset: u64, bytes: &mut [u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let inside = (at % PAGE_BYTES) as usize;
            let count = (bytes.len() - done).min(PAGE_BYTES as usize - inside);
            match self.pages.get(&(at / PAGE_BYTES)) {
                Some(page) => bytes[done..done + count].copy_from_slice(&page[inside..inside + count]),
                None => bytes[done..done + count].fill(0),
            }
            done += count;
        }
    }

    pub fn contents(&self, size: u64) -> Vec<u8> {
        let mut bytes = vec![0; size as usize];
        self.read(0, &mut bytes);
        bytes
    }

    fn zero(&mut self, offset: u64, len: u64, unmap: bool) {
        let end = offset + len;
        if !unmap {
            return self.write(offset, &vec![0; len as usize]);
        }
        let (first, last) = (offset.div_ceil(PAGE_BYTES), end / PAGE_BYTES);
        if first >= last {
            return self.write(offset, &vec![0; len as usize]);
        }
        self.write(offset, &vec![0; (first * PAGE_BYTES - offset) as usize]);
        self.write(last * PAGE_BYTES, &vec![0; (end - last * PAGE_BYTES) as usize]);
        let inside: Vec<u64> = self.pages.range(first..last).map(|(&page, _)| page).collect();
        for page in inside {
            self.pages.remove(&page);
        }
    }

    /// Appends (length, is zero): pages never written, or given back, are zeros.
    pub fn allocation(&self, offset: u64, len: u64, out: &mut Vec<(u64, bool)>) {
        let end = offset + len;
        let mut at = offset;
        for &page in self.pages.range(offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES)).map(|(page, _)| page) {
            let (from, to) = ((page * PAGE_BYTES).max(offset), ((page + 1) * PAGE_BYTES).min(end));
            if from > at {
                out.push((from - at, true));
            }
            out.push((to - from, false));
            at = to;
        }
        if at < end {
            out.push((end - at, true));
        }
    }

    pub fn run(&mut self, request: &Request, size: u64) -> Result<(), Errno> {
        let Request { kind, offset, len, fua, .. } = *request;
        self.log.push(Logged { kind, offset, len, fua });
        if kind != RequestKind::Flush {
            assert!(offset + len <= size && offset % 512 == 0 && len % 512 == 0 && len > 0, "{kind:?} {offset} {len}");
        }
        if let Some((failing, at, errno)) = self.failure
            && failing == kind
            && (offset..=offset + len).contains(&at)
        {
            return Err(errno);
        }
        let mut at = offset;
        for vec in &request.iov {
            assert_eq!(vec.iov_base as usize % 4096, 0, "direct I/O needs aligned memory");
            let memory = vec.iov_base.cast::<u8>();
            match kind {
                // SAFETY: the request is under way, so its memory is valid and ours to fill.
                RequestKind::Read => self.read(at, unsafe { std::slice::from_raw_parts_mut(memory, vec.iov_len) }),
                // SAFETY: as above, ours to read.
                RequestKind::Write => self.write(at, unsafe { std::slice::from_raw_parts(memory, vec.iov_len) }),
                _ => panic!("{kind:?} has no memory"),
            }
            at += vec.iov_len as u64;
        }
        match kind {
            RequestKind::Read | RequestKind::Write => assert_eq!(at - offset, len),
            RequestKind::Flush => {}
            RequestKind::Discard => self.zero(offset, len, true),
            RequestKind::WriteZeroes { unmap } => self.zero(offset, len, unmap),
        }
        if self.keep_references {
            self.kept.extend(request.keep.clone());
        }
        Ok(())
    }
}
