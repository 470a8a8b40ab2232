//! `eventfd(2)`: a counter that can be waited for.

use super::anon;
use crate::errno::{Errno, Result};
use crate::io::{Sink, Source};
use crate::sync::{Mutex, rank};
use crate::vfs::{Attr, File, FileOps, OpenFlags};
use crate::wait::{EventMask, WaitQueue};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// An event counter.
pub struct EventFd {
    count: Mutex<u64, { rank::INODE }>,
    semaphore: bool,
    id: u64,
    queue: WaitQueue,
}

impl EventFd {
    /// An open event counter. `semaphore`: each read takes 1 (`EFD_SEMAPHORE`).
    pub fn open(initial: u32, semaphore: bool, nonblock: bool) -> Arc<File> {
        let ops = Arc::new(EventFd {
            count: Mutex::new(u64::from(initial)),
            semaphore,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            queue: WaitQueue::new(),
        });
        let mut flags = OpenFlags::RDWR;
        flags.set(OpenFlags::NONBLOCK, nonblock);
        File::new(ops, None, flags)
    }

    /// Adds to the counter as far as it goes, without ever blocking (completions of other
    /// operations are announced this way).
    pub fn signal(&self, n: u64) {
        {
            let mut count = self.count.lock();
            *count = count.saturating_add(n);
        }
        self.queue.notify(EventMask::READABLE);
    }
}

impl FileOps for EventFd {
    fn read(&self, _file: &File, dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        if dst.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let value = {
            let mut count = self.count.lock();
            if *count == 0 {
                return Err(Errno::EAGAIN);
            }
            let value = if self.semaphore { 1 } else { *count };
            *count -= value;
            value
        };
        self.queue.notify(EventMask::WRITABLE);
        dst.put(&value.to_ne_bytes())
    }

    fn write(&self, _file: &File, src: &mut dyn Source, _offset: u64) -> Result<usize> {
        if src.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let mut bytes = [0; 8];
        if src.take(&mut bytes)? < 8 {
            return Err(Errno::EFAULT);
        }
        let add = u64::from_ne_bytes(bytes);
        let result = {
            let mut count = self.count.lock();
            match count.checked_add(add) {
                _ if add == u64::MAX => Err(Errno::EINVAL),
                Some(sum) if sum < u64::MAX => {
                    *count = sum;
                    Ok(8)
                }
                _ => Err(Errno::EAGAIN),
            }
        };
        match result {
            Ok(_) => self.queue.notify(EventMask::READABLE),
            Err(_) => src.rewind(8),
        }
        result
    }

    fn poll(&self, _file: &File) -> EventMask {
        let count = *self.count.lock();
        let mut events = EventMask::empty();
        // As Linux: no `RDNORM`, no `WRNORM`.
        if count > 0 {
            events |= EventMask::IN;
        }
        if count == u64::MAX {
            events |= EventMask::ERR;
        }
        if count < u64::MAX - 1 {
            events |= EventMask::OUT;
        }
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn attr(&self) -> Option<Result<Attr>> {
        Some(Ok(anon::attr()))
    }

    fn link_text(&self) -> Option<String> {
        Some("anon_inode:[eventfd]".into())
    }

    fn fdinfo(&self) -> String {
        let count = *self.count.lock();
        format!(
            "eventfd-count: {count:16x}\neventfd-id: {}\neventfd-semaphore: {}\n",
            self.id,
            u8::from(self.semaphore)
        )
    }

    fn ignores_position(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{BufSink, BufSource};

    fn write(f: &File, n: u64) -> Result<usize> {
        f.ops().write(f, &mut BufSource::new(&n.to_ne_bytes()), 0)
    }

    fn read(f: &File) -> Result<u64> {
        let mut buf = [0; 8];
        f.ops().read(f, &mut BufSink::new(&mut buf), 0).map(|_| u64::from_ne_bytes(buf))
    }

    #[test]
    fn counts() {
        let f = EventFd::open(3, false, true);
        assert_eq!(read(&f), Ok(3));
        assert_eq!(read(&f), Err(Errno::EAGAIN));
        assert_eq!(write(&f, u64::MAX), Err(Errno::EINVAL));
        assert_eq!(write(&f, u64::MAX - 1), Ok(8));
        assert_eq!(write(&f, 1), Err(Errno::EAGAIN));
        assert_eq!(f.poll(), EventMask::IN);
        assert_eq!(read(&f), Ok(u64::MAX - 1));
        assert_eq!(f.ops().write(&f, &mut BufSource::new(&[0; 7]), 0), Err(Errno::EINVAL));
        let f = EventFd::open(2, true, true);
        assert_eq!((read(&f), read(&f), read(&f)), (Ok(1), Ok(1), Err(Errno::EAGAIN)));
    }
}
