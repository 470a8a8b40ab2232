//! Data that is held back because more is to follow (`MSG_MORE`, `TCP_CORK`; `tcp(7)`): less than a segment, for a fifth of a
//! second.

use super::connected::Connected;
use crate::errno::Result;
use crate::io::Source;
use crate::sync::{Mutex, rank};
use crate::time::{TimerQueue, TimerTarget};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is held back at most: a segment over the loopback interface.
const SEGMENT: usize = 65_483;
/// How long it is held back, nanoseconds.
pub(super) const CEILING: u64 = 200_000_000;

/// The data.
#[derive(Default)]
pub struct Held {
    data: Mutex<Vec<u8>, { rank::HELD_BACK }>,
    /// There is some.
    any: AtomicBool,
}

impl Held {
    /// True with data.
    pub fn any(&self) -> bool {
        self.any.load(Ordering::SeqCst)
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        if self.any() { self.data.lock().len() } else { 0 }
    }

    /// Takes all of `src`, if it fits. How many bytes that was, and whether they are the first.
    pub fn hold(&self, src: &mut dyn Source) -> Result<Option<(usize, bool)>> {
        let mut data = self.data.lock();
        let (before, more) = (data.len(), src.remaining());
        if before + more >= SEGMENT {
            return Ok(None);
        }
        let mut new = vec![0; more];
        let n = if more > 0 { src.take(&mut new)? } else { 0 };
        new.truncate(n);
        data.append(&mut new);
        self.any.store(!data.is_empty(), Ordering::SeqCst);
        Ok(Some((n, before == 0 && n > 0)))
    }

    /// Gives all of it to `pass`.
    pub fn release(&self, pass: impl FnOnce(Vec<u8>)) {
        if !self.any() {
            return;
        }
        let mut data = self.data.lock();
        let bytes = std::mem::take(&mut *data);
        self.any.store(false, Ordering::SeqCst);
        // With the lock: what is sent now must not overtake it.
        pass(bytes);
    }
}

impl TimerTarget for Connected {
    fn expired(&self, _queue: &Arc<TimerQueue>, _cookie: u64) {
        self.pass_on();
    }
}
