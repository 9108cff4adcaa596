//! Runs one `NbdServer` over a `MemoryDisk` on a thread: a poll loop that does what the service does, in random order.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use vmstorage_engine::disk::{Errno, Geometry, IoVecs, Request};
use vmstorage_engine::exports::nbd::{NbdListener, NbdServer};
use vmstorage_engine::exports::{DiskFacts, Export, ExportCx};
use vmstorage_engine::reactor::Op;

use crate::memory_disk::MemoryDisk;

type Call = Box<dyn FnOnce(&mut NbdServer, &mut Loop) + Send>;

/// How a test wants its disk and its server.
#[derive(Clone, Copy)]
pub struct Setup {
    pub size: u64,
    pub sector: u32,
    pub read_only: bool,
    /// Completes what was asked in another order and in other turns than it came.
    pub shuffle: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self { size: 64 << 20, sector: 512, read_only: false, shuffle: true }
    }
}

pub struct Runner {
    folder: tempfile::TempDir,
    pub disk: Arc<Mutex<MemoryDisk>>,
    calls: mpsc::Sender<Call>,
    wake: Arc<OwnedFd>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Runner {
    pub fn start(setup: Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = NbdListener::bind(&folder.path().join("nbd.sock")).unwrap();
        let disk = Arc::new(Mutex::new(MemoryDisk::default()));
        let geometry =
            Geometry { size_bytes: setup.size, logical_sector_bytes: setup.sector, physical_sector_bytes: 4096 };
        let facts = DiskFacts { geometry, read_only: false };
        let server = NbdServer::new("disk0", listener, facts, setup.read_only).unwrap();
        let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
        let wake = Arc::new(wake);
        let (calls, inbox) = mpsc::channel();
        let (waker, shared) = (Arc::clone(&wake), Arc::clone(&disk));
        let thread = std::thread::spawn(move || {
            let state = Loop {
                facts,
                shuffle: setup.shuffle,
                size: setup.size,
                disk: shared,
                ops: Vec::new(),
                requests: Vec::new(),
                iovecs: Vec::new(),
                closed: false,
                random: 0x9E37_79B9_7F4A_7C15,
            };
            state.run(server, &inbox, &waker);
        });
        Self { folder, disk, calls, wake, thread: Some(thread) }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("nbd.sock")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn uri(&self) -> String {
        format!("nbd+unix:///disk0?socket={}", self.socket().display())
    }

    pub fn disk<R>(&self, act: impl FnOnce(&mut MemoryDisk) -> R) -> R {
        let result = act(&mut self.disk.lock().unwrap());
        self.wake();
        result
    }

    fn wake(&self) {
        rustix::io::write(&*self.wake, &1u64.to_ne_bytes()).unwrap();
    }

    /// Runs on the reactor thread and waits for the answer.
    pub fn call<R: Send + 'static>(&self, act: impl FnOnce(&mut NbdServer, &mut Loop) -> R + Send + 'static) -> R {
        let (answer, wait) = mpsc::sync_channel(1);
        let call: Call = Box::new(move |server, cx| answer.send(act(server, cx)).unwrap());
        self.calls.send(call).unwrap();
        self.wake();
        wait.recv_timeout(Duration::from_secs(30)).expect("the reactor thread answers")
    }

    /// Waits until `condition` holds on the reactor thread.
    pub fn until(&self, what: &str, condition: impl Fn(&mut NbdServer, &mut Loop) -> bool + Send + Clone + 'static) {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while !self.call(condition.clone()) {
            assert!(std::time::Instant::now() < deadline, "never: {what}");
            std::thread::yield_now();
        }
    }

    /// Asks the server to stop; `join` waits for its end.
    pub fn stop(&self) {
        self.call(|server, cx| server.stop(cx));
    }

    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the reactor thread ends well");
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if self.thread.is_some() {
            let abort: Call = Box::new(|server, cx| server.abort(cx));
            self.disk.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).hold = false;
            if self.calls.send(abort).is_ok() {
                self.wake();
            }
            let ended = self.thread.take().unwrap().join();
            if !std::thread::panicking() {
                ended.expect("the reactor thread ends well");
            }
        }
    }
}

pub struct Loop {
    facts: DiskFacts,
    size: u64,
    shuffle: bool,
    disk: Arc<Mutex<MemoryDisk>>,
    ops: Vec<(u32, Op)>,
    pub requests: Vec<Request>,
    iovecs: Vec<IoVecs>,
    closed: bool,
    random: u64,
}

impl ExportCx for Loop {
    fn request(&mut self, request: Request) {
        self.requests.push(request);
    }

    unsafe fn submit(&mut self, op: Op, slot: u32) {
        self.ops.push((slot, op));
    }

    fn take_iovecs(&mut self) -> IoVecs {
        self.iovecs.pop().unwrap_or_default()
    }

    fn facts(&self) -> DiskFacts {
        self.facts
    }

    fn allocation(&mut self, offset: u64, len: u64, out: &mut Vec<(u64, bool)>) {
        self.disk.lock().unwrap().allocation(offset, len, out);
    }

    fn close(&mut self) {
        assert!(!self.closed, "closed once");
        self.closed = true;
    }
}

impl Loop {
    fn random(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % below as u64) as usize
    }

    fn run(mut self, mut server: NbdServer, calls: &mpsc::Receiver<Call>, wake: &OwnedFd) {
        server.start(&mut self);
        server.end_turn(&mut self);
        while !(self.closed && server.in_flight() == 0) {
            self.wait(wake);
            // One in each turn, so that a test that asks again and again sees turns pass.
            if let Ok(call) = calls.try_recv() {
                call(&mut server, &mut self);
                rustix::io::write(wake, &1u64.to_ne_bytes()).unwrap();
            }
            self.do_io(&mut server);
            self.do_requests(&mut server);
            server.end_turn(&mut self);
        }
        assert!(self.ops.is_empty(), "nothing is lent to the kernel any more: {:?}", self.ops);
    }

    fn wait(&self, wake: &OwnedFd) {
        let events = |op: &Op| match *op {
            Op::Send { fd, .. } => (fd, libc::POLLOUT),
            Op::PollIn { fd } | Op::Recv { fd, .. } => (fd, libc::POLLIN),
            _ => panic!("an NBD server has no business with {op:?}"),
        };
        let mut fds: Vec<libc::pollfd> = self
            .ops
            .iter()
            .map(|(_, op)| events(op))
            .chain([(wake.as_raw_fd(), libc::POLLIN)])
            .map(|(fd, events)| libc::pollfd { fd, events, revents: 0 })
            .collect();
        let hold = self.disk.lock().unwrap().hold;
        let timeout = if self.requests.is_empty() || hold { 1000 } else { 0 };
        // SAFETY: the list is valid for its length during the call.
        assert!(unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as u64, timeout) } >= 0);
        let mut count = [0; 8];
        match rustix::io::read(wake, &mut count) {
            Ok(_) | Err(rustix::io::Errno::AGAIN) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn do_io(&mut self, server: &mut NbdServer) {
        for (slot, op) in std::mem::take(&mut self.ops) {
            let result = match op {
                Op::PollIn { fd } => {
                    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
                    // SAFETY: one valid entry.
                    if unsafe { libc::poll(&mut poll, 1, 0) } == 1 { Some(Ok(0)) } else { None }
                }
                Op::Recv { fd, buf, len } => {
                    // SAFETY: the server keeps the memory in place until `on_io`.
                    outcome(unsafe { libc::recv(fd, buf.cast(), len as usize, libc::MSG_DONTWAIT) })
                }
                Op::Send { fd, buf, len } => {
                    // A part only, now and then.
                    let part = self.shuffle && self.random(8) == 0;
                    let len = if part { 1 + self.random(len as usize) } else { len as usize };
                    // SAFETY: as above.
                    outcome(unsafe { libc::send(fd, buf.cast(), len, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) })
                }
                _ => panic!("an NBD server has no business with {op:?}"),
            };
            match result {
                Some(result) => server.on_io(slot, result, self),
                None => self.ops.push((slot, op)),
            }
        }
    }

    fn do_requests(&mut self, server: &mut NbdServer) {
        if self.disk.lock().unwrap().hold {
            return;
        }
        for _ in 0..self.requests.len() {
            if self.shuffle && self.random(4) == 0 {
                continue;
            }
            let index = if self.shuffle { self.random(self.requests.len()) } else { 0 };
            let mut request = self.requests.remove(index);
            let result = self.disk.lock().unwrap().run(&request, self.size);
            let mut iov = std::mem::take(&mut request.iov);
            iov.clear();
            self.iovecs.push(iov);
            server.on_done(request.tag, result, self);
        }
    }
}

fn outcome(result: isize) -> Option<Result<u32, Errno>> {
    if result >= 0 {
        return Some(Ok(result as u32));
    }
    match std::io::Error::last_os_error().raw_os_error().unwrap() {
        libc::EAGAIN | libc::EINTR => None,
        errno => Some(Err(errno)),
    }
}
