//! Opening, creating and examining image files. Blocking: never on the reactor thread.

use std::fs::File;
use std::path::Path;

use super::executor::Image;
use crate::disk::{DiskError, ErrorKind, Geometry, SECTOR_BYTES};
use crate::file::{HostFile, LockWait, OpenMode, Place, Trust, allocate, copy_attributes};
use crate::formats::raw::RawMap;
use crate::formats::vhdx::{self, CreateOptions, Overlay, VhdxIdentity, VhdxKind};
use crate::formats::{Format, ImageMap, foreign_content};

/// How `foreign_content` calls our own.
const VHDX_CONTENT: &str = "a VHDX image";
/// What our files say of their maker (MS-VHDX 2.2.1).
const CREATOR: &str = concat!("vmstorage ", env!("CARGO_PKG_VERSION"));

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageKind {
    Fixed,
    Dynamic,
}

/// What Get-VHD tells of an image. Lengths in bytes.
#[derive(Clone, Debug)]
pub struct ImageFacts {
    pub format: Format,
    pub kind: ImageKind,
    pub geometry: Geometry,
    pub file_bytes: u64,
    pub allocated_bytes: u64,
    /// How much longer the file may become, or how many bytes it may still need from its file system when all is written.
    pub growth_bytes: u64,
    pub block_bytes: u32,
    pub disk_identifier: Option<String>,
    pub dirty_log: bool,
    /// What makes it this disk, for formats that say so. `Err`: why a move could not carry it over.
    pub identity: Result<Option<VhdxIdentity>, String>,
    /// What the content is, when it is not what its name says: an image of another format.
    pub foreign_content: Option<&'static str>,
    /// What a person should know of it, a sentence each.
    pub warnings: Vec<String>,
}

pub struct OpenImage<'a> {
    pub path: &'a Path,
    pub format: Format,
    pub writable: bool,
    /// How long to wait for a predecessor's fence.
    pub wait: LockWait<'a>,
    /// Whose folders the path may lead through.
    pub trust: Trust,
}

/// Opens, locks, validates; a writable VHDX with a dirty log is replayed first, a read-only one in memory.
pub fn open_image(request: &OpenImage<'_>) -> Result<Image, DiskError> {
    let mode = if request.writable { OpenMode::ReadWrite } else { OpenMode::ReadOnly };
    let file = HostFile::open(request.path, mode, request.trust)?;
    file.lock(request.writable, request.wait)?;
    image_over(file, request.format, request.writable)
}

fn image_over(mut file: HostFile, format: Format, writable: bool) -> Result<Image, DiskError> {
    let (map, overlay) = map_of(&file, format, writable)?;
    file.use_direct_io();
    Ok(Image::new(file, map, overlay))
}

/// The map of a file, and what a log replayed in memory says of it (empty for one that may be written: it was replayed in place).
pub(super) fn map_of(
    file: &HostFile,
    format: Format,
    writable: bool,
) -> Result<(Box<dyn ImageMap>, Overlay), DiskError> {
    match format {
        Format::Raw => Ok((Box::new(RawMap::new(raw_geometry(file)?, writable)), Overlay::default())),
        Format::Vhdx => {
            let (_, map, overlay) = vhdx::open(file.file(), writable).map_err(|e| e.at(file.path()))?.into_parts();
            Ok((Box::new(map), overlay))
        }
    }
}

fn raw_geometry(file: &HostFile) -> Result<Geometry, DiskError> {
    let size_bytes = file.len()?;
    if size_bytes == 0 || !size_bytes.is_multiple_of(SECTOR_BYTES) {
        let message = format!(
            "'{}' is {size_bytes} bytes long; a raw disk is a whole number of 512-byte sectors and not empty",
            file.path().display()
        );
        return Err(DiskError::new(ErrorKind::Corrupt, message).at(file.path()));
    }
    Ok(Geometry { size_bytes, logical_sector_bytes: 512, physical_sector_bytes: 4096 })
}

#[derive(Clone, Debug)]
pub struct CreateImage {
    pub format: Format,
    pub kind: ImageKind,
    pub size_bytes: u64,
    pub block_bytes: Option<u32>,
    pub logical_sector_bytes: Option<u32>,
    pub physical_sector_bytes: Option<u32>,
    /// Kept by a move: the disk is the same disk in a new place.
    pub identity: Option<VhdxIdentity>,
    /// Whose folders the path may lead through.
    pub trust: Trust,
}

/// An image that was just made, and the descriptor that made it: nobody opens it by its path again.
pub struct NewImage {
    file: HostFile,
    place: Place,
    format: Format,
}

impl NewImage {
    /// Gives it owner, mode and attributes of `like`, locks it and puts it to work; the names of attributes that could not be set are the
    /// third of what comes back. On failure nothing is left: it was made a moment ago, and nobody else knows of it.
    pub fn put_to_work(self, like: &File, wait: LockWait<'_>) -> Result<(Image, Place, Vec<String>), DiskError> {
        let Self { file, place, format } = self;
        let path = file.path().to_owned();
        let copied = copy_attributes(like, file.file()).map_err(|e| DiskError::io("set the attributes of", &path, e));
        let put = copied.and_then(|left_out| {
            file.lock(true, wait)?;
            Ok((image_over(file, format, true)?, left_out))
        });
        match put {
            Ok((image, left_out)) => Ok((image, place, left_out)),
            Err(error) => {
                place.remove()?;
                Err(error)
            }
        }
    }
}

/// Creates an image file that did not exist, durably (file and folder synced). On failure nothing is left.
pub fn create_image(path: &Path, options: &CreateImage) -> Result<ImageFacts, DiskError> {
    let made = make_image(path, options)?;
    inspect_file(&made.file, options.format)
}

/// The same for whoever goes on with it.
pub fn make_image(path: &Path, options: &CreateImage) -> Result<NewImage, DiskError> {
    let (file, place) = HostFile::create(path, options.trust)?;
    let made = create_over(&file, options).and_then(|()| {
        file.file().sync_all().map_err(|e| DiskError::io("sync", path, e))?;
        place.sync()
    });
    match made {
        Ok(()) => Ok(NewImage { file, place, format: options.format }),
        Err(error) => {
            // The file is ours (it was created exclusively above) and useless.
            place.remove()?;
            Err(error)
        }
    }
}

fn create_over(file: &HostFile, options: &CreateImage) -> Result<(), DiskError> {
    match options.format {
        Format::Raw => {
            if options.size_bytes == 0 || !options.size_bytes.is_multiple_of(SECTOR_BYTES) {
                let message = format!("{} bytes is not a whole number of 512-byte sectors", options.size_bytes);
                return Err(DiskError::new(ErrorKind::InvalidArgument, message).at(file.path()));
            }
            file.file().set_len(options.size_bytes).map_err(|e| DiskError::io("set the length of", file.path(), e))?;
            if options.kind == ImageKind::Fixed {
                allocate(file.file(), 0, options.size_bytes).map_err(|e| DiskError::io("allocate", file.path(), e))?;
            }
            Ok(())
        }
        Format::Vhdx => {
            let kind = if options.kind == ImageKind::Fixed { VhdxKind::Fixed } else { VhdxKind::Dynamic };
            let plain = CreateOptions::new(kind, options.size_bytes, CREATOR);
            let options = CreateOptions {
                block_bytes: options.block_bytes.map_or(plain.block_bytes, u64::from),
                logical_sector_bytes: options.logical_sector_bytes.unwrap_or(plain.logical_sector_bytes),
                physical_sector_bytes: options.physical_sector_bytes.unwrap_or(plain.physical_sector_bytes),
                identity: options.identity.clone(),
                ..plain
            };
            vhdx::create(file.file(), &options).map_err(|e| e.at(file.path()))
        }
    }
}

/// Examines a file without locking or changing it, wherever it lies. Of an image in use only its worker knows the truth.
pub fn inspect_image(path: &Path, format: Format) -> Result<ImageFacts, DiskError> {
    inspect_file(&HostFile::open(path, OpenMode::Examine, Trust::Anybody)?, format)
}

pub fn inspect_file(file: &HostFile, format: Format) -> Result<ImageFacts, DiskError> {
    let path = file.path();
    let (file_bytes, allocated_bytes) = (file.len()?, file.allocated_bytes()?);
    match format {
        Format::Raw => {
            let foreign_content = foreign_content(file)?;
            let geometry = raw_geometry(file).map_err(|mut error| {
                if let Some(what) = foreign_content {
                    error.message.push_str(&format!("; its content is {what}"));
                }
                error
            })?;
            let kind = if allocated_bytes >= geometry.size_bytes { ImageKind::Fixed } else { ImageKind::Dynamic };
            Ok(ImageFacts {
                format,
                kind,
                geometry,
                file_bytes,
                allocated_bytes,
                growth_bytes: geometry.size_bytes.saturating_sub(allocated_bytes),
                block_bytes: 0,
                disk_identifier: None,
                dirty_log: false,
                identity: Ok(None),
                foreign_content,
                warnings: Vec::new(),
            })
        }
        Format::Vhdx => {
            let facts = vhdx::inspect(file.file()).map_err(|mut error| {
                if let Ok(Some(what)) = foreign_content(file)
                    && what != VHDX_CONTENT
                {
                    error.message.push_str(&format!("; its content is {what}"));
                }
                error.at(path)
            })?;
            let kind = if facts.kind == VhdxKind::Fixed { ImageKind::Fixed } else { ImageKind::Dynamic };
            let unplaced = (facts.blocks - facts.allocated_blocks) * facts.block_bytes;
            // A fixed disk's space is there; a sparse file in fact (punched, or copied thin) may still need it.
            let thin = if kind == ImageKind::Fixed { file_bytes.saturating_sub(allocated_bytes) } else { unplaced };
            Ok(ImageFacts {
                format,
                kind,
                geometry: facts.geometry(),
                file_bytes,
                allocated_bytes,
                growth_bytes: thin,
                block_bytes: u32::try_from(facts.block_bytes).unwrap_or(u32::MAX),
                disk_identifier: Some(facts.disk_id.hyphenated().to_string().to_uppercase()),
                dirty_log: facts.dirty_log,
                identity: facts.identity().map(Some),
                foreign_content: None,
                warnings: facts.warnings,
            })
        }
    }
}
