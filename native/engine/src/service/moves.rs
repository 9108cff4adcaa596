//! What the control side asks of the reactor thread about a move: install it, ask for its figures, take it out again.

use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::clock::now_us;
use super::disk::{Disk, GuestRequest, Tracking};
use super::driver::{Driver, Member, Notify};
use super::engine::DiskId;
use super::images::Images;
use super::turn::Service;
use super::turn_length::TurnLength;
use super::units::UnitHashes;
use crate::disk::{DiskError, ErrorKind, FileSystemId, RequestKind};
use crate::file::FileIdentity;
use crate::image::Image;
use crate::mirror::{ChunkMap, EndReason, Event, Move, Outcome, Phase, Progress, SavedMap, chunk_count};
use crate::reactor::{LANES_MAX, Lane, LaneId};

/// Where a disk is served from right now, as its own descriptor says.
#[derive(Clone, Debug)]
pub struct ServedFrom {
    pub path: PathBuf,
    pub identity: FileIdentity,
    pub size_bytes: u64,
}

/// Figures of a move at one moment.
#[derive(Clone, Copy, Debug)]
pub struct MoveFigures {
    pub phase: Phase,
    pub progress: Progress,
    pub bound_bytes: Option<u64>,
    pub blackout_us: Option<u64>,
    pub guest_p99_us: Option<u64>,
    /// The guest's longest wait since the move began, one that goes on included; and before it, since the worker or its last move ended.
    pub guest_max_us: u64,
    pub guest_rest_max_us: Option<u64>,
    pub ended: Option<EndReason>,
    pub finished: Option<Outcome>,
    pub idle: bool,
    pub elapsed_us: u64,
    /// Of the reactor, since the move began.
    pub longest_turn: TurnLength,
}

/// A member as verified.
#[derive(Clone, Debug)]
pub struct MemberDigest {
    pub disk: DiskId,
    pub bytes: u64,
    /// Hash it where it may take a while.
    pub units: UnitHashes,
    pub written_since: u64,
    pub source: ServedFrom,
    pub target: ServedFrom,
    pub switched_at: Option<std::time::SystemTime>,
}

impl Service {
    pub fn served(&self, id: DiskId) -> Option<ServedFrom> {
        let disk = self.disks.get(id.0 as usize)?.as_ref()?;
        self.served_image(disk.image)
    }

    fn served_image(&self, number: u32) -> Option<ServedFrom> {
        let image = self.images.get(number)?;
        let (path, identity) = (image.file().path().to_owned(), image.file().identity());
        Some(ServedFrom { path, identity, size_bytes: image.geometry().size_bytes })
    }

    /// Puts a move in place. From here on the guest's writes go through `machine`; writes in flight are adopted first.
    /// `targets` are (disk, image opened and locked), in the order of the machine's disks; `lanes` have one for each
    /// file system of either side, where those are two, with the files that are on it.
    /// An error leaves the disks as they were.
    pub fn begin_move(
        &mut self,
        mut machine: Move,
        targets: Vec<(DiskId, Image)>,
        lanes: Vec<Lane>,
        slots: (usize, usize),
        notify: Notify,
    ) -> Result<u32, DiskError> {
        for (id, target) in &targets {
            let Some(disk) = self.disks.get(id.0 as usize).and_then(Option::as_ref) else {
                return Err(DiskError::new(ErrorKind::NotFound, format!("disk {} is not attached", id.0)));
            };
            if disk.moving.is_some() {
                return Err(DiskError::new(ErrorKind::InvalidState, format!("disk {} is being moved already", id.0)));
            }
            let (have, want) = (target.geometry(), disk.facts.geometry);
            if have.size_bytes != want.size_bytes || have.logical_sector_bytes != want.logical_sector_bytes {
                let message =
                    format!("the destination of disk {} has another size or sector size than the source", id.0);
                return Err(DiskError::new(ErrorKind::InvalidState, message));
            }
        }
        let lanes = self.add_lanes(lanes)?;
        for (member, (id, _)) in targets.iter().enumerate() {
            self.adopt_writes(&mut machine, member as u32, *id)?;
        }
        // Nothing fails from here on: what the machine has adopted is handed to it below.
        let driver_id = self.drivers.next_number();
        let mut members = Vec::with_capacity(targets.len());
        for (member, (id, mut image)) in targets.into_iter().enumerate() {
            if self.has_content_of(&image, id) {
                image.keep_content_name();
            }
            let Some(Some(disk)) = self.disks.get_mut(id.0 as usize) else { continue };
            let [source_lane, target_lane] = lanes_of(&self.images, &lanes, disk.image, &image);
            let target = self.images.add(image, target_lane);
            disk.moving = Some((driver_id, member as u32));
            let rest = disk.latency.mark();
            let rest_max_us = (rest.count > 0).then_some(rest.max_us);
            if let Some(tracked) = disk.tracking.take() {
                machine.written_meanwhile(member as u32, &tracked.chunks);
            }
            hand_over_writes(disk, (driver_id, member as u32));
            let units = UnitHashes::new(disk.facts.geometry.size_bytes);
            members.push(Member { disk: id.0, source: disk.image, target, source_lane, units, rest_max_us });
        }
        let added = self.drivers.add(Driver::new(machine, members, slots.0, slots.1, notify));
        debug_assert_eq!(added, driver_id);
        self.pass_on();
        Ok(driver_id)
    }

    /// Whether a target bears the name of the content that the disk has now: nothing was written since its file was made.
    fn has_content_of(&self, target: &Image, disk: DiskId) -> bool {
        let disk = self.disks.get(disk.0 as usize).and_then(Option::as_ref);
        let source = disk.and_then(|disk| self.images.get(disk.image));
        target.content_name().is_some() && source.and_then(Image::content_name) == target.content_name()
    }

    /// The file that a disk is served from: its file system and its descriptor, which stays open while the disk is served from it.
    pub fn file_of(&self, id: DiskId) -> Option<(FileSystemId, RawFd)> {
        let disk = self.disks.get(id.0 as usize)?.as_ref()?;
        let file = self.images.get(disk.image)?.file();
        Some((file.file_system(), file.fd()))
    }

    /// Tells the machine of every write of the disk that is under way.
    fn adopt_writes(&self, machine: &mut Move, member: u32, disk: DiskId) -> Result<(), DiskError> {
        let Some(Some(disk)) = self.disks.get(disk.0 as usize) else { return Ok(()) };
        let now = now_us();
        for request in 0..disk.requests.len() as u32 {
            let entry = disk.requests.get_ref(request);
            if is_write_under_way(entry) {
                machine.adopt(member, request, entry.range, now)?;
            }
        }
        Ok(())
    }

    /// Until the move of this disk is resumed, its writes are marked in `dirty` before they are submitted.
    pub fn track(&mut self, id: DiskId, dirty: SavedMap) {
        if let Some(Some(disk)) = self.disks.get_mut(id.0 as usize) {
            let chunks = ChunkMap::new(chunk_count(disk.facts.geometry.size_bytes));
            disk.tracking = Some(Tracking { saved: dirty, chunks });
        }
    }

    pub fn move_event(&mut self, driver: u32, event: Event) {
        self.drive(driver, event);
        self.pass_on();
    }

    pub fn figures(&self, driver: u32) -> Option<MoveFigures> {
        let driver = self.drivers.get(driver)?;
        let disks: Vec<&Disk> =
            driver.members.iter().filter_map(|m| self.disks.get(m.disk as usize)?.as_ref()).collect();
        Some(MoveFigures {
            phase: driver.phase,
            progress: driver.machine.progress(),
            bound_bytes: driver.bound_bytes,
            blackout_us: driver.flip_us.map(|flip| flip.max(driver.machine.progress().held_max_us.unwrap_or(0))),
            guest_p99_us: disks.iter().filter_map(|d| d.latency.last_p99_us()).max(),
            guest_max_us: disks.iter().map(|d| d.longest_wait_us(now_us())).max().unwrap_or(0),
            guest_rest_max_us: driver.members.iter().filter_map(|m| m.rest_max_us).max(),
            ended: driver.ended,
            finished: driver.finished,
            idle: driver.machine.is_idle(),
            elapsed_us: now_us().saturating_sub(driver.started_us),
            longest_turn: driver.longest_turn,
        })
    }

    pub fn digests(&self, driver: u32) -> Vec<MemberDigest> {
        let Some(driver) = self.drivers.get(driver) else { return Vec::new() };
        driver
            .members
            .iter()
            .zip(0..)
            .filter_map(|(m, place)| {
                let source = self.served_image(m.source)?;
                let target = self.served_image(m.target)?;
                Some(MemberDigest {
                    disk: DiskId(m.disk),
                    bytes: source.size_bytes,
                    units: m.units.clone(),
                    written_since: driver.machine.units_written_since(place),
                    source,
                    target,
                    switched_at: driver.switched_at,
                })
            })
            .collect()
    }

    /// New requests bypass the move from here on; what is in flight still goes through its machine. May be repeated, also when the disks
    /// have got another move meanwhile.
    pub fn bypass_move(&mut self, driver_id: u32) {
        let Some(driver) = self.drivers.get(driver_id) else { return };
        for member in &driver.members {
            if let Some(Some(disk)) = self.disks.get_mut(member.disk as usize)
                && disk.moving.is_some_and(|(moving, _)| moving == driver_id)
            {
                disk.moving = None;
            }
        }
    }

    /// Takes the images of the losing side out once nothing is in flight on them, and the driver with them; `None` until then: call again.
    /// The caller closes them, which may wait for a file system that hangs, and gives back up to a gigabyte of memory. `clean`: first they are made consistent
    /// without replay (a source that is kept); otherwise they come as they are.
    pub fn retire_move(&mut self, driver_id: u32, clean: bool) -> Option<Remains> {
        let Some(driver) = self.drivers.get(driver_id) else { return Some(Remains::default()) };
        let outcome = driver.finished.filter(|_| driver.machine.is_idle())?;
        let losing: Vec<u32> =
            driver.members.iter().map(|m| if outcome == Outcome::Committed { m.source } else { m.target }).collect();
        let mut still = true;
        for &number in &losing {
            if clean {
                // One that is quiet counts as clean until it is told to close: its log would have to be replayed by whoever opens it next.
                self.images.begin_close(number);
            }
            still &=
                self.images.get(number).is_none_or(|image| if clean { image.is_clean() } else { image.busy() == 0 });
        }
        if !still {
            return None;
        }
        let disks: Vec<u32> = driver.members.iter().map(|m| m.disk).collect();
        let driver = self.drivers.remove(driver_id);
        for number in disks {
            // What the guest waits from here on is not the move's.
            if let Some(Some(disk)) = self.disks.get_mut(number as usize)
                && disk.moving.is_none()
            {
                disk.latency.mark();
            }
        }
        let images = losing.into_iter().filter_map(|number| self.images.take(number)).collect();
        let lanes = self.take_unused_lanes();
        Some(Remains { images, driver, lanes })
    }

    fn add_lanes(&mut self, lanes: Vec<Lane>) -> Result<MoveLanes, DiskError> {
        let mut added = Vec::with_capacity(lanes.len());
        for lane in lanes {
            let file_system = lane.file_system();
            match self.images.reactors().add(lane) {
                Ok(number) => added.push((file_system, number)),
                Err(file_system) => {
                    drop(self.take_unused_lanes());
                    let message = format!(
                        "{LANES_MAX} file systems of earlier moves still hang; one more ({file_system}) is not begun with"
                    );
                    return Err(DiskError::new(ErrorKind::InvalidState, message));
                }
            }
        }
        Ok(added)
    }

    pub fn lane_count(&self) -> usize {
        self.images.lane_count()
    }

    fn take_unused_lanes(&mut self) -> Vec<Lane> {
        let (images, drivers) = (&mut self.images, &self.drivers);
        images.take_unused_lanes(|lane| {
            drivers.iter().any(|driver| driver.members.iter().any(|m| m.source_lane == Some(lane)))
        })
    }
}

/// The lanes of one move.
type MoveLanes = Vec<(FileSystemId, LaneId)>;

/// What is left of a move that was retired: to be closed by whoever may wait for it.
#[derive(Default)]
pub struct Remains {
    pub images: Vec<Image>,
    driver: Option<Box<Driver>>,
    lanes: Vec<Lane>,
}

impl Remains {
    /// Closes the files, those of the lanes last: whoever closes a file last may wait for its file system, and lanes may. False when one is
    /// still open after `patience`, which is closed when its file system answers.
    pub fn close(self, patience: Duration) -> bool {
        drop((self.images, self.driver));
        let until = Instant::now() + patience;
        let left = || until.saturating_duration_since(Instant::now());
        let open = self.lanes.into_iter().filter_map(|lane| (!lane.end(left())).then_some(())).count();
        open == 0
    }
}

/// The lanes of a move's source, once it has lost, and of its target. On one file system neither has one: what hangs there holds up the
/// guest's own disk anyway.
fn lanes_of(images: &Images, lanes: &MoveLanes, source: u32, target: &Image) -> [Option<LaneId>; 2] {
    let target = target.file().file_system();
    let lane_of = |wanted| lanes.iter().find(|(file_system, _)| *file_system == wanted).map(|(_, lane)| *lane);
    match images.get(source).map(|image| image.file().file_system()) {
        Some(source) if source != target => [source, target].map(lane_of),
        _ => [None, None],
    }
}

fn is_write_under_way(entry: &GuestRequest) -> bool {
    let write = !matches!(entry.kind, None | Some(RequestKind::Read | RequestKind::Flush));
    write && !entry.answered && !entry.flushing && entry.parts > 0
}

/// The completions of the writes `adopt_writes` found go to the machine, which has a hold on each until it retires it.
fn hand_over_writes(disk: &mut Disk, place: (u32, u32)) {
    for id in 0..disk.requests.len() as u32 {
        let entry = disk.requests.get(id);
        if is_write_under_way(entry) {
            entry.adopted = Some(place);
            entry.parts += 1;
        }
    }
}
