//! Waiting on several words at once (`futex_waitv(2)`).

use super::FutexTable;
use super::table::Waiter;
use crate::errno::{Errno, Result};
use crate::kernel::{CurrentTask, Wake};
use crate::mm::UserAddr;
use std::sync::Arc;

/// One word to wait on.
#[derive(Debug, Clone, Copy)]
pub struct WaitWord {
    /// Its address.
    pub addr: UserAddr,
    /// Expected value.
    pub value: u32,
    /// Private to the process.
    pub private: bool,
}

impl FutexTable {
    /// Waits until one of the words is woken; returns its position. `EAGAIN` if one does not have its
    /// expected value, else as [`FutexTable::wait`].
    pub fn wait_any(
        &self,
        t: &mut CurrentTask,
        words: &[WaitWord],
        deadline: Option<u64>,
    ) -> Result<usize> {
        let mut queued: Vec<Arc<Waiter>> = Vec::with_capacity(words.len());
        for word in words {
            match self.queue_one(t, word) {
                Ok(waiter) => queued.push(waiter),
                Err(e) => {
                    // A wake-up that came in the meantime counts.
                    return self.unqueue_all(&queued).ok_or(e);
                }
            }
        }
        loop {
            if queued.iter().any(|w| w.is_woken()) {
                break;
            }
            let error = match t.block(deadline) {
                Wake::Event => continue,
                Wake::Timeout => Errno::ETIMEDOUT,
                Wake::Interrupted => Errno::ERESTARTSYS,
            };
            return self.unqueue_all(&queued).ok_or(error);
        }
        self.unqueue_all(&queued).ok_or(Errno::EAGAIN)
    }

    fn queue_one(&self, t: &CurrentTask, word: &WaitWord) -> Result<Arc<Waiter>> {
        let key = t.mm().futex_key(word.addr, word.private)?;
        let waiter = Arc::new(Waiter::new(t.task().clone(), key, u32::MAX));
        let mut bucket = self.mutex(&key)?.lock();
        if t.mm().load_u32(word.addr)? != word.value {
            return Err(Errno::EAGAIN);
        }
        bucket.push(waiter.clone());
        Ok(waiter)
    }

    /// Takes all waiters back; the position of the last one that had been woken.
    fn unqueue_all(&self, queued: &[Arc<Waiter>]) -> Option<usize> {
        let mut woken = None;
        for (i, waiter) in queued.iter().enumerate() {
            if !self.unqueue(waiter) {
                woken = Some(i);
            }
        }
        woken
    }
}
