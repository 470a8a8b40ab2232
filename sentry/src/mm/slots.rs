//! What the platform needs to patch call sites: room for what they jump to, and the pages that they are in.

use super::manager::MemoryManager;
use super::runs::Owner;
use super::usercopy::{Memory, read_host_page};
use super::{Backing, MapFlags, MapRequest, PAGE_SIZE, SharedMemory, VmaFlags, VmaName};
use crate::errno::{Errno, Result};
use crate::vfs::{Attachments, Mappable};
use platform::{CallSite, CodePage, MapSource, Prot};
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Weak};

/// Distance between a program and the room below it, in bytes.
const DISTANCE: u64 = 64 << 10;

/// The instruction.
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// On a file's inode: some of its mappings have had call sites patched.
pub struct PatchedCode(Weak<dyn Mappable>);

impl PatchedCode {
    /// A file has been opened for writing, and counted as such: from now on its mappings are not patched.
    pub fn opened_for_writing(inode: &Attachments) {
        // Pairs with the one in `may_be_patched`: at least one of the two sees what the other has done.
        fence(Ordering::SeqCst);
        let code = inode.get::<Self>().and_then(|code| code.0.upgrade());
        if let Some(mappings) = code.as_ref().and_then(|code| code.mappings()) {
            drop(mappings.unpatch());
        }
    }
}

impl Backing {
    /// False if it is a file that someone may write to: a patched page is a copy, which would not change.
    fn may_be_patched(&self) -> bool {
        let Some(path) = self.file.as_ref().and_then(|file| file.path()) else { return true };
        let inode = path.inode().attachments();
        inode.set(Arc::new(PatchedCode(Arc::downgrade(&self.mappable))));
        fence(Ordering::SeqCst);
        inode.open_counts().1 == 0
    }
}

impl MemoryManager {
    /// Gives the platform `size` bytes of room for patched call sites, below `program` (an address), or, with 0, where libraries
    /// are. `ENOMEM` if there is none.
    pub fn add_slots(&self, size: u64, program: u64) -> Result<()> {
        let memory = Arc::new(SharedMemory::new(self.memory_file(), size)?);
        let at = program.saturating_sub(size + DISTANCE) & !(PAGE_SIZE - 1);
        let backing = Backing { mappable: memory.clone(), file: None, offset: 0 };
        let prot = Prot::READ | Prot::EXEC;
        let at = self.mmap(MapRequest {
            max_prot: prot,
            name: VmaName::Trampolines,
            vma_flags: VmaFlags::SPECIAL | VmaFlags::DONTDUMP,
            ..MapRequest::file(at, memory.len(), prot, MapFlags::empty(), backing)
        })?;
        let frames = memory.frames().slice(0..memory.len()).ok_or(Errno::ENOMEM)?;
        self.address_space().add_slots(at.0, frames);
        Ok(())
    }

    /// Lets the platform patch a call site, if it lies in code that nobody writes: a private mapping of a file, as it is
    /// in the file.
    pub fn patch(&self, site: CallSite) {
        let start = site.rip.saturating_sub(1) & !(PAGE_SIZE - 1);
        let state = self.read_state();
        let Some(vma) = state.vmas.find(start) else { return };
        if !vma.private() || vma.prot != Prot::READ | Prot::EXEC || vma.key != 0 {
            return;
        }
        let Some((from, run)) = state.runs.find(start) else { return };
        let Owner::Object { write: false } = run.owner else { return };
        let Some((memory, len)) = state.resolve(start, PAGE_SIZE, false) else { return };
        if len < PAGE_SIZE {
            return;
        }
        if !vma.backing.as_ref().is_none_or(Backing::may_be_patched) {
            return;
        }
        let at = start - from;
        let source = match &run.source {
            MapSource::Frames(frames) => match frames.slice(at..at + PAGE_SIZE) {
                Some(frames) => MapSource::Frames(frames),
                None => return,
            },
            MapSource::HostFd(fd, offset) => MapSource::HostFd(fd.clone(), offset.wrapping_add(at)),
        };
        let mut bytes = [0; PAGE_SIZE as usize];
        let read = match memory {
            Memory::Frames(frames, at) => frames.read(at, &mut bytes).is_ok(),
            Memory::Host(fd, at) => read_host_page(fd, at, &mut bytes).is_ok(),
        };
        if read {
            let page = CodePage { start, bytes: &bytes, source, prot: vma.prot };
            self.address_space().patch(site, page);
        }
    }

    /// True if the instruction at `rip` is `syscall`, as far as it can be told without a page fault.
    pub fn is_syscall(&self, rip: u64) -> bool {
        let state = self.read_state();
        if !state.vmas.find(rip).is_some_and(|vma| vma.prot.contains(Prot::EXEC)) {
            return false;
        }
        let mut bytes = [0; SYSCALL.len()];
        let len = bytes.len() as u64;
        let read = match state.resolve(rip, len, false) {
            Some((Memory::Frames(frames, at), n)) if n == len => {
                frames.read(at, &mut bytes).is_ok()
            }
            Some((Memory::Host(fd, at), n)) if n == len => {
                read_host_page(fd, at, &mut bytes).is_ok()
            }
            _ => false,
        };
        read && bytes == SYSCALL
    }
}
