//! The vDSO (`vdso(7)`): code that every process has mapped, and the page of clock parameters that it
//! reads, so that `clock_gettime(2)` and its kin need no system call.
//!
//! The image is put together when the sandbox starts: an ELF header and symbol tables (`image`)
//! around code (`code`) that reads the parameters (`params`) from the page below the image.

mod code;
mod image;
pub mod params;

use crate::errno::{Errno, Result};
use crate::mm::{
    Backing, MapFlags, MapRequest, MemoryManager, PAGE_SIZE, SharedMemory, UserAddr, VmaFlags,
    VmaName,
};
use params::ClockParams;
use platform::{MemoryFile, Prot};
use std::sync::Arc;

/// The sandbox's vDSO.
pub struct Vdso {
    image: Arc<SharedMemory>,
    vvar: Arc<SharedMemory>,
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
        Ok(Vdso { image: Arc::new(image), vvar, clock })
    }

    /// The clock that the vDSO shows.
    pub fn clock(&self) -> &Arc<ClockParams> {
        &self.clock
    }

    /// Maps it into a process. Returns where its ELF header is (`AT_SYSINFO_EHDR`).
    pub fn map(&self, mm: &MemoryManager) -> Result<u64> {
        let room = PAGE_SIZE + self.image.len();
        let start = mm.mmap(MapRequest::anonymous(0, room, Prot::empty(), MapFlags::empty()))?.0;
        let part = |at, memory: &Arc<SharedMemory>, prot, name| {
            let backing = Backing { mappable: memory.clone(), file: None, offset: 0 };
            let request = MapRequest {
                max_prot: prot,
                name,
                vma_flags: VmaFlags::SPECIAL | VmaFlags::DONTDUMP,
                ..MapRequest::file(at, memory.len(), prot, MapFlags::FIXED, backing)
            };
            mm.mmap(request)
        };
        part(start, &self.vvar, Prot::READ, VmaName::Vvar)?;
        let image = start + PAGE_SIZE;
        part(image, &self.image, Prot::READ | Prot::EXEC, VmaName::Vdso)?;
        Ok(UserAddr(image).0)
    }
}
