//! One connection's messages (vhost-user: "Front-end message types"), on the control thread. The `vhost` crate receives,
//! checks and answers them; this says what each does. Whatever touches a ring is done on the reactor thread by
//! `call_export`, and the answer waits for it.
//!
//! An `Err` closes the connection, here and in the crate: a front end that breaks the protocol starts over.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight, VhostUserLog,
    VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig, VhostUserSharedMsg,
    VhostUserSingleMemoryRegion, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};

use super::config::ConfigSpace;
use super::device::VhostUserBlk;
use super::features;
use super::inflight::{InflightRegion, create_region, region_bytes};
use super::memory::{MAX_REGIONS, MemoryMap, RegionPlace, SharedMemory};
use super::ring::{Kick, Ring, RingAddresses, RingError};
use crate::disk::DiskError;
use crate::exports::{DiskFacts, ExportCx, ExportDoor, call_export};

/// How often a wait for requests in flight looks whether it should give up.
const STOP_LOOK: Duration = Duration::from_millis(50);

pub struct Handler {
    door: Arc<dyn ExportDoor>,
    facts: DiskFacts,
    queues: u16,
    config: ConfigSpace,
    memory: Arc<SharedMemory>,
    /// Set when the listener closes: a wait for requests in flight must not hold it for ever.
    closing: Arc<AtomicBool>,
}

impl Handler {
    pub fn new(door: Arc<dyn ExportDoor>, facts: DiskFacts, closing: Arc<AtomicBool>) -> Result<Self> {
        let (memory, queues) = call_export(&*door, |export: &mut VhostUserBlk, _| (export.memory(), export.queues()))
            .map_err(|_| gone())?;
        Ok(Self { door, facts, queues, config: ConfigSpace::new(&facts, queues), memory, closing })
    }

    fn call<R: Send + 'static>(
        &self,
        call: impl FnOnce(&mut VhostUserBlk, &mut dyn ExportCx) -> R + Send + 'static,
    ) -> Result<R> {
        call_export(&*self.door, call).map_err(|_| gone())
    }

    fn change_ring(
        &self,
        index: u32,
        change: impl FnOnce(&mut Ring) -> std::result::Result<(), RingError> + Send + 'static,
    ) -> Result<()> {
        self.call(move |export, cx| export.change_ring(index as usize, cx, change))?.map_err(broken)
    }

    /// Stops ring `index` (`None`: all) and waits until the requests it has taken are completed and told to the guest.
    fn drain(&self, index: Option<usize>) -> Result<()> {
        let (done, wait) = sync_channel(1);
        self.call(move |export, _| export.stop(index, done))?;
        loop {
            match wait.recv_timeout(STOP_LOOK) {
                Ok(()) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(gone()),
                Err(RecvTimeoutError::Timeout) if self.closing.load(Ordering::Acquire) => return Err(gone()),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// The connection is over: requests in flight finish, then everything the front end set is forgotten.
    pub fn disconnected(&self) -> Result<()> {
        self.drain(None)?;
        self.call(|export, _| export.forget_front_end())
    }

    /// A front end may use fewer queues than there are, never more.
    fn check_queues(&self, asked: u16) -> Result<()> {
        if asked <= self.queues {
            return Ok(());
        }
        Err(failed(&format!("an inflight region for {asked} queues; this disk has {}", self.queues)))
    }

    fn user_to_guest(&self, user: u64) -> Result<u64> {
        self.memory.load().guest_address(user).ok_or_else(|| failed("a ring address outside the guest's memory"))
    }
}

impl VhostUserBackendReqHandlerMut for Handler {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.reset_device()
    }

    fn reset_device(&mut self) -> Result<()> {
        self.drain(None)?;
        self.call(|export, _| export.reset_rings())
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(features::offered(&self.facts, self.queues))
    }

    fn set_features(&mut self, acked: u64) -> Result<()> {
        let unknown = acked & !features::offered(&self.facts, self.queues);
        if unknown != 0 {
            return Err(failed(&format!("features that were not offered: {unknown:#x}")));
        }
        self.call(move |export, cx| export.set_features(acked, cx))?.map_err(broken)
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy: Option<bool>,
    ) -> Result<Option<Vec<u64>>> {
        let table = regions.iter().map(|region| RegionPlace {
            guest: region.guest_phys_addr,
            len: region.memory_size,
            user: region.user_addr,
            file_offset: region.mmap_offset,
        });
        let map = MemoryMap::from_table(table.zip(files)).map_err(refused)?;
        self.memory.store(Arc::new(map));
        Ok(None)
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        self.change_ring(index, move |ring| ring.set_size(num))
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        let addresses = RingAddresses {
            descriptors: self.user_to_guest(descriptor)?,
            available: self.user_to_guest(available)?,
            used: self.user_to_guest(used)?,
        };
        self.change_ring(index, move |ring| ring.set_addresses(addresses))
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        self.change_ring(index, move |ring| ring.set_base(base))
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        self.drain(Some(index as usize))?;
        let next = self.call(move |export, _| export.next_available(index as usize))?;
        let next = next.ok_or_else(|| failed(&format!("there is no ring {index}")))?;
        Ok(VhostUserVringState::new(index, u32::from(next)))
    }

    fn set_vring_kick(&mut self, index: u8, kick: Option<File>) -> Result<()> {
        let kick = match kick {
            Some(file) => Kick::Event(eventfd(file)?),
            None => Kick::Polled,
        };
        self.call(move |export, cx| export.set_kick(usize::from(index), kick, cx))?.map_err(broken)
    }

    fn set_vring_call(&mut self, index: u8, call: Option<File>) -> Result<()> {
        let call = call.map(eventfd).transpose()?;
        self.change_ring(u32::from(index), move |ring| {
            ring.set_call(call);
            Ok(())
        })
    }

    fn set_vring_err(&mut self, index: u8, error: Option<File>) -> Result<()> {
        let error = error.map(eventfd).transpose()?;
        self.change_ring(u32::from(index), move |ring| {
            ring.set_error(error);
            Ok(())
        })
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(features::protocol())
    }

    fn set_protocol_features(&mut self, acked: u64) -> Result<()> {
        let unknown = acked & !features::protocol().bits();
        if unknown != 0 {
            return Err(failed(&format!("protocol features that were not offered: {unknown:#x}")));
        }
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(u64::from(self.queues))
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        self.change_ring(index, move |ring| {
            ring.set_enabled(enable);
            Ok(())
        })
    }

    fn get_config(&mut self, offset: u32, size: u32, _flags: VhostUserConfigFlags) -> Result<Vec<u8>> {
        self.config.read(offset, size).ok_or(Error::InvalidParam)
    }

    fn set_config(&mut self, offset: u32, _buf: &[u8], _flags: VhostUserConfigFlags) -> Result<()> {
        // The one writable field is `wce`, and CONFIG_WCE is not offered.
        Err(failed(&format!("the configuration at {offset} cannot be written")))
    }

    fn set_gpu_socket(&mut self, _gpu: GpuBackend) -> Result<()> {
        Err(Error::InvalidOperation("this is a block device"))
    }

    fn get_shared_object(&mut self, _object: VhostUserSharedMsg) -> Result<File> {
        Err(Error::InvalidOperation("SHARED_OBJECT is not offered"))
    }

    fn get_inflight_fd(&mut self, wanted: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        let (queues, ring_size) = (wanted.num_queues, wanted.queue_size);
        self.check_queues(queues)?;
        let file = create_region(queues, ring_size).map_err(refused)?;
        Ok((VhostUserInflight::new(region_bytes(queues, ring_size), 0, queues, ring_size), file))
    }

    fn set_inflight_fd(&mut self, passed: &VhostUserInflight, file: File) -> Result<()> {
        let (offset, len) = (passed.mmap_offset, passed.mmap_size);
        self.check_queues(passed.num_queues)?;
        let region =
            InflightRegion::attach(&file, offset, len, passed.num_queues, passed.queue_size).map_err(refused)?;
        self.call(move |export, _| export.set_inflight(region))?.map_err(broken)
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Ok(MAX_REGIONS as u64)
    }

    fn add_mem_region(
        &mut self,
        region: &VhostUserSingleMemoryRegion,
        file: File,
        _postcopy: Option<bool>,
    ) -> Result<Option<u64>> {
        let map = self.memory.load().with_region(place(region), file).map_err(refused)?;
        self.memory.store(Arc::new(map));
        Ok(None)
    }

    fn remove_mem_region(&mut self, region: &VhostUserSingleMemoryRegion) -> Result<()> {
        let map = self.memory.load().without_region(place(region)).map_err(refused)?;
        self.memory.store(Arc::new(map));
        Ok(())
    }

    fn set_device_state_fd(
        &mut self,
        _direction: VhostTransferStateDirection,
        _phase: VhostTransferStatePhase,
        _file: File,
    ) -> Result<Option<File>> {
        Err(Error::InvalidOperation("DEVICE_STATE is not offered"))
    }

    fn check_device_state(&mut self) -> Result<()> {
        Err(Error::InvalidOperation("DEVICE_STATE is not offered"))
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        Err(Error::InvalidOperation("SHMEM is not offered"))
    }

    fn set_log_base(&mut self, _log: &VhostUserLog, _file: File) -> Result<()> {
        Err(Error::InvalidOperation("LOG_SHMFD is not offered"))
    }
}

fn place(region: &VhostUserSingleMemoryRegion) -> RegionPlace {
    RegionPlace {
        guest: region.guest_phys_addr,
        len: region.memory_size,
        user: region.user_addr,
        file_offset: region.mmap_offset,
    }
}

/// Takes a descriptor for kick, call or error: an eventfd and nothing else, because a full pipe would hold the reactor
/// thread. Its flags stay as they are: they belong to the open file, and the front end may count on a read that blocks.
fn eventfd(file: File) -> Result<File> {
    // Where there is no /proc to ask, the front end's word has to do.
    match std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())) {
        Ok(kind) if kind.as_os_str() != "anon_inode:[eventfd]" => {
            Err(failed(&format!("'{}' was passed where an eventfd belongs", kind.display())))
        }
        _ => Ok(file),
    }
}

fn gone() -> Error {
    failed("the disk is being closed")
}

fn failed(why: &str) -> Error {
    Error::ReqHandlerError(io::Error::other(why.to_owned()))
}

fn broken(error: RingError) -> Error {
    failed(&error.0)
}

fn refused(error: DiskError) -> Error {
    Error::ReqHandlerError(io::Error::other(error))
}
