//! The protection keys of stubs (`pkeys(7)`).
//!
//! All stubs descend from one process, which has allocated every key before its filter: a guest's key is the host's of the same number,
//! and the instructions that read and write a thread's rights mean what they say. The last key is the host's for memory that is only to be
//! executed, which it takes from those that are free when it first needs one.

use super::batch::{Call, call};
use super::layout;
use crate::{EXECUTE_ONLY_KEY, GUEST_KEYS, PAGE_SIZE, cpu};

/// `PKEY_DISABLE_ACCESS`.
const DISABLE_ACCESS: u64 = 1;
const READ_EXECUTE: u64 = (libc::PROT_READ | libc::PROT_EXEC) as u64;

/// The calls that allocate the keys, once the page with the stub's code is mapped, and what they return. The last one is made whatever the
/// others return.
pub const SETUP: [([u64; 4], i64); SETUP_LEN] = {
    let mut calls =
        [([libc::SYS_mprotect as u64, layout::TEXT, PAGE_SIZE, READ_EXECUTE], 0); SETUP_LEN];
    let mut key = 0;
    while key < LAST {
        calls[key] = ([libc::SYS_pkey_alloc as u64, 0, DISABLE_ACCESS, 0], key as i64 + 1);
        key += 1;
    }
    calls[LAST] = ([libc::SYS_pkey_free as u64, LAST as u64, 0, 0], 0);
    calls[LAST + 1].0[3] = libc::PROT_EXEC as u64;
    calls
};

const LAST: usize = EXECUTE_ONLY_KEY as usize;
const SETUP_LEN: usize = LAST + 3;

/// The call that gives a key back, where those of [`SETUP`] did not return what they should.
pub const fn free(key: u64) -> [u64; 4] {
    [libc::SYS_pkey_free as u64, key, 0, 0]
}

/// Calls of a stub that has the keys. Both fail in one that has none.
pub fn probe() -> [Call; 2] {
    let last = GUEST_KEYS.end - 1;
    [last, 0].map(|key| {
        call(libc::SYS_pkey_mprotect, &[layout::TEXT, PAGE_SIZE, READ_EXECUTE, key.into()])
    })
}

/// Whether threads have rights that the sentry can see and change.
pub fn has_rights() -> bool {
    cpu::xsave_layout().pkru_offset.is_some()
}
