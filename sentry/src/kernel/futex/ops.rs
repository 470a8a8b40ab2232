//! `FUTEX_WAKE_OP`: change one word, wake waiters of two.

use super::FutexTable;
use super::table::{take, wake_all};
use crate::errno::{Errno, Result};
use crate::mm::{MemoryManager, UserAddr};
use platform::memory_file::AtomicOp;

/// A decoded `FUTEX_OP()`.
#[derive(Debug, Clone, Copy)]
pub struct WakeOp {
    op: AtomicOp,
    argument: u32,
    compare: u32,
    value: i32,
}

/// Sign-extends the low 12 bits.
fn signed12(raw: u32) -> i32 {
    ((raw << 20) as i32) >> 20
}

impl WakeOp {
    /// Decodes `val3`. `ENOSYS` for an operation that does not exist.
    pub fn decode(raw: u32) -> Result<WakeOp> {
        let shift = raw & 0x8000_0000 != 0;
        let argument = signed12(raw >> 12);
        let argument =
            if shift { 1_u32.wrapping_shl(argument as u32 & 31) } else { argument as u32 };
        let op = match raw >> 28 & 7 {
            0 => AtomicOp::Set,
            1 => AtomicOp::Add,
            2 => AtomicOp::Or,
            3 => AtomicOp::AndNot,
            4 => AtomicOp::Xor,
            _ => return Err(Errno::ENOSYS),
        };
        let compare = raw >> 24 & 15;
        if compare > 5 {
            return Err(Errno::ENOSYS);
        }
        Ok(WakeOp { op, argument, compare, value: signed12(raw) })
    }

    fn matches(&self, old: u32) -> bool {
        let old = old as i32;
        match self.compare {
            0 => old == self.value,
            1 => old != self.value,
            2 => old < self.value,
            3 => old <= self.value,
            4 => old > self.value,
            _ => old >= self.value,
        }
    }
}

impl FutexTable {
    /// Changes the second word, wakes `count` waiters of the first, and `count2` of the second if its old
    /// value meets the comparison. Returns how many woke.
    pub fn wake_op(
        &self,
        mm: &MemoryManager,
        addr: UserAddr,
        addr2: UserAddr,
        private: bool,
        counts: (u32, u32),
        op: WakeOp,
    ) -> Result<u64> {
        let key = mm.futex_key(addr, private)?;
        let key2 = mm.futex_key(addr2, private)?;
        let woken = {
            let (mut first, mut second) = self.lock_two(&key, &key2)?;
            let old = mm.fetch_modify_u32(addr2, op.op, op.argument)?;
            let mut woken = take(&mut first, &key, counts.0, u32::MAX)?;
            if op.matches(old) {
                let bucket = second.as_mut().unwrap_or(&mut first);
                woken.extend(take(bucket, &key2, counts.1, u32::MAX)?);
            }
            woken
        };
        Ok(wake_all(woken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_futex_op() {
        // FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_GT, 1): what pthread_cond_signal used.
        let op = WakeOp::decode(1 << 28 | 4 << 24 | 1 << 12 | 1).unwrap();
        assert!(matches!(op.op, AtomicOp::Add));
        assert!(op.matches(2) && !op.matches(1));
        assert_eq!(signed12(0xfff), -1);
        assert!(WakeOp::decode(7 << 28).is_err());
    }
}
