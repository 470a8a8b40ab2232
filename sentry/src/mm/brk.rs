//! The heap: `brk(2)`.

use super::manager::{Brk, Edit, MemoryManager};
use super::mmap::{MapFlags, MapRequest};
use super::vma::VmaName;
use super::{PAGE_SIZE, UserAddr};
use crate::errno::Result;
use platform::{Frames, Prot};

/// Frames that the heap gets ahead of its growth, so that its pages stay together in the memory file.
const SPARE: u64 = 64 << 20;

impl MemoryManager {
    /// Sets where the heap starts (`execve(2)`, `PR_SET_MM_START_BRK`).
    pub fn set_brk_start(&self, start: UserAddr) {
        let mut edit = self.edit();
        let old = std::mem::replace(
            &mut edit.state.brk,
            Brk { start: start.0, end: start.0, spare: None },
        );
        drop(edit);
        drop(old.spare);
    }

    /// Start of the heap and the program break.
    pub fn brk_range(&self) -> (u64, u64) {
        let state = self.read_state();
        (state.brk.start, state.brk.end)
    }

    /// Moves the program break to `addr`. Returns where it is then: where it was, if it cannot move.
    pub fn brk(&self, addr: UserAddr) -> UserAddr {
        let mut edit = self.edit();
        let (start, old) = (edit.state.brk.start, edit.state.brk.end);
        if addr.0 < start || addr.0 > self.addresses.end {
            return UserAddr(old);
        }
        let (Some(old_end), Some(new_end)) =
            (old.checked_next_multiple_of(PAGE_SIZE), addr.0.checked_next_multiple_of(PAGE_SIZE))
        else {
            return UserAddr(old);
        };
        let mut unused: Option<Frames> = None;
        let moved = if new_end <= old_end {
            if new_end < old_end {
                if edit.check_sealed(new_end, old_end).is_err() {
                    return UserAddr(old);
                }
                edit.unmap(new_end, old_end);
                // What follows the heap's last frame has changed.
                unused = edit.state.brk.spare.take();
            }
            true
        } else {
            edit.grow_heap(start, old_end, new_end).is_ok()
        };
        if moved {
            edit.state.brk.end = addr.0;
        }
        drop(edit);
        drop(unused);
        if moved { addr } else { UserAddr(old) }
    }
}

impl Edit<'_> {
    fn grow_heap(&mut self, start: u64, from: u64, to: u64) -> Result<()> {
        use crate::errno::Errno;
        if to.saturating_sub(start) > self.mm.limits.data() {
            return Err(Errno::ENOMEM);
        }
        // A page stays free above the heap, as on Linux.
        if self.state.vmas.covered(from, to.saturating_add(PAGE_SIZE)) > 0 {
            return Err(Errno::ENOMEM);
        }
        let len = to - from;
        if self.state.brk.spare.as_ref().is_none_or(|spare| spare.len() < len) && len < SPARE {
            self.state.brk.spare = self.allocate(from, SPARE).ok();
        }
        let request = MapRequest {
            name: VmaName::Heap,
            ..MapRequest::anonymous(from, len, Prot::READ | Prot::WRITE, MapFlags::FIXED)
        };
        self.mmap(request).map(|_| ())
    }
}
