//! Robust locks: what happens to the locks a task holds when it ends (`get_robust_list(2)`).

use crate::kernel::CurrentTask;
use crate::mm::UserAddr;
use std::sync::atomic::Ordering;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Someone waits for the lock.
pub const FUTEX_WAITERS: u32 = 0x8000_0000;
/// The owner died while it held the lock.
pub const FUTEX_OWNER_DIED: u32 = 0x4000_0000;
/// The owner's thread id.
pub const FUTEX_TID_MASK: u32 = 0x3fff_ffff;
/// Longest list that is followed: a guest may make a circle (`ROBUST_LIST_LIMIT`).
const LIMIT: usize = 2048;

/// The kernel's `struct robust_list_head`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Head {
    next: u64,
    offset: i64,
    pending: u64,
}

/// Marks the locks of the calling task, which ends or executes a program, and wakes a waiter of each.
pub fn exit(t: &mut CurrentTask) {
    let head_at = t.robust_list.swap(0, Ordering::Relaxed);
    if head_at == 0 {
        return;
    }
    let Ok(head) = t.mm().read_obj::<Head>(UserAddr(head_at)) else { return };
    let mut entry = head.next;
    let word_of = |entry: u64| UserAddr((entry & !1).wrapping_add(head.offset as u64));
    for _ in 0..LIMIT {
        if entry & !1 == head_at {
            break;
        }
        // The next one first: once the lock is free, someone may reuse the entry.
        let next = t.mm().read_obj::<u64>(UserAddr(entry & !1));
        if entry & !1 != head.pending & !1 && !owner_died(t, word_of(entry), entry & 1 != 0, false)
        {
            return;
        }
        match next {
            Ok(n) => entry = n,
            Err(_) => break,
        }
    }
    if head.pending & !1 != 0 {
        owner_died(t, word_of(head.pending), head.pending & 1 != 0, true);
    }
}

/// Marks one lock. False if it cannot be read.
fn owner_died(t: &CurrentTask, word: UserAddr, pi: bool, pending: bool) -> bool {
    let Ok(mut value) = t.mm().load_u32(word) else { return false };
    loop {
        if pending && !pi && value == 0 {
            // The lock was released, but the wake-up may not have been sent.
            let _ = t.kernel().futexes.wake(t.mm(), word, false, 1, u32::MAX);
            return true;
        }
        if value & FUTEX_TID_MASK != t.ns_tid() as u32 {
            return true;
        }
        let marked = value & FUTEX_WAITERS | FUTEX_OWNER_DIED;
        match t.mm().cmpxchg_u32(word, value, marked) {
            Ok(found) if found == value => break,
            Ok(found) => value = found,
            Err(_) => return false,
        }
    }
    if !pi && value & FUTEX_WAITERS != 0 {
        let _ = t.kernel().futexes.wake(t.mm(), word, false, 1, u32::MAX);
        // A private lock is queued under another key.
        let _ = t.kernel().futexes.wake(t.mm(), word, true, 1, u32::MAX);
    }
    true
}
