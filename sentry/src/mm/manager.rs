//! The memory manager of a guest process.

use super::UserAddr;
use crate::errno::{Errno, Result};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// Memory of a guest process (`mm_struct`).
pub struct MemoryManager {}

impl MemoryManager {
    /// Copies guest memory in. `EFAULT` if any byte cannot be read.
    pub fn read(&self, _addr: UserAddr, _buf: &mut [u8]) -> Result<()> {
        Err(Errno::EFAULT)
    }

    /// Copies to guest memory. `EFAULT` if any byte cannot be written; the bytes before it may have
    /// been.
    pub fn write(&self, _addr: UserAddr, _buf: &[u8]) -> Result<()> {
        Err(Errno::EFAULT)
    }

    /// Copies one ABI structure in.
    pub fn read_obj<T: FromBytes + IntoBytes + FromZeros>(&self, addr: UserAddr) -> Result<T> {
        let mut value = T::new_zeroed();
        self.read(addr, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Copies one ABI structure out.
    pub fn write_obj<T: IntoBytes + Immutable>(&self, addr: UserAddr, value: &T) -> Result<()> {
        self.write(addr, value.as_bytes())
    }

    /// Copies a NUL-terminated string of at most `max` bytes (without the NUL) in. `ENAMETOOLONG` if
    /// it is longer.
    pub fn read_cstr(&self, _addr: UserAddr, _max: usize) -> Result<Vec<u8>> {
        Err(Errno::EFAULT)
    }
}
