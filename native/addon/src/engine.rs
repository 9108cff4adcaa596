//! The handle of one worker: its disks, their exports, its move.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use napi::Status;
use napi::bindgen_prelude::{Either, Null};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode, UnknownReturnValue};
use napi_derive::napi;
use vmstorage_engine::file::Trust;
use vmstorage_engine::mirror::JournalPlace;
use vmstorage_engine::worker::{ServeDisk, Worker};

use crate::error::{blocking, to_napi};
use crate::image::format_of;

/// Notices only say "look again"; a full queue loses nothing.
const NOTICES_MAX: usize = 64;

/// Weak: an engine alone does not keep Node running; the worker's socket does.
type Notices = ThreadsafeFunction<u32, UnknownReturnValue, u32, Status, false, true, NOTICES_MAX>;

#[napi(object, object_to_js = false)]
pub struct NativeServedDisk {
    pub index: u32,
    pub path: String,
    pub format: String,
    pub read_only: bool,
    pub queues: u16,
    pub vhost_user_socket: Either<String, Null>,
    pub nbd_socket: Either<String, Null>,
    /// Trusted with folders on the way, beside root and our own user; `null`: whoever asks acts for himself, and any folder will do.
    pub owner: Either<u32, Null>,
}

/// `null` is "none" at this seam; a missing property is an error.
fn path_or_none(value: Either<String, Null>) -> Option<PathBuf> {
    match value {
        Either::A(path) => Some(PathBuf::from(path)),
        Either::B(Null) => None,
    }
}

#[napi]
pub struct NativeEngine {
    worker: Arc<Worker>,
}

#[napi]
impl NativeEngine {
    /// Starts the reactor thread. `on_notice` is called (with 0) whenever the move's figures are worth looking at.
    #[napi(factory)]
    pub fn start(on_notice: Notices) -> napi::Result<Self> {
        let notify = Arc::new(move || {
            // A full queue or a closing environment: somebody looks soon, or nobody ever will.
            on_notice.call(0, ThreadsafeFunctionCallMode::NonBlocking);
        });
        let worker = Worker::start(notify).map_err(|e| to_napi(&e))?;
        Ok(Self { worker: Arc::new(worker) })
    }

    #[napi(getter)]
    pub fn io(&self) -> String {
        self.worker.io().to_owned()
    }

    #[napi]
    pub async fn serve(
        &self,
        disks: Vec<NativeServedDisk>,
        journal_path: String,
        lock_wait_ms: u32,
        marks_path: Option<String>,
    ) -> napi::Result<()> {
        let mut wanted = Vec::with_capacity(disks.len());
        for disk in disks {
            wanted.push(ServeDisk {
                index: disk.index,
                path: PathBuf::from(disk.path),
                format: format_of(&disk.format)?,
                read_only: disk.read_only,
                vhost_user_socket: path_or_none(disk.vhost_user_socket),
                nbd_socket: path_or_none(disk.nbd_socket),
                queues: disk.queues,
                trust: match disk.owner {
                    Either::A(owner) => Trust::of_owner(Some(owner)),
                    Either::B(Null) => Trust::Anybody,
                },
            });
        }
        let worker = Arc::clone(&self.worker);
        let wait = Duration::from_millis(u64::from(lock_wait_ms));
        blocking(move || worker.serve(&wanted, place_of(journal_path, marks_path), wait)).await
    }

    /// JSON of a worker's status, without pid and VM id.
    #[napi]
    pub async fn status(&self) -> napi::Result<String> {
        let worker = Arc::clone(&self.worker);
        let status = blocking(move || worker.status()).await?;
        serde_json::to_string(&status).map_err(|e| napi::Error::from_reason(e.to_string()))
    }

    #[napi]
    pub async fn start_move(
        &self,
        plan_json: String,
        journal_path: String,
        marks_path: Option<String>,
    ) -> napi::Result<()> {
        let worker = Arc::clone(&self.worker);
        blocking(move || worker.start_move(&plan_json, place_of(journal_path, marks_path))).await
    }

    /// False when the move is past COMMITTED and goes on.
    #[napi]
    pub async fn stop_move(&self) -> napi::Result<bool> {
        let worker = Arc::clone(&self.worker);
        blocking(move || worker.stop_move()).await
    }

    #[napi]
    pub async fn release_move(&self) -> napi::Result<()> {
        let worker = Arc::clone(&self.worker);
        blocking(move || worker.release_move()).await
    }

    #[napi]
    pub async fn end_move(&self) -> napi::Result<()> {
        let worker = Arc::clone(&self.worker);
        blocking(move || worker.end_move()).await
    }

    /// True while a VMM is connected to any disk.
    #[napi]
    pub fn has_peer(&self) -> bool {
        self.worker.has_peer()
    }

    /// Ends everything cleanly; safe to call twice.
    #[napi]
    pub async fn close(&self) -> napi::Result<()> {
        let worker = Arc::clone(&self.worker);
        blocking(move || {
            worker.close();
            Ok(())
        })
        .await
    }
}

/// Without a place of their own the marks are beside the journal.
fn place_of(journal: String, marks: Option<String>) -> JournalPlace {
    let beside = JournalPlace::from(&PathBuf::from(journal));
    match marks {
        Some(marks) => JournalPlace { marks: marks.into(), ..beside },
        None => beside,
    }
}
