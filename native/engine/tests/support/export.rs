//! An export whose guest is the test itself: requests go in one by one, each answer comes back.

use std::any::Any;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use vmstorage_engine::disk::{Errno, Request, RequestKind};
use vmstorage_engine::exports::{Export, ExportCall, ExportCx, ExportDoor};
use vmstorage_engine::file::{LockWait, Trust};
use vmstorage_engine::formats::Format;
use vmstorage_engine::image::{OpenImage, open_image};
use vmstorage_engine::service::{DiskId, Engine};

type Answer = SyncSender<Result<(), Errno>>;

#[derive(Default)]
pub struct TestExport {
    waiting: HashMap<u64, Answer>,
    next: u64,
}

impl Export for TestExport {
    fn start(&mut self, _cx: &mut dyn ExportCx) {}
    fn on_io(&mut self, _slot: u32, _result: Result<u32, Errno>, _cx: &mut dyn ExportCx) {}
    fn on_done(&mut self, tag: u64, result: Result<(), Errno>, _cx: &mut dyn ExportCx) {
        let answer = self.waiting.remove(&tag).expect("an answer for a request that was made, once");
        answer.send(result).expect("the test waits");
    }
    fn end_turn(&mut self, _cx: &mut dyn ExportCx) {}
    fn in_flight(&self) -> usize {
        self.waiting.len()
    }
    fn poll(&mut self, _cx: &mut dyn ExportCx) -> bool {
        false
    }
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// Bytes that say where they belong.
pub fn pattern(offset: u64, len: usize) -> Vec<u8> {
    (0..len).map(|n| ((offset + n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

pub struct TestDisk {
    pub engine: Engine,
    door: Arc<dyn ExportDoor>,
}

impl TestDisk {
    pub fn open(path: &Path) -> Self {
        Self::open_as(path, Format::Raw)
    }

    pub fn open_as(path: &Path, format: Format) -> Self {
        let engine = Engine::start().unwrap();
        let request = OpenImage { path, format, writable: true, wait: LockWait::No, trust: Trust::own() };
        engine.attach(DiskId(0), open_image(&request).unwrap(), false).unwrap();
        let (_, door) = engine.add_export(DiskId(0), Box::new(TestExport::default())).unwrap();
        Self { engine, door }
    }

    fn send(&self, kind: RequestKind, offset: u64, len: u64, iov: Vec<libc::iovec>, fua: bool) -> Result<(), Errno> {
        self.post(kind, offset, len, iov, fua).recv().unwrap()
    }

    /// The memory of `iov` has to stay until the answer has come.
    fn post(
        &self,
        kind: RequestKind,
        offset: u64,
        len: u64,
        iov: Vec<libc::iovec>,
        fua: bool,
    ) -> Receiver<Result<(), Errno>> {
        struct SendIov(Vec<libc::iovec>);
        // SAFETY: the memory belongs to the calling test, which keeps it until the answer has come.
        unsafe impl Send for SendIov {}
        let (answer, wait) = sync_channel(1);
        let iov = SendIov(iov);
        let request: ExportCall = Box::new(move |export, cx| {
            let iov = iov;
            let export: &mut TestExport = export.as_any().downcast_mut().unwrap();
            let tag = export.next;
            export.next += 1;
            export.waiting.insert(tag, answer);
            cx.request(Request { kind, offset, len, iov: iov.0, fua, tag, keep: None });
        });
        self.door.post(request).unwrap();
        wait
    }

    pub fn plain(&self, kind: RequestKind, offset: u64, len: u64) -> Result<(), Errno> {
        self.send(kind, offset, len, Vec::new(), false)
    }

    pub fn flush(&self) -> Result<(), Errno> {
        self.plain(RequestKind::Flush, 0, 0)
    }

    pub fn write(&self, offset: u64, data: &[u8], skew: usize, parts: usize, fua: bool) -> Result<(), Errno> {
        let mut memory = vec![0u8; data.len() + skew];
        memory[skew..].copy_from_slice(data);
        self.send(RequestKind::Write, offset, data.len() as u64, cut(&mut memory[skew..], parts), fua)
    }

    /// Queues a write and does not wait for it.
    pub fn begin_write(&self, offset: u64, data: &'static mut [u8], fua: bool) -> Receiver<Result<(), Errno>> {
        let iov = cut(data, 1);
        self.post(RequestKind::Write, offset, data.len() as u64, iov, fua)
    }

    pub fn read(&self, offset: u64, len: usize, skew: usize, parts: usize) -> Result<Vec<u8>, Errno> {
        let mut memory = vec![0xa5u8; len + skew];
        self.send(RequestKind::Read, offset, len as u64, cut(&mut memory[skew..], parts), false)?;
        Ok(memory[skew..].to_vec())
    }

    pub fn close(self) {
        self.engine.shut_down();
    }
}

fn cut(memory: &mut [u8], parts: usize) -> Vec<libc::iovec> {
    let size = memory.len().div_ceil(parts).max(1);
    memory.chunks_mut(size).map(|c| libc::iovec { iov_base: c.as_mut_ptr().cast(), iov_len: c.len() }).collect()
}
