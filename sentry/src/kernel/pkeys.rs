//! A thread's rights to memory with protection keys (`pkeys(7)`): a register that the guest writes as it likes.

use super::CurrentTask;
use crate::errno::{Errno, Result};
use crate::syscalls::table;

/// How far behind an address that a call is given an area with a key makes the thread's rights worth asking for.
const NEAR: u64 = 64 << 10;

/// The rights of the thread (`PKRU`), if a call has an argument that may be an address in memory with a key. To know them costs about as
/// much as another call, so who uses no keys, or none of such memory, is not asked.
pub(super) fn rights(t: &mut CurrentTask, nr: u64, args: [u64; 6]) -> Option<u32> {
    if !t.mm().uses_protection_keys() {
        return None;
    }
    let count = table::lookup(nr)?.args.len();
    let near = |addr: u64| addr..addr.saturating_add(NEAR);
    if !args.iter().take(count).any(|addr| t.mm().has_keys_in(near(*addr))) {
        return None;
    }
    t.context.xstate().ok()?.pkru()
}

/// Gives the thread rights to memory with a key, as the bits of `pkey_alloc(2)` say (`arch_set_user_pkey_access`).
pub fn set_rights(t: &mut CurrentTask, key: u8, rights: u64) -> Result<()> {
    const MASK: u32 = 3;
    let mut state = t.context.xstate().map_err(|_| Errno::EINVAL)?;
    let pkru = state.pkru().ok_or(Errno::EINVAL)?;
    let shift = 2 * u32::from(key);
    state.set_pkru(pkru & !(MASK << shift) | (rights as u32 & MASK) << shift);
    t.context.set_xstate(&state).map_err(|_| Errno::EINVAL)
}
