//! Storage of received frames, which a connection may keep instead of copying what is in it.

use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;

/// Buffers kept for use again: a large window's, whose reader takes all of it at once.
const SPARE: usize = 96;

/// Where buffers of one size come from and go back to.
#[derive(Debug)]
pub struct RxPool {
    size: usize,
    spare: Mutex<Vec<Box<[u8]>>>,
}

/// One buffer.
pub struct RxBuffer {
    bytes: Box<[u8]>,
    pool: Option<Arc<RxPool>>,
}

impl RxPool {
    /// One of buffers of `size` bytes.
    pub fn new(size: usize) -> Arc<Self> {
        Arc::new(Self { size, spare: Mutex::default() })
    }

    /// A buffer with something in it.
    pub fn take(self: &Arc<Self>) -> Arc<RxBuffer> {
        let spare = self.spare.lock().pop();
        let bytes = spare.unwrap_or_else(|| vec![0; self.size].into_boxed_slice());
        Arc::new(RxBuffer { bytes, pool: Some(self.clone()) })
    }
}

impl RxBuffer {
    /// One of its own.
    pub(crate) fn owned(bytes: Vec<u8>) -> Arc<Self> {
        Arc::new(Self { bytes: bytes.into_boxed_slice(), pool: None })
    }

    /// What is in it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl fmt::Debug for RxBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RxBuffer").field("size", &self.bytes.len()).finish()
    }
}

impl Drop for RxBuffer {
    fn drop(&mut self) {
        let Some(pool) = &self.pool else { return };
        let mut spare = pool.spare.lock();
        if spare.len() < SPARE {
            spare.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// Bytes in a buffer that is kept for them.
#[derive(Clone, Debug)]
pub struct Kept {
    buffer: Arc<RxBuffer>,
    start: usize,
    len: usize,
}

impl Kept {
    /// Keeps `part`, if it lies in `buffer`.
    pub(crate) fn new(buffer: &Arc<RxBuffer>, part: &[u8]) -> Option<Self> {
        let start = (part.as_ptr() as usize).checked_sub(buffer.bytes.as_ptr() as usize)?;
        buffer.bytes.get(start..start.checked_add(part.len())?)?;
        Some(Self { buffer: buffer.clone(), start, len: part.len() })
    }

    /// Bytes `start..start + len`, which the buffer has.
    pub(crate) fn part(buffer: &Arc<RxBuffer>, start: usize, len: usize) -> Self {
        Self { buffer: buffer.clone(), start, len }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.bytes.get(self.start..self.start + self.len).unwrap_or_default()
    }

    /// Some of them: `len` from `at` on, which there are.
    pub(crate) fn within(&self, at: usize, len: usize) -> Self {
        Self { buffer: self.buffer.clone(), start: self.start + at, len: len.min(self.len) }
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The memory that they hold.
    pub(crate) fn cost(&self) -> usize {
        self.buffer.bytes.len()
    }

    /// Without the first `n`.
    pub(crate) fn advance(&mut self, n: usize) {
        let n = n.min(self.len);
        self.start += n;
        self.len -= n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_used_again_once_nobody_has_them() {
        let pool = RxPool::new(100);
        let mut buffer = pool.take();
        Arc::get_mut(&mut buffer).unwrap().bytes_mut()[10..13].copy_from_slice(b"abc");
        let kept = Kept::new(&buffer, &buffer.bytes()[10..13]).unwrap();
        drop(buffer);
        assert_eq!((kept.bytes(), pool.spare.lock().len()), (&b"abc"[..], 0));
        drop(kept);
        assert_eq!(pool.spare.lock().len(), 1);
        drop(pool.take());
        assert_eq!(pool.spare.lock().len(), 1);
    }

    #[test]
    fn only_what_lies_in_the_buffer_is_kept() {
        let pool = RxPool::new(100);
        let (buffer, other) = (pool.take(), pool.take());
        assert!(Kept::new(&buffer, &other.bytes()[..8]).is_none());
        assert!(Kept::new(&buffer, &[1; 8]).is_none());
        let mut kept = Kept::new(&buffer, &buffer.bytes()[90..]).unwrap();
        kept.advance(4);
        assert_eq!((kept.bytes().len(), kept.cost()), (6, 100));
    }
}
