//! A worker's disks: opened as the journal or the host says, locked, exported. And the verbs of a move, one at a time.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::boot_id::boot_id;
use super::moving::Moving;
use super::receipt;
use super::recover::{Rolled, recover};
use super::status::{DiskStatus, FailedRequest, JournalStatus, WorkerStatus};
use crate::disk::{DiskError, ErrorKind};
use crate::exports::nbd::{NbdListener, NbdServer};
use crate::exports::vhost_user_blk::{self, VhostUserBlk};
use crate::exports::{ExportDoor, call_export};
use crate::file::{LockWait, Trust};
use crate::formats::Format;
use crate::image::{OpenImage, open_image};
use crate::mirror::{Journal, JournalPlace, JournalWriter, MarksFound, Side};
use crate::service::{DiskId, Engine, Service};

#[derive(Clone, Debug)]
pub struct ServeDisk {
    pub index: u32,
    pub path: PathBuf,
    pub format: Format,
    pub read_only: bool,
    pub vhost_user_socket: Option<PathBuf>,
    pub nbd_socket: Option<PathBuf>,
    pub queues: u16,
    /// Whose folders the path may lead through.
    pub trust: Trust,
}

/// Data of a VM's requests under way, shared evenly by its disks (each has at least what two pieces of a long request need).
const BYTES_IN_FLIGHT: u64 = 128 << 20;
/// How often a journal held by a dying predecessor is tried again.
const JOURNAL_RETRY: Duration = Duration::from_millis(20);
/// How long NBD clients may take to fetch their last answers when their server ends; then they are cut off.
const FAREWELL: Duration = Duration::from_secs(10);
/// How often it is looked whether they have.
const FAREWELL_LOOK: Duration = Duration::from_millis(5);

struct Served {
    disk: ServeDisk,
    /// Why it is not served yet.
    waiting_for: Option<String>,
    listener: Option<vhost_user_blk::Listener>,
    nbd: Option<Arc<dyn ExportDoor>>,
}

/// Called on control threads whenever the figures of the move are worth looking at.
pub type OnNotice = Arc<dyn Fn() + Send + Sync>;

pub struct Worker {
    engine: Engine,
    on_notice: OnNotice,
    served: Mutex<Vec<Served>>,
    moving: Mutex<Option<Arc<Moving>>>,
    /// One verb at a time: a start while a stop is under way waits for it.
    verbs: Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panicking holder left is still a list of disks; serving goes on.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The journal at `path`, if there is one. A predecessor that is still dying may hold it for a moment.
pub(super) fn find_journal(
    place: &JournalPlace,
    wait: Duration,
) -> Result<Option<(Journal, JournalWriter)>, DiskError> {
    if place.journal.as_os_str().is_empty() {
        return Ok(None);
    }
    match place.journal.symlink_metadata() {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        // A folder that cannot be looked into is no proof that nothing is in it.
        Err(error) => return Err(DiskError::io("look for the journal", &place.journal, error)),
    }
    let deadline = Instant::now() + wait;
    loop {
        match Journal::open(place) {
            Err(error) if error.kind == ErrorKind::Locked && Instant::now() < deadline => {
                std::thread::sleep(JOURNAL_RETRY)
            }
            other => return other.map(Some),
        }
    }
}

/// Refused where there is no journal and has to be one.
pub(super) fn refuse_missing(place: &JournalPlace) -> Result<(), DiskError> {
    if Journal::missing(place, boot_id()?)? == MarksFound::OfAJournal {
        let message = format!(
            "the journal '{}' is missing: '{}' shows that a move was under way",
            place.journal.display(),
            place.marks.display()
        );
        return Err(DiskError::new(ErrorKind::Corrupt, message).at(&place.journal));
    }
    Ok(())
}

/// Removes what a worker that was killed in the end of a move has left beside its journal.
fn forget_move(place: &JournalPlace) -> Result<(), DiskError> {
    refuse_missing(place)?;
    receipt::remove(&place.journal)?;
    Journal::remove(place)
}

impl Worker {
    pub fn start(on_notice: OnNotice) -> Result<Self, DiskError> {
        Ok(Self::on(Engine::start()?, on_notice))
    }

    /// On an engine that runs already.
    pub fn on(engine: Engine, on_notice: OnNotice) -> Self {
        Self { engine, on_notice, served: Mutex::new(Vec::new()), moving: Mutex::new(None), verbs: Mutex::new(()) }
    }

    pub fn io(&self) -> &'static str {
        self.engine.io()
    }

    /// Opens, locks and exports every disk. A journal outranks `disks`: after COMMITTED the targets are opened, before it the sources
    /// and the move is resumed (or rolled back after a restart of the machine).
    pub fn serve(&self, disks: &[ServeDisk], place: impl Into<JournalPlace>, wait: Duration) -> Result<(), DiskError> {
        let place = place.into();
        let _verb = lock(&self.verbs);
        if !lock(&self.served).is_empty() {
            return Err(DiskError::new(ErrorKind::InvalidState, "this worker serves its disks already"));
        }
        let mut journal = find_journal(&place, wait)?;
        let rolled = match &mut journal {
            Some((journal, writer)) => Some(Rolled::read(journal, writer, &place)?),
            None if place.journal.as_os_str().is_empty() => None,
            None => {
                forget_move(&place)?;
                None
            }
        };
        let mut wanted = disks.to_vec();
        if let Some(rolled) = &rolled {
            for disk in &mut wanted {
                if let Some(planned) = rolled.plan.disks.iter().find(|p| p.disk == disk.index) {
                    let path = if rolled.authority == Side::Source { &planned.source } else { &planned.target };
                    disk.path = path.clone();
                    disk.format = planned.format.into();
                }
            }
        }
        for disk in &wanted {
            let waiting = format!("the lock of '{}'", disk.path.display());
            lock(&self.served).push(Served {
                disk: disk.clone(),
                waiting_for: Some(waiting),
                listener: None,
                nbd: None,
            });
        }
        if let Err(error) = wanted.iter().try_for_each(|disk| self.open(disk, wait)) {
            // Nothing is exported yet: the next attempt starts afresh.
            self.engine.call(Service::detach_all)?;
            lock(&self.served).clear();
            return Err(error);
        }
        // The machine that mirrors has to be in place before the first guest request: exports come last.
        if let (Some((_, writer)), Some(rolled)) = (journal, rolled) {
            let moving = recover(&self.engine, writer, rolled, Arc::clone(&self.on_notice))?;
            *lock(&self.moving) = Some(moving);
        }
        wanted.iter().try_for_each(|disk| self.export(disk))
    }

    fn open(&self, disk: &ServeDisk, wait: Duration) -> Result<(), DiskError> {
        let wait = if wait.is_zero() { LockWait::No } else { LockWait::AtMost(wait) };
        let request =
            OpenImage { path: &disk.path, format: disk.format, writable: !disk.read_only, wait, trust: disk.trust };
        let image = open_image(&request)?;
        self.engine.attach(DiskId(disk.index), image, disk.read_only)
    }

    fn export(&self, disk: &ServeDisk) -> Result<(), DiskError> {
        let id = DiskId(disk.index);
        let facts = self
            .engine
            .call(move |s| s.facts(id))?
            .ok_or_else(|| DiskError::new(ErrorKind::NotFound, "the disk is gone"))?;
        let mut listener = None;
        if let Some(path) = &disk.vhost_user_socket {
            let serial = format!("vmstorage-{}", disk.index);
            let disks = lock(&self.served).iter().filter(|s| s.disk.vhost_user_socket.is_some()).count().max(1);
            let export = VhostUserBlk::new(disk.queues, &serial)?.with_bytes_in_flight(BYTES_IN_FLIGHT / disks as u64);
            let (_, door) = self.engine.add_export(id, Box::new(export))?;
            listener = Some(vhost_user_blk::listen(path, door, facts, disk.queues)?);
        }
        let mut nbd = None;
        if let Some(path) = &disk.nbd_socket {
            let server = NbdServer::new("", NbdListener::bind(path)?, facts, disk.read_only)?;
            nbd = Some(self.engine.add_export(id, Box::new(server))?.1);
        }
        if let Some(served) = lock(&self.served).iter_mut().find(|s| s.disk.index == disk.index) {
            served.waiting_for = None;
            served.listener = listener;
            served.nbd = nbd;
        }
        Ok(())
    }

    pub fn start_move(&self, plan_json: &str, place: impl Into<JournalPlace>) -> Result<(), DiskError> {
        let _verb = lock(&self.verbs);
        if lock(&self.moving).is_some() {
            return Err(DiskError::new(ErrorKind::InvalidState, "the storage of this VM is being moved already"));
        }
        let moving = Moving::begin(&self.engine, plan_json, &place.into(), Arc::clone(&self.on_notice))?;
        *lock(&self.moving) = Some(moving);
        Ok(())
    }

    /// Stops the move and waits until nothing of it is left at the destination. False: it is past COMMITTED and goes on.
    pub fn stop_move(&self) -> Result<bool, DiskError> {
        let moving = self.current()?;
        moving.stop()
    }

    /// After COMMITTED: closes the sources and records that they are closed.
    pub fn release_move(&self) -> Result<(), DiskError> {
        let _verb = lock(&self.verbs);
        self.current()?.release()
    }

    /// Removes the journal and forgets the move.
    pub fn end_move(&self) -> Result<(), DiskError> {
        let _verb = lock(&self.verbs);
        self.current()?.end()?;
        *lock(&self.moving) = None;
        Ok(())
    }

    fn current(&self) -> Result<Arc<Moving>, DiskError> {
        lock(&self.moving).clone().ok_or_else(|| DiskError::new(ErrorKind::InvalidState, "no move is under way"))
    }

    pub fn has_peer(&self) -> bool {
        lock(&self.served).iter().any(|s| s.listener.as_ref().and_then(vhost_user_blk::Listener::peer_pid).is_some())
    }

    /// Lanes of its reactor: of moves under way, and of moves that are over whose file systems still hang.
    pub fn lane_count(&self) -> Result<usize, DiskError> {
        Ok(self.engine.call(|s| s.lane_count())?)
    }

    pub fn status(&self) -> Result<WorkerStatus, DiskError> {
        let asked: Vec<_> = lock(&self.served)
            .iter()
            .map(|s| {
                (
                    s.disk.index,
                    s.disk.path.clone(),
                    s.waiting_for.clone(),
                    s.listener.as_ref().and_then(|l| l.peer_pid()),
                )
            })
            .collect();
        let mut disks = Vec::with_capacity(asked.len());
        for (index, path, waiting_for, peer_pid) in asked {
            let id = DiskId(index);
            let (seen, stats) = self.engine.call(move |s| (s.served(id), s.stats(id)))?;
            let (path, device, inode, size) = match seen {
                Some(served) => (served.path, served.identity.device, served.identity.inode, served.size_bytes),
                None => (path, 0, 0, 0),
            };
            disks.push(DiskStatus {
                index,
                path,
                device: device.to_string(),
                inode: inode.to_string(),
                size_bytes: size.to_string(),
                peer_pid,
                waiting_for,
                failed: stats.as_ref().and_then(FailedRequest::of),
            });
        }
        let moving = lock(&self.moving).clone();
        let (mv, journal) = match moving {
            Some(moving) => (Some(moving.status()?), Some(JournalStatus::of(&moving))),
            None => (None, None),
        };
        let longest_turn = self.engine.call(|s| s.longest_turn())?.into();
        Ok(WorkerStatus { io: self.engine.io(), disks, r#move: mv, journal, longest_turn })
    }

    /// Ends everything: listeners first, then requests in flight, then images are closed cleanly. NBD clients get the answers to
    /// what was taken from them, if they fetch them within [`FAREWELL`]. Safe to call twice.
    pub fn close(&self) {
        let mut leaving = Vec::new();
        for served in lock(&self.served).iter_mut() {
            if let Some(mut listener) = served.listener.take() {
                listener.close();
            }
            leaving.extend(served.nbd.take());
        }
        see_off(leaving);
        self.engine.shut_down();
    }
}

/// Stops NBD servers and waits until their clients have their answers.
fn see_off(mut leaving: Vec<Arc<dyn ExportDoor>>) {
    leaving.retain(|door| call_export(&**door, |server: &mut NbdServer, cx| server.stop(cx)).is_ok());
    let deadline = Instant::now() + FAREWELL;
    loop {
        // An export that has closed is gone from behind its door.
        leaving.retain(|door| call_export(&**door, |_: &mut NbdServer, _| ()).is_ok());
        if leaving.is_empty() {
            return;
        }
        if Instant::now() >= deadline {
            break;
        }
        std::thread::sleep(FAREWELL_LOOK);
    }
    for door in leaving {
        // One that has closed by itself meanwhile needs nothing.
        call_export(&*door, |server: &mut NbdServer, cx| server.abort(cx)).ok();
    }
}
