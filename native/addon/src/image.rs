//! Image files that are not served: create, examine, hash.

use std::path::PathBuf;
use std::time::Duration;

use napi::bindgen_prelude::{Either, Null};
use napi_derive::napi;
use vmstorage_engine::file::Trust;
use vmstorage_engine::formats::Format;
use vmstorage_engine::image::{self, CreateImage, ImageKind};
use vmstorage_engine::mirror::JournalPlace;

use crate::error::{blocking, invalid};

pub fn format_of(name: &str) -> napi::Result<Format> {
    match name {
        "raw" => Ok(Format::Raw),
        "vhdx" => Ok(Format::Vhdx),
        other => Err(invalid(&format!("'{other}' is not a disk format; use raw or vhdx"))),
    }
}

/// An absent value crosses as `null`: napi would leave the property out.
pub fn or_null(value: Option<String>) -> Either<String, Null> {
    value.map_or(Either::B(Null), Either::A)
}

#[napi(object, object_from_js = false)]
pub struct NativeImageFacts {
    pub format: String,
    pub kind: String,
    pub size_bytes: u64,
    pub file_bytes: u64,
    pub allocated_bytes: u64,
    pub growth_bytes: u64,
    pub block_size_bytes: u32,
    pub logical_sector_bytes: u32,
    pub physical_sector_bytes: u32,
    pub disk_identifier: Either<String, Null>,
    pub dirty_log: bool,
    pub foreign_content: Either<String, Null>,
    pub unmovable: Either<String, Null>,
    pub warnings: Vec<String>,
}

#[napi(object, object_from_js = false)]
pub struct NativeImageHash {
    pub hash: String,
    pub bytes: u64,
}

#[napi]
#[allow(clippy::too_many_arguments)] // one positional list on both sides; an object would only be taken apart again
pub async fn create_image(
    path: String,
    format: String,
    kind: String,
    size_bytes: String,
    block_size_bytes: Option<u32>,
    logical_sector_bytes: Option<u32>,
    physical_sector_bytes: Option<u32>,
    owner: Option<u32>,
) -> napi::Result<()> {
    let kind = match kind.as_str() {
        "fixed" => ImageKind::Fixed,
        "dynamic" => ImageKind::Dynamic,
        other => return Err(invalid(&format!("'{other}' is not a kind of disk; use fixed or dynamic"))),
    };
    let options = CreateImage {
        format: format_of(&format)?,
        kind,
        size_bytes: size_bytes.parse().map_err(|_| invalid(&format!("'{size_bytes}' is not a number of bytes")))?,
        block_bytes: block_size_bytes,
        logical_sector_bytes,
        physical_sector_bytes,
        identity: None,
        trust: Trust::of_owner(owner),
    };
    blocking(move || image::create_image(&PathBuf::from(path), &options).map(drop)).await
}

#[napi]
pub async fn inspect_image(path: String, format: String) -> napi::Result<NativeImageFacts> {
    let kind = format_of(&format)?;
    let facts = blocking(move || image::inspect_image(&PathBuf::from(path), kind)).await?;
    Ok(NativeImageFacts {
        format,
        kind: if facts.kind == ImageKind::Fixed { "fixed" } else { "dynamic" }.to_owned(),
        size_bytes: facts.geometry.size_bytes,
        file_bytes: facts.file_bytes,
        allocated_bytes: facts.allocated_bytes,
        growth_bytes: facts.growth_bytes,
        block_size_bytes: facts.block_bytes,
        logical_sector_bytes: facts.geometry.logical_sector_bytes,
        physical_sector_bytes: facts.geometry.physical_sector_bytes,
        disk_identifier: or_null(facts.disk_identifier),
        dirty_log: facts.dirty_log,
        foreign_content: or_null(facts.foreign_content.map(str::to_owned)),
        unmovable: or_null(facts.identity.err()),
        warnings: facts.warnings,
    })
}

/// Rejects (Locked) when the kernel or another program works on the disk at this moment, and says who.
#[napi]
pub async fn refuse_in_use(path: String) -> napi::Result<()> {
    blocking(move || vmstorage_engine::file::refuse_in_use(&PathBuf::from(path))).await
}

/// JSON of what the journal of a move says, or null when there is none and none is missing.
#[napi]
pub async fn read_journal(
    journal_path: String,
    marks_path: String,
    lock_wait_ms: u32,
) -> napi::Result<Either<String, Null>> {
    let place = JournalPlace { journal: journal_path.into(), marks: marks_path.into() };
    let wait = Duration::from_millis(u64::from(lock_wait_ms));
    let status = blocking(move || vmstorage_engine::worker::read_journal(&place, wait)).await?;
    let json = status.map(|status| serde_json::to_string(&status)).transpose();
    Ok(or_null(json.map_err(|e| napi::Error::from_reason(e.to_string()))?))
}

/// The digest of an image's guest content as a receipt gives it.
#[napi]
pub async fn hash_image(path: String, format: String) -> napi::Result<NativeImageHash> {
    let kind = format_of(&format)?;
    let (digest, bytes) = blocking(move || vmstorage_engine::worker::hash_image(&PathBuf::from(path), kind)).await?;
    Ok(NativeImageHash { hash: format!("{digest:032x}"), bytes })
}
