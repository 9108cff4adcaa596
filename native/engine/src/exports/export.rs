//! The contract between a front end and the service that owns the reactor thread.
//!
//! An export lives on the reactor thread. It hands requests in through [`ExportCx::request`] and gets exactly one
//! [`Export::on_done`] for each. It may run I/O of its own (polls of kick descriptors, sockets) through [`ExportCx::submit`].
//! Control threads (a vhost-user connection) reach it through the service's `call`, which runs a closure on the reactor thread.

use std::any::Any;

use crate::disk::{Errno, Geometry, IoVecs, Request};
use crate::reactor::Op;

/// What an export may know of its disk.
#[derive(Clone, Copy, Debug)]
pub struct DiskFacts {
    pub geometry: Geometry,
    pub read_only: bool,
}

/// What the service offers to an export during a callback.
pub trait ExportCx {
    /// Hands a request of the guest in. The service checks the range; a bad one is answered with EINVAL or EIO, never a panic.
    fn request(&mut self, request: Request);

    /// Starts I/O of the export's own; the completion comes to [`Export::on_io`] with `slot`.
    ///
    /// # Safety
    /// As for `Reactor::submit`: what `op` points at stays valid until `on_io` was called for it.
    unsafe fn submit(&mut self, op: Op, slot: u32);

    /// An empty iovec list from the pool; `request` takes it and the service puts it back.
    fn take_iovecs(&mut self) -> IoVecs;

    fn facts(&self) -> DiskFacts;

    /// Where the guest's data lives, for NBD block status: appends (length, is_zero) pairs tiling the range.
    fn allocation(&mut self, offset: u64, len: u64, out: &mut Vec<(u64, bool)>);

    /// Asks the service to drop this export once `in_flight` is zero.
    fn close(&mut self);
}

pub trait Export: Send {
    /// Called once on the reactor thread after the export was added.
    fn start(&mut self, cx: &mut dyn ExportCx);

    /// I/O started by `ExportCx::submit` completed: bytes moved, or the errno.
    fn on_io(&mut self, slot: u32, result: Result<u32, Errno>, cx: &mut dyn ExportCx);

    /// The request with `tag` is done. The export must not touch the guest's completion ring before this.
    fn on_done(&mut self, tag: u64, result: Result<(), Errno>, cx: &mut dyn ExportCx);

    /// Once at the end of every turn of the reactor: publish completions and notify the guest in one go.
    fn end_turn(&mut self, cx: &mut dyn ExportCx);

    /// Requests handed in and not done.
    fn in_flight(&self) -> usize;

    /// True while the export would rather be polled than slept on (requests are arriving). The service asks in every turn and
    /// does not sleep on a `true`: the other side was then asked not to notify. The export ends it, after microseconds.
    fn poll(&mut self, cx: &mut dyn ExportCx) -> bool;

    fn as_any(&mut self) -> &mut dyn Any;
}

/// The service no longer runs this export (or runs at all).
#[derive(Debug, thiserror::Error)]
#[error("the export is gone")]
pub struct ExportGone;

/// What runs on the reactor thread when a control thread asks for it.
pub type ExportCall = Box<dyn FnOnce(&mut dyn Export, &mut dyn ExportCx) + Send>;

/// A control thread's way to its export: closures, run on the reactor thread one at a time, in order.
pub trait ExportDoor: Send + Sync {
    /// Queues `call` and wakes the reactor. Control path only: allocates and may briefly lock.
    fn post(&self, call: ExportCall) -> Result<(), ExportGone>;
}

/// Runs `call` on the reactor thread and waits for its answer. `E` must be the type that was added; anything else is `ExportGone`.
pub fn call_export<E: Export + 'static, R: Send + 'static>(
    door: &dyn ExportDoor,
    call: impl FnOnce(&mut E, &mut dyn ExportCx) -> R + Send + 'static,
) -> Result<R, ExportGone> {
    let (answer, wait) = std::sync::mpsc::sync_channel(1);
    door.post(Box::new(move |export, cx| {
        if let Some(export) = export.as_any().downcast_mut::<E>() {
            // The asker may have given up; then nobody misses the answer.
            drop(answer.try_send(call(export, cx)));
        }
    }))?;
    wait.recv().map_err(|_| ExportGone)
}
