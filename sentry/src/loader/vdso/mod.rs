//! The vDSO (`vdso(7)`): code that every process has mapped, and the page of clock parameters that it
//! reads, so that `clock_gettime(2)` and its kin need no system call.
//!
//! The image is put together when the sandbox starts: an ELF header and symbol tables (`image`)
//! around code (`code`) that reads the parameters (`params`) from the page below the image, and adds what the
//! process's time namespace shifts the clocks by, which the page below that one says.

mod code;
mod image;
pub mod params;

use crate::errno::{Errno, Result};
use crate::mm::{
    Backing, MapFlags, MapRequest, MemoryManager, PAGE_SIZE, SharedMemory, UserAddr, VmaFlags,
    VmaName,
};
use crate::vfs::Mappable;
use params::ClockParams;
use platform::{MemoryFile, Prot};
use std::sync::Arc;

/// The sandbox's vDSO.
pub struct Vdso {
    image: Arc<SharedMemory>,
    vvar: Arc<SharedMemory>,
    /// The page of a time namespace that shifts no clock.
    unshifted: Arc<SharedMemory>,
    clock: Arc<ClockParams>,
}

impl Vdso {
    /// Puts the image together and starts the clock. `ENOMEM` if there is no memory for it.
    pub fn new(memory: &Arc<MemoryFile>) -> Result<Vdso> {
        let bytes = image::build(code::bytes());
        let image = SharedMemory::new(memory, bytes.len() as u64)?;
        image.frames().write(0, &bytes).map_err(|_| Errno::ENOMEM)?;
        let vvar = Arc::new(SharedMemory::new(memory, PAGE_SIZE)?);
        let clock = Arc::new(ClockParams::new(Some(vvar.clone())));
        let unshifted = Arc::new(SharedMemory::new(memory, PAGE_SIZE)?);
        Ok(Vdso { image: Arc::new(image), vvar, unshifted, clock })
    }

    /// The page for a time namespace that adds `offsets` (nanoseconds) to `CLOCK_MONOTONIC` and
    /// `CLOCK_BOOTTIME`. `ENOMEM` if there is no memory for it.
    pub fn shifts(
        &self,
        memory: &Arc<MemoryFile>,
        offsets: (i64, i64),
    ) -> Result<Arc<SharedMemory>> {
        if offsets == (0, 0) {
            return Ok(self.unshifted.clone());
        }
        let page = SharedMemory::new(memory, PAGE_SIZE)?;
        for (field, offset) in
            [(params::field::MONOTONIC, offsets.0), (params::field::BOOTTIME, offsets.1)]
        {
            page.frames().store64(field, offset as u64).map_err(|_| Errno::ENOMEM)?;
        }
        Ok(Arc::new(page))
    }

    /// The clock that the vDSO shows.
    pub fn clock(&self) -> &Arc<ClockParams> {
        &self.clock
    }

    /// Maps it into a process in a time namespace whose page is `shifts`. Returns where its ELF header is
    /// (`AT_SYSINFO_EHDR`).
    pub fn map(&self, mm: &MemoryManager, shifts: &Arc<SharedMemory>) -> Result<u64> {
        let room = 2 * PAGE_SIZE + self.image.len();
        let start = mm.mmap(MapRequest::anonymous(0, room, Prot::empty(), MapFlags::empty()))?.0;
        part(mm, start, shifts, Prot::READ, VmaName::Vvar)?;
        part(mm, start + PAGE_SIZE, &self.vvar, Prot::READ, VmaName::Vvar)?;
        let image = start + 2 * PAGE_SIZE;
        part(mm, image, &self.image, Prot::READ | Prot::EXEC, VmaName::Vdso)?;
        Ok(UserAddr(image).0)
    }
}

/// The process goes on in another time namespace: replaces the page of the old one, where it has it mapped.
pub fn replace_shifts(
    mm: &MemoryManager,
    old: &Arc<SharedMemory>,
    new: &Arc<SharedMemory>,
) -> Result<()> {
    if Arc::ptr_eq(old, new) {
        return Ok(());
    }
    let old: Arc<dyn Mappable> = old.clone();
    match mm.find_object(VmaName::Vvar, &old) {
        Some(at) => part(mm, at, new, Prot::READ, VmaName::Vvar),
        None => Ok(()),
    }
}

fn part(
    mm: &MemoryManager,
    at: u64,
    memory: &Arc<SharedMemory>,
    prot: Prot,
    name: VmaName,
) -> Result<()> {
    let backing = Backing { mappable: memory.clone(), file: None, offset: 0 };
    let request = MapRequest {
        max_prot: prot,
        name,
        vma_flags: VmaFlags::SPECIAL | VmaFlags::DONTDUMP,
        ..MapRequest::file(at, memory.len(), prot, MapFlags::FIXED, backing)
    };
    mm.mmap(request).map(drop)
}
