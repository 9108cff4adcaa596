//! The built-in guest: a vhost-user-blk client doing verified writes, for the demo without QEMU, the crash loop and the benchmark.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use napi::bindgen_prelude::{Either, Null};
use napi_derive::napi;
use serde::{Deserialize, Serialize};
use vmstorage_engine::testing::guest::{DiskStats, Guest, GuestHandle, GuestOptions, LedgerFile};
use vmstorage_engine::testing::judge::judge_image;
use vmstorage_engine::testing::latency::Histogram;
use vmstorage_engine::testing::oracle::InitialContent;

use crate::error::{blocking, invalid};
use crate::image::{format_of, or_null};

/// What JavaScript may choose; the rest is `GuestOptions::default`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Options {
    sockets: Vec<PathBuf>,
    seed: Option<u64>,
    queues: Option<u16>,
    queue_depth: Option<usize>,
    longest_blocks: Option<u32>,
    span_bytes: Option<u64>,
    hot_bytes: Option<u64>,
    hot_percent: Option<u32>,
    write_percent: Option<u32>,
    zero_percent: Option<u32>,
    flush_every: Option<u32>,
    rate: Option<u32>,
    /// The disk may hold anything: blocks the guest never wrote are not judged.
    unknown_content: Option<bool>,
    plain_chains: Option<bool>,
    ledger_folder: Option<PathBuf>,
    continue_ledger: Option<bool>,
    verify_at_end: Option<bool>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DiskReport {
    reads: u64,
    writes: u64,
    zeroes: u64,
    flushes: u64,
    bytes_read: u64,
    bytes_written: u64,
    io_errors: u64,
    wrong_blocks: u64,
    unexpected_completions: u64,
    reconnects: u64,
    left_by_dead: Vec<u64>,
    broken_in_all_rings: u64,
    in_flight: u64,
    connected: bool,
    longest_us: u64,
    p50_us: u64,
    p99_us: u64,
    oldest_wait_us: u64,
    first_wrong: Option<String>,
    last_connect_error: Option<String>,
}

impl From<&DiskStats> for DiskReport {
    fn from(disk: &DiskStats) -> Self {
        Self {
            reads: disk.reads,
            writes: disk.writes,
            zeroes: disk.zeroes,
            flushes: disk.flushes,
            bytes_read: disk.bytes_read,
            bytes_written: disk.bytes_written,
            io_errors: disk.io_errors,
            wrong_blocks: disk.wrong_blocks,
            unexpected_completions: disk.unexpected_completions,
            reconnects: disk.reconnects,
            left_by_dead: disk.left_by_dead.clone(),
            broken_in_all_rings: disk.broken_in_all_rings,
            in_flight: disk.in_flight,
            connected: disk.connected,
            longest_us: disk.latency.longest().as_micros() as u64,
            p50_us: disk.latency.percentile(0.5).as_micros() as u64,
            p99_us: disk.latency.percentile(0.99).as_micros() as u64,
            oldest_wait_us: disk.oldest_wait.as_micros() as u64,
            first_wrong: disk.first_wrong.clone(),
            last_connect_error: disk.last_connect_error.clone(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Window {
    count: u64,
    p50_us: u64,
    p99_us: u64,
    longest_us: u64,
}

impl From<&Histogram> for Window {
    fn from(window: &Histogram) -> Self {
        Self {
            count: window.count(),
            p50_us: window.percentile(0.5).as_micros() as u64,
            p99_us: window.percentile(0.99).as_micros() as u64,
            longest_us: window.longest().as_micros() as u64,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Final {
    clean: bool,
    stuck: u64,
    elapsed_ms: u64,
    disks: Vec<DiskReport>,
}

fn json(value: &impl Serialize) -> napi::Result<String> {
    serde_json::to_string(value).map_err(|e| napi::Error::from_reason(e.to_string()))
}

#[napi]
pub struct NativeGuest {
    handle: Mutex<Option<GuestHandle>>,
}

#[napi]
impl NativeGuest {
    #[napi(factory)]
    pub fn start(options_json: String) -> napi::Result<Self> {
        let o: Options =
            serde_json::from_str(&options_json).map_err(|e| invalid(&format!("the guest's options: {e}")))?;
        let d = GuestOptions::default();
        let ledger = match (&o.ledger_folder, o.continue_ledger.unwrap_or(false)) {
            (None, _) => LedgerFile::None,
            (Some(folder), false) => LedgerFile::Create(folder.clone()),
            (Some(folder), true) => LedgerFile::Continue(folder.clone()),
        };
        let options = GuestOptions {
            seed: o.seed.unwrap_or(d.seed),
            queues: o.queues.unwrap_or(d.queues),
            depth: o.queue_depth.unwrap_or(d.depth),
            longest_blocks: o.longest_blocks.unwrap_or(d.longest_blocks),
            span_bytes: o.span_bytes.or(d.span_bytes),
            hot_bytes: o.hot_bytes.unwrap_or(d.hot_bytes),
            hot_percent: o.hot_percent.unwrap_or(d.hot_percent),
            write_percent: o.write_percent.unwrap_or(d.write_percent),
            zero_percent: o.zero_percent.unwrap_or(d.zero_percent),
            flush_every: o.flush_every.unwrap_or(d.flush_every),
            rate: o.rate.or(d.rate),
            plain_chains: o.plain_chains.unwrap_or(d.plain_chains),
            initial: if o.unknown_content == Some(true) { InitialContent::Unknown } else { d.initial },
            verify_at_end: o.verify_at_end.unwrap_or(d.verify_at_end),
            ledger,
            ..d
        };
        let handle =
            Guest::start(&o.sockets, &options).map_err(|e| invalid(&format!("the guest cannot start: {e}")))?;
        Ok(Self { handle: Mutex::new(Some(handle)) })
    }

    /// JSON list of the disks' counters.
    #[napi]
    pub fn stats(&self) -> napi::Result<String> {
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        let disks: Vec<DiskReport> =
            handle.as_ref().map(|h| h.stats().iter().map(DiskReport::from).collect()).unwrap_or_default();
        json(&disks)
    }

    /// JSON of the waits since the last call.
    #[napi]
    pub fn take_window(&self) -> napi::Result<String> {
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        json(&Window::from(&handle.as_ref().map(GuestHandle::take_window).unwrap_or_default()))
    }

    /// Stops the load, waits for what is in flight, reads everything back; JSON report.
    #[napi]
    pub async fn stop(&self) -> napi::Result<String> {
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(handle) = handle else { return Err(invalid("the guest has been stopped already")) };
        let report = blocking(move || Ok(handle.stop())).await?;
        json(&Final {
            clean: report.is_clean(),
            stuck: report.stuck,
            elapsed_ms: report.elapsed.as_millis() as u64,
            disks: report.disks.iter().map(DiskReport::from).collect(),
        })
    }
}

#[napi(object, object_from_js = false)]
pub struct NativeVerdict {
    pub blocks_checked: u64,
    pub blocks_wrong: u64,
    pub first_wrong: Either<String, Null>,
}

/// Judges an image at rest by the ledger its guest kept: every block holds what was acknowledged last, or one of the writes that
/// were in flight at the end.
#[napi]
pub async fn verify_by_ledger(path: String, format: String, ledger: String) -> napi::Result<NativeVerdict> {
    let format = format_of(&format)?;
    blocking(move || {
        let path = PathBuf::from(path);
        let verdict = judge_image(&path, format, &PathBuf::from(ledger))?;
        Ok(NativeVerdict {
            blocks_checked: verdict.blocks_checked,
            blocks_wrong: verdict.blocks_wrong,
            first_wrong: or_null(verdict.wrong.into_iter().next()),
        })
    })
    .await
}
