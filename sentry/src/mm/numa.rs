//! NUMA policies of areas (`mbind(2)`): kept and shown; there is one node.

use super::MemoryManager;
use crate::errno::{Errno, Result};
use crate::kernel::mempolicy::MemPolicy;

impl MemoryManager {
    /// Gives `[start, end)` a policy. `EFAULT` if not all of it is mapped, which is found before anything is changed.
    pub fn set_policy(&self, start: u64, end: u64, policy: MemPolicy) -> Result<()> {
        let mut edit = self.edit();
        if !edit.state.vmas.covers(start, end) {
            return Err(Errno::EFAULT);
        }
        edit.state.vmas.update(start, end, |vma| vma.policy = policy);
        Ok(())
    }

    /// The policy of the area at `addr`. `EFAULT` if there is none.
    pub fn policy_at(&self, addr: u64) -> Result<MemPolicy> {
        let state = self.read_state();
        let vma = state.vmas.find(addr).ok_or(Errno::EFAULT)?;
        Ok(vma.policy)
    }

    /// The policies of the areas in `[start, end)`.
    pub fn policies(&self, start: u64, end: u64) -> Vec<MemPolicy> {
        self.read_state().vmas.parts(start, end).iter().map(|vma| vma.policy).collect()
    }
}
