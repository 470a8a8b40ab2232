//! Room for bytes on their way between guest and stack, used again: cleared once, not for every call.

use crate::sync::{Mutex, rank};
use std::ops::{Deref, DerefMut};

/// Most bytes that are copied at a time.
pub const CHUNK: usize = 64 << 10;
/// Less than this is not worth keeping.
const SMALL: usize = 4 << 10;
/// Buffers that are kept: as many as there are CPUs that copy at a time, more or less.
const SPARE: usize = 8;

static SPARES: Mutex<Vec<Vec<u8>>, { rank::LEAF }> = Mutex::new(Vec::new());

/// A buffer of up to [`CHUNK`] bytes with something in it.
pub struct Scratch {
    bytes: Vec<u8>,
    len: usize,
}

impl Scratch {
    /// One of `len` bytes, [`CHUNK`] at most.
    pub fn new(len: usize) -> Scratch {
        let len = len.min(CHUNK);
        let bytes = match len {
            0..SMALL => vec![0; len],
            _ => SPARES.lock().pop().unwrap_or_else(|| vec![0; CHUNK]),
        };
        Scratch { bytes, len }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.bytes.len() == CHUNK {
            let mut spares = SPARES.lock();
            if spares.len() < SPARE {
                spares.push(std::mem::take(&mut self.bytes));
            }
        }
    }
}

impl Deref for Scratch {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.len).unwrap_or_default()
    }
}
