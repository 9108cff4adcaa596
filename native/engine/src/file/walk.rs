//! The walk to a folder, component by component, by descriptor.
//!
//! ```text
//!   /  ──openat──▶  srv  ──openat──▶  vms  ──openat──▶ ...  ──▶ held      each with O_PATH | O_NOFOLLOW, each judged (trust.rs)
//!                    │ a symbolic link: followed only if it is root's (or this user's) and lies where nobody else can exchange it
//!                    ▼
//!                   refused: UnsafeFolder, which names folder, owner and mode
//! ```
//! openat2(2) with RESOLVE_NO_SYMLINKS would refuse links as well, but says nothing of the folders between, and administrators do have
//! links (/var/lib/libvirt to a larger disk). So this is the walk of systemd's chase() with CHASE_SAFE.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::trust::{Hold, Trust, unsafe_folder, user_name};
use crate::disk::{DiskError, ErrorKind};

/// As the kernel's limit (path_resolution(7)).
const LINKS_MAX: u32 = 40;
/// What is opened to be held, never followed; rights to read are not needed for it.
const HOLD: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    Folder,
    Entry,
}

pub(super) struct Step {
    pub(super) folder: OwnedFd,
    pub(super) path: PathBuf,
    pub(super) hold: Hold,
}

/// The way from the root down to where a path has led so far. `..` goes back on it, whatever was renamed meanwhile.
pub(super) struct Walk {
    steps: Vec<Step>,
    links: u32,
    trust: Trust,
}

impl Walk {
    /// From a folder that is held; no link is followed.
    pub(super) fn from(step: Step, trust: Trust) -> Self {
        Self { steps: vec![step], links: LINKS_MAX, trust }
    }

    pub(super) fn start(path: &Path, trust: Trust) -> Result<Self, DiskError> {
        let mut walk = Self { steps: Vec::new(), links: 0, trust };
        let root = rustix::fs::openat(CWD, c"/", HOLD | OFlags::DIRECTORY, Mode::empty())
            .map_err(|e| DiskError::io("open", path, e.into()))?;
        walk.push(root, PathBuf::from("/"))?;
        Ok(walk)
    }

    fn top(&self) -> &Step {
        &self.steps[self.steps.len() - 1]
    }

    fn push(&mut self, folder: OwnedFd, path: PathBuf) -> Result<(), DiskError> {
        let stat = rustix::fs::fstat(&folder).map_err(|e| DiskError::io("examine", &path, e.into()))?;
        let hold = self.trust.judge(&stat, &link_to(&folder)).map_err(|what| unsafe_folder(&path, &stat, &what))?;
        self.steps.push(Step { folder, path, hold });
        Ok(())
    }

    /// The name of what is no folder, if the way ends in one.
    pub(super) fn follow(mut self, path: &Path, last: Last) -> Result<(Self, Option<OsString>), DiskError> {
        let absolute = std::path::absolute(path).map_err(|e| DiskError::io("open", path, e))?;
        let mut ahead: VecDeque<OsString> = parts(&absolute);
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                if self.steps.len() > 1 {
                    self.steps.pop();
                }
                continue;
            }
            let wanted = if ahead.is_empty() { last } else { Last::Folder };
            match self.step(&name, wanted)? {
                None => {}
                Some(Ahead::Entry) => return Ok((self, Some(name))),
                Some(Ahead::Link(target)) => {
                    if target.is_absolute() {
                        self.steps.truncate(1);
                    }
                    for part in parts(&target).into_iter().rev() {
                        ahead.push_front(part);
                    }
                }
            }
        }
        Ok((self, None))
    }

    /// Into a folder (`None`), or what is there instead.
    pub(super) fn step(&mut self, name: &OsStr, wanted: Last) -> Result<Option<Ahead>, DiskError> {
        let path = self.top().path.join(name);
        let failed = |e: Errno| DiskError::io("open", &path, e.into());
        let found = match rustix::fs::openat(&self.top().folder, name, HOLD, Mode::empty()) {
            Err(Errno::NOENT) if wanted == Last::Entry => return Ok(Some(Ahead::Entry)),
            other => other.map_err(failed)?,
        };
        let stat = rustix::fs::fstat(&found).map_err(failed)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.push(found, path).map(|()| None),
            FileType::Symlink => {
                self.judge_link(&stat, &path)?;
                let target = rustix::fs::readlinkat(&found, c"", Vec::new()).map_err(failed)?;
                Ok(Some(Ahead::Link(PathBuf::from(OsStr::from_bytes(target.as_bytes())))))
            }
            _ if wanted == Last::Entry => Ok(Some(Ahead::Entry)),
            _ => Err(failed(Errno::NOTDIR)),
        }
    }

    /// A link that an administrator has made is a way like any other. One that somebody else has made, or could exchange, is not.
    fn judge_link(&mut self, link: &Stat, path: &Path) -> Result<(), DiskError> {
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(DiskError::io("open", path, Errno::LOOP.into()));
        }
        let Step { folder, path: around, .. } = self.top();
        let stat = rustix::fs::fstat(folder).map_err(|e| DiskError::io("examine", around, e.into()))?;
        let trust = self.trust.for_links();
        if trust.has(link.st_uid) && trust.judge(&stat, &link_to(folder)).is_ok() {
            return Ok(());
        }
        let message = format!(
            "'{}' is a symbolic link of {}, in a folder of {}: only one that root has made, in a folder of root's, is followed. \
             Name the folder that it leads to",
            path.display(),
            user_name(link.st_uid),
            user_name(stat.st_uid),
        );
        Err(DiskError::new(ErrorKind::UnsafeFolder, message).at(path))
    }

    /// The folder the way has led to.
    pub(super) fn end(mut self) -> Result<Step, DiskError> {
        // There is always the root.
        self.steps.pop().ok_or_else(|| DiskError::new(ErrorKind::InvalidArgument, "the path leads nowhere"))
    }
}

/// What a component of a path is, if no folder.
pub(super) enum Ahead {
    Entry,
    Link(PathBuf),
}

/// `..` is kept: where it leads only the walk knows.
fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

/// For calls that take no descriptor of what is only held.
fn link_to(folder: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}
