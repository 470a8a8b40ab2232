//! Words of guest memory that the kernel reads and changes atomically, and how futexes name them.

use super::UserAddr;
use super::manager::MemoryManager;
use super::usercopy::Memory;
use crate::errno::{Errno, Result};
use platform::host::mapping::FileMapping;
use platform::memory_file::AtomicOp;
use platform::{Frames, MapSource, Prot};
use std::os::fd::{AsFd, BorrowedFd};

/// Names a futex: the same word has the same key in every process that maps it (`futex(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FutexKey {
    /// A word that is private to an address space.
    Private {
        /// [`MemoryManager::id`].
        mm: u64,
        /// Address.
        addr: u64,
    },
    /// A word in shared memory: its offset in the memory file.
    Frames {
        /// Offset in bytes.
        offset: u64,
    },
    /// A word in a shared mapping of an object whose storage can change.
    Object {
        /// [`super::Mappings::id`].
        object: u64,
        /// Offset in bytes.
        offset: u64,
    },
    /// A word in a shared mapping of another host file.
    File {
        /// Device and inode number.
        inode: (u64, u64),
        /// Offset in bytes.
        offset: u64,
    },
}

impl MemoryManager {
    /// The key of the word at `addr`. With `private` the guest promises that no other process uses it
    /// (`FUTEX_PRIVATE_FLAG`). `EINVAL` if misaligned, `EFAULT` if it cannot be read.
    pub fn futex_key(&self, addr: UserAddr, private: bool) -> Result<FutexKey> {
        if !addr.0.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        self.check_buffer(addr, 4)?;
        let own = FutexKey::Private { mm: self.id, addr: addr.0 };
        if private {
            return Ok(own);
        }
        // Also checks that the word is there, as Linux does for words that may be shared.
        self.load_u32(addr)?;
        let state = self.read_state();
        let vma = state.vmas.find(addr.0).ok_or(Errno::EFAULT)?;
        if vma.private() {
            // Linux takes the page for writing; it can do without only in a page of a file.
            let writable = vma.prot.contains(Prot::WRITE) || vma.backing.is_some();
            return if writable { Ok(own) } else { Err(Errno::EFAULT) };
        }
        if let Some(mappings) = vma.backing.as_ref().and_then(|b| b.mappable.mappings()) {
            return Ok(FutexKey::Object { object: mappings.id(), offset: vma.offset_of(addr.0) });
        }
        let (start, run) = state.runs.find(addr.0).ok_or(Errno::EFAULT)?;
        match &run.source {
            MapSource::Frames(frames) => {
                Ok(FutexKey::Frames { offset: frames.offset().wrapping_add(addr.0 - start) })
            }
            MapSource::HostFd(..) => {
                let offset = vma.offset_of(addr.0);
                let file = vma.backing.as_ref().and_then(|b| b.file.clone());
                drop(state);
                let attr = file.ok_or(Errno::EFAULT)?.attr()?;
                Ok(FutexKey::File { inode: (attr.dev, attr.ino), offset })
            }
        }
    }

    /// Atomic load of the word at `addr`. `EINVAL` if misaligned, `EFAULT`.
    pub fn load_u32(&self, addr: UserAddr) -> Result<u32> {
        self.on_word(addr, false, |frames, at| frames.load32(at), |file, at| file.load32(at))
    }

    /// Atomic compare-and-exchange; returns what was there: `old` if it was replaced.
    pub fn cmpxchg_u32(&self, addr: UserAddr, old: u32, new: u32) -> Result<u32> {
        self.on_word(
            addr,
            true,
            |frames, at| frames.compare_exchange32(at, old, new),
            |file, at| file.compare_exchange32(at, old, new),
        )
    }

    /// Atomic read-modify-write; returns what was there.
    pub fn fetch_modify_u32(&self, addr: UserAddr, op: AtomicOp, argument: u32) -> Result<u32> {
        let mut old = self.load_u32(addr)?;
        loop {
            let new = match op {
                AtomicOp::Set => argument,
                AtomicOp::Add => old.wrapping_add(argument),
                AtomicOp::Or => old | argument,
                AtomicOp::AndNot => old & !argument,
                AtomicOp::Xor => old ^ argument,
            };
            // A guest that changes the word all the time can delay, but not stop us: every failed
            // exchange is a change it has paid for.
            match self.cmpxchg_u32(addr, old, new)? {
                found if found == old => return Ok(old),
                found => old = found,
            }
        }
    }

    fn on_word(
        &self,
        addr: UserAddr,
        write: bool,
        on_frames: impl Fn(&Frames, u64) -> Result<u32, platform::AccessError>,
        on_file: impl Fn(&FileMapping, u64) -> Result<u32, platform::AccessError>,
    ) -> Result<u32> {
        if !addr.0.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        let mut value = 0;
        let (_, result) = self.walk(addr.0, 4, write, |memory, _, _| {
            value = match memory {
                Memory::Frames(frames, at) => on_frames(frames, at),
                Memory::Host(fd, at) => on_mapping(fd.as_fd(), at, write, &on_file),
            }
            .map_err(|_| Errno::EFAULT)?;
            Ok(())
        });
        result.map(|()| value)
    }
}

/// Maps the page of a host file that holds the word for as long as the access takes.
fn on_mapping(
    fd: BorrowedFd<'_>,
    at: u64,
    write: bool,
    access: impl Fn(&FileMapping, u64) -> Result<u32, platform::AccessError>,
) -> Result<u32, platform::AccessError> {
    let page = at & !(super::PAGE_SIZE - 1);
    let mapping =
        FileMapping::new(fd, page, super::PAGE_SIZE, write).map_err(|_| platform::AccessError)?;
    access(&mapping, at - page)
}
