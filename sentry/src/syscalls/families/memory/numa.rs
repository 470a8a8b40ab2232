//! NUMA policy (`mempolicy(7)`), on a machine with one node.
//!
//! Policies are checked as Linux checks them, kept and shown; with a single node they have no effect.

use super::process_vm::may_access;
use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::kernel::credentials::CAP_SYS_NICE;
use crate::kernel::mempolicy::MemPolicy;
use crate::mm::{PAGE_SIZE, UserAddr};
use crate::syscalls::SysResult;
use crate::syscalls::arg::Flags;
use std::sync::atomic::Ordering;

const MODE_FLAGS: i32 = 0xe000;
const MPOL_MAX: i32 = 6;
/// Most bits of a node mask.
const MAX_NODES: u64 = PAGE_SIZE * 8;

/// Reads a node mask of `max` - 1 bits. True if node 0 is in it; `EINVAL` for a node that is not there.
fn read_mask(t: &CurrentTask, mask: UserAddr, max: u64) -> Result<bool> {
    let bits = max.saturating_sub(1);
    if bits == 0 || mask.is_null() {
        return Ok(false);
    }
    if bits > MAX_NODES {
        return Err(Errno::EINVAL);
    }
    let mut bytes = vec![0u8; bits.div_ceil(64) as usize * 8];
    t.mm().read(mask, &mut bytes)?;
    // Bits beyond the mask's length do not count.
    let mut node0 = false;
    for bit in 0..bits {
        let byte = bytes.get((bit / 8) as usize).copied().unwrap_or(0);
        match (byte >> (bit % 8) & 1 != 0, bit) {
            (false, _) => {}
            (true, 0) => node0 = true,
            (true, _) => return Err(Errno::EINVAL),
        }
    }
    Ok(node0)
}

/// A policy with its nodes.
fn policy(t: &CurrentTask, mode: i32, mask: UserAddr, max: u64) -> Result<MemPolicy> {
    // A bad mode is found before bad memory (`sanitize_mpol_flags`).
    if !(0..=MPOL_MAX).contains(&(mode & !MODE_FLAGS)) {
        return Err(Errno::EINVAL);
    }
    MemPolicy::new(mode, read_mask(t, mask, max)?)
}

/// `set_mempolicy(2)`
pub fn set_mempolicy(t: &mut CurrentTask, mode: i32, mask: UserAddr, max: u64) -> SysResult {
    let policy = policy(t, mode, mask, max)?;
    t.mempolicy.store(policy.raw(), Ordering::Relaxed);
    Ok(0)
}

/// `mbind(2)`
pub fn mbind(
    t: &mut CurrentTask,
    addr: UserAddr,
    len: u64,
    mode: i32,
    mask: UserAddr,
    max: u64,
    flags: Flags,
) -> SysResult {
    const MPOL_MF_VALID: u32 = 7;
    const MPOL_MF_MOVE_ALL: u32 = 4;
    if flags.0 & !MPOL_MF_VALID != 0 || !addr.0.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    if flags.0 & MPOL_MF_MOVE_ALL != 0 && !t.creds().has(CAP_SYS_NICE) {
        return Err(Errno::EPERM);
    }
    let policy = policy(t, mode, mask, max)?;
    let len = len.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::EINVAL)?;
    let end = addr.0.checked_add(len).ok_or(Errno::EINVAL)?;
    if end > addr.0 {
        t.mm().set_policy(addr.0, end, policy)?;
    }
    Ok(0)
}

/// `get_mempolicy(2)`
pub fn get_mempolicy(
    t: &mut CurrentTask,
    mode: UserAddr,
    mask: UserAddr,
    max: u64,
    addr: UserAddr,
    flags: u64,
) -> SysResult {
    const NODE: u64 = 1;
    const ADDR: u64 = 2;
    const MEMS_ALLOWED: u64 = 4;
    if flags & !(NODE | ADDR | MEMS_ALLOWED) != 0 || !mask.is_null() && max < 1 {
        return Err(Errno::EINVAL);
    }
    let (value, nodes): (i32, u64);
    if flags & MEMS_ALLOWED != 0 {
        if flags & (NODE | ADDR) != 0 {
            return Err(Errno::EINVAL);
        }
        (value, nodes) = (0, 1);
    } else if flags & ADDR != 0 {
        let policy = t.mm().policy_at(addr.0)?;
        nodes = policy.nodes();
        // The node of the page is 0.
        value = if flags & NODE != 0 { 0 } else { policy.mode() };
    } else {
        let policy = MemPolicy::from_raw(t.mempolicy.load(Ordering::Relaxed));
        if !addr.is_null() || flags & NODE != 0 && !policy.interleaves() {
            return Err(Errno::EINVAL);
        }
        nodes = policy.nodes();
        // The node of the next page.
        value = if flags & NODE != 0 { 0 } else { policy.mode() };
    }
    if !mode.is_null() {
        t.mm().write_obj(mode, &value)?;
    }
    if !mask.is_null() && max > 1 {
        let bytes = (max - 1).min(MAX_NODES).div_ceil(64) * 8;
        t.mm().zero(mask, bytes)?;
        t.mm().write_obj(mask, &nodes)?;
    }
    Ok(0)
}

/// `set_mempolicy_home_node(2)`
pub fn set_home_node(
    t: &mut CurrentTask,
    addr: UserAddr,
    len: u64,
    node: u64,
    flags: u64,
) -> SysResult {
    if !addr.0.is_multiple_of(PAGE_SIZE) || flags != 0 || node != 0 {
        return Err(Errno::EINVAL);
    }
    let len = len.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::EINVAL)?;
    let end = addr.0.checked_add(len).ok_or(Errno::EINVAL)?;
    if end == addr.0 {
        return Ok(0);
    }
    // Areas without a policy do not count.
    let mut policies = t.mm().policies(addr.0, end);
    policies.retain(|policy| *policy != MemPolicy::default());
    match policies.iter().all(|policy| policy.has_home()) {
        _ if policies.is_empty() => Err(Errno::ENOENT),
        true => Ok(0),
        false => Err(Errno::EOPNOTSUPP),
    }
}

/// `migrate_pages(2)`
pub fn migrate_pages(
    t: &mut CurrentTask,
    pid: i32,
    max: u64,
    old: UserAddr,
    new: UserAddr,
) -> SysResult {
    read_mask(t, old, max)?;
    if !read_mask(t, new, max)? {
        return Err(Errno::EINVAL);
    }
    may_access(t, pid)?;
    Ok(0)
}

/// `move_pages(2)`
pub fn move_pages(
    t: &mut CurrentTask,
    pid: i32,
    count: u64,
    pages: UserAddr,
    nodes: UserAddr,
    status: UserAddr,
    flags: i32,
) -> SysResult {
    const MPOL_MF_MOVE: i32 = 2;
    const MPOL_MF_MOVE_ALL: i32 = 4;
    if flags & !(MPOL_MF_MOVE | MPOL_MF_MOVE_ALL) != 0 {
        return Err(Errno::EINVAL);
    }
    let mm = may_access(t, pid)?;
    for i in 0..count {
        let page: u64 = t.mm().read_obj(pages.offset(i.wrapping_mul(8)))?;
        if !nodes.is_null() {
            let node: i32 = t.mm().read_obj(nodes.offset(i.wrapping_mul(4)))?;
            if node != 0 {
                return Err(Errno::ENODEV);
            }
        }
        let mut present = Vec::new();
        let found = match mm.mincore(page & !(PAGE_SIZE - 1), 1, &mut present) {
            Err(_) => -Errno::EFAULT.raw(),
            Ok(()) if present == [1] => 0,
            Ok(()) => -Errno::ENOENT.raw(),
        };
        t.mm().write_obj(status.offset(i.wrapping_mul(4)), &found)?;
        if i % 1024 == 1023 && t.killed() {
            return Err(Errno::EINTR);
        }
    }
    Ok(0)
}
