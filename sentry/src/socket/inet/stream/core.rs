//! What a stream socket and its peer both know of it: pending error, ends of the stream, and whom to
//! wake.

use crate::errno::Errno;
use crate::wait::{EventMask, WaitQueue};
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};

/// Nothing more will be received (`RCV_SHUTDOWN`).
pub const RCV: u8 = 1;
/// Nothing more can be sent (`SEND_SHUTDOWN`).
pub const SEND: u8 = 2;
/// The peer has said that it will send no more.
pub const DONE: u8 = 4;
/// The connection was reset or never came about (`TCP_CLOSE`).
pub const DEAD: u8 = 8;

/// What a socket that can send reports.
pub const WRITABLE: EventMask = EventMask::WRITABLE;

/// The shared part of a stream socket.
#[derive(Default)]
pub struct Core {
    /// Where changes of readiness are announced.
    pub queue: WaitQueue,
    error: AtomicI32,
    flags: AtomicU8,
}

impl Core {
    /// True if any of the flags is set.
    pub fn has(&self, flags: u8) -> bool {
        self.flags.load(Ordering::SeqCst) & flags != 0
    }

    /// All flags.
    pub fn flags(&self) -> u8 {
        self.flags.load(Ordering::SeqCst)
    }

    /// Sets flags and tells everyone who waits.
    pub fn set(&self, flags: u8) {
        self.flags.fetch_or(flags, Ordering::SeqCst);
        self.queue.notify(
            EventMask::READABLE | WRITABLE | EventMask::RDHUP | EventMask::HUP | EventMask::ERR,
        );
    }

    /// As fresh: after `connect(2)` failed or was taken back.
    pub fn clear(&self) {
        self.flags.store(0, Ordering::SeqCst);
    }

    /// True when both sides have said that they will send no more, or the connection was reset.
    pub fn is_over(&self) -> bool {
        let flags = self.flags();
        flags & DEAD != 0 || flags & (DONE | SEND) == DONE | SEND
    }

    /// The other side has reset the connection (RFC 9293, 3.10.7.4).
    pub fn reset(&self) {
        if self.is_over() {
            return;
        }
        let error = if self.has(DONE) { Errno::EPIPE } else { Errno::ECONNRESET };
        self.fail(error);
    }

    /// The connection has ended with an error.
    pub fn fail(&self, error: Errno) {
        self.error.store(error.raw(), Ordering::SeqCst);
        self.set(RCV | SEND | DEAD);
    }

    /// The pending error, which is cleared.
    pub fn take_error(&self) -> Option<Errno> {
        match self.error.swap(0, Ordering::SeqCst) {
            0 => None,
            n => Some(Errno::from_raw(n)),
        }
    }

    /// True with a pending error.
    pub fn has_error(&self) -> bool {
        self.error.load(Ordering::SeqCst) != 0
    }
}
