//! The control side of the service: starts its thread and runs closures on it. Cloneable, usable from any thread.

use std::os::fd::{OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::turn::Service;
use crate::disk::{DiskError, ErrorKind, FileSystemId};
use crate::exports::{Export, ExportCall, ExportDoor, ExportGone};
use crate::image::Image;
use crate::reactor::{Lane, OpenReactor, Reactor};
use crate::vital_thread::spawn_vital;

/// The worker's number of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DiskId(pub u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExportId(pub u32);

/// The reactor thread has ended.
#[derive(Debug, thiserror::Error)]
#[error("the worker's reactor thread has ended")]
pub struct ServiceGone;

impl From<ServiceGone> for DiskError {
    fn from(gone: ServiceGone) -> Self {
        DiskError::new(ErrorKind::InvalidState, gone.to_string())
    }
}

pub type Call = Box<dyn FnOnce(&mut Service) + Send>;

/// Submission queue entries: a guest's whole ring, the copier and the polls fit.
const RING_ENTRIES: u32 = 1024;

/// Disks are kept in a list by their number, so a number has to be small. Hyper-V's limit for one VM is 260.
const DISK_NUMBERS: u32 = 1024;

#[derive(Clone)]
pub struct Engine {
    calls: Sender<Call>,
    wake: Arc<OwnedFd>,
    thread: Arc<Mutex<Option<std::thread::JoinHandle<()>>>>,
    open: OpenReactor,
    ending: Arc<AtomicBool>,
    io: &'static str,
}

impl Engine {
    pub fn start() -> Result<Self, DiskError> {
        Self::start_on(|| crate::reactor::open_reactor(RING_ENTRIES))
    }

    /// On reactors of the caller's, which `open` makes on the thread that uses it: the main one now, one for each lane.
    pub fn start_on(
        open: impl Fn() -> std::io::Result<Box<dyn Reactor>> + Send + Sync + 'static,
    ) -> Result<Self, DiskError> {
        let open: OpenReactor = Arc::new(open);
        let failed = |e: std::io::Error| DiskError {
            kind: ErrorKind::Io,
            message: "cannot start the reactor thread".to_owned(),
            path: None,
            source: Some(e),
        };
        let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
        let wake = Arc::new(rustix::event::eventfd(0, flags).map_err(|e| failed(e.into()))?);
        let (calls, receive): (Sender<Call>, Receiver<Call>) = channel();
        let (started, wait) = sync_channel(1);
        let (thread_wake, thread_open) = (Arc::clone(&wake), Arc::clone(&open));
        let thread = spawn_vital("reactor", move || match thread_open() {
            Ok(reactor) => {
                let name = reactor.name();
                let mut service = Service::new(reactor, receive, thread_wake);
                if started.send(Ok(name)).is_ok() {
                    service.run();
                }
                if service.has_io_under_way() {
                    // At a side that hangs. The kernel may still write into its buffers; they go with the process.
                    std::mem::forget(service);
                }
            }
            Err(e) => drop(started.send(Err(e))),
        })
        .map_err(failed)?;
        let io = wait.recv().map_err(|_| DiskError::from(ServiceGone))?.map_err(failed)?;
        Ok(Self { calls, wake, thread: Arc::new(Mutex::new(Some(thread))), ending: Arc::default(), open, io })
    }

    /// Which reactor is used: `io_uring` or `threads`.
    pub fn io(&self) -> &'static str {
        self.io
    }

    pub fn post(&self, call: impl FnOnce(&mut Service) + Send + 'static) -> Result<(), ServiceGone> {
        post(&self.calls, &self.wake, Box::new(call))
    }

    /// Runs `call` on the reactor thread and waits for its answer.
    pub fn call<R: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Service) -> R + Send + 'static,
    ) -> Result<R, ServiceGone> {
        let (answer, wait) = sync_channel(1);
        self.post(move |service| drop(answer.try_send(call(service))))?;
        wait.recv().map_err(|_| ServiceGone)
    }

    /// A lane for [`Service::begin_move`], for operations on `files`. Blocking: starts a thread and waits for its reactor.
    pub fn open_lane(&self, file_system: FileSystemId, files: &[RawFd]) -> Result<Lane, DiskError> {
        Lane::open(file_system, &self.open, files).map_err(|e| DiskError {
            kind: ErrorKind::Io,
            message: format!("cannot start a thread for the operations on file system {file_system}"),
            path: None,
            source: Some(e),
        })
    }

    /// Gives a disk to the service; its exports may be added next.
    pub fn attach(&self, disk: DiskId, image: Image, read_only: bool) -> Result<(), DiskError> {
        if disk.0 >= DISK_NUMBERS {
            let message = format!("{} is not the number of a disk; they go from 0 to {}", disk.0, DISK_NUMBERS - 1);
            return Err(DiskError::new(ErrorKind::InvalidArgument, message));
        }
        self.call(move |service| service.attach(disk, image, read_only))?
    }

    pub fn add_export(
        &self,
        disk: DiskId,
        export: Box<dyn Export>,
    ) -> Result<(ExportId, Arc<dyn ExportDoor>), DiskError> {
        let id = self.call(move |service| service.add_export(disk, export))??;
        Ok((id, Arc::new(Door { engine: self.clone(), export: id })))
    }

    /// True from the moment of [`Engine::shut_down`]: what cannot be done any more is no failure of the disks.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    /// Stops serving: no new requests, those in flight finish, images are closed cleanly, the thread ends. A move is left as a death of the
    /// process would leave it.
    pub fn shut_down(&self) {
        self.ending.store(true, Ordering::SeqCst);
        if self.post(Service::begin_shut_down).is_err() {
            return;
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            drop(thread.join());
        }
    }
}

fn post(calls: &Sender<Call>, wake: &OwnedFd, call: Call) -> Result<(), ServiceGone> {
    calls.send(call).map_err(|_| ServiceGone)?;
    match rustix::io::write(wake, &1u64.to_ne_bytes()) {
        // A full counter means that a wake is pending anyway.
        Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
        Err(_) => Err(ServiceGone),
    }
}

struct Door {
    engine: Engine,
    export: ExportId,
}

impl ExportDoor for Door {
    fn post(&self, call: ExportCall) -> Result<(), ExportGone> {
        let id = self.export;
        self.engine.post(move |service| service.run_on_export(id, call)).map_err(|_| ExportGone)
    }
}
