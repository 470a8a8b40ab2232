//! The vDSO (`vdso(7)`).

use crate::errno::Result;
use crate::mm::MemoryManager;
use platform::MemoryFile;
use std::sync::Arc;

/// The sandbox's vDSO.
pub struct Vdso {}

impl Vdso {
    /// Builds the image.
    pub fn new(_memory: &Arc<MemoryFile>) -> Result<Vdso> {
        Ok(Vdso {})
    }

    /// Maps it into a process; returns where its ELF header is.
    pub fn map(&self, _mm: &MemoryManager) -> Result<u64> {
        Ok(0)
    }
}
