//! The thread that serves the links: it sleeps until a packet comes or a timer of the stack is due.
//!
//! Packets that come faster than they can be served fill the host's queue, in which those of connections would be lost
//! with the rest. So, as long as there are more, only what belongs to something known is served at once; most of what a
//! flood brings costs no more than its receipt.

use super::link::{BATCH, Batch, PacketLink};
use crate::errno::{Errno, Result};
use netstack::{Clock, IfaceId, Instant, RandomSource, RxFrame, Stack};
use platform::host::poll::{Events, Waker, poll};
use platform::host::{random, thread, time};
use std::cell::Cell;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Stack of the thread, in bytes.
const STACK: usize = 512 << 10;
/// Batches taken from one link before the others and the timers have their turn.
const BATCHES: usize = 4;
/// While batches are full: strangers' frames that are served for each of them, those that wait for it, and the longest.
const SHARE: usize = 4;
const MAX_STRANGERS: usize = 1024;
const MAX_STRANGER: usize = 2048;
/// Errors in a row after which a link is given up: its interface is gone.
const MAX_ERRORS: u32 = 64;

thread_local! {
    /// This is the driver's thread, which looks at timers and links before it sleeps anyway.
    static AWAKE: Cell<bool> = const { Cell::new(false) };
}

/// The links of one stack and the thread for them.
pub struct Driver {
    shared: Arc<Shared>,
}

/// The stack's clock, and what wakes the thread.
struct Shared {
    waker: Waker,
    /// When the thread wakes by itself, in nanoseconds; never while it is awake.
    sleeps_until: AtomicU64,
}

/// Unpredictable numbers of the host.
pub struct Entropy;

impl RandomSource for Entropy {
    fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        // getrandom(2) for a few bytes does not fail once the host has booted.
        let _ = random::fill(&mut bytes);
        u64::from_ne_bytes(bytes)
    }
}

impl Clock for Shared {
    fn now(&self) -> Instant {
        Instant::from_nanos(time::Clock::Monotonic.now())
    }

    fn wake_by(&self, deadline: Instant) {
        let awake = AWAKE.with(Cell::get);
        if !awake && deadline.nanos() < self.sleeps_until.load(Ordering::SeqCst) {
            self.waker.wake();
        }
    }
}

impl Driver {
    /// One without a thread yet.
    pub fn new() -> Result<Driver> {
        let waker = Waker::new().map_err(|e| Errno::from_raw(e as i32))?;
        let sleeps_until = AtomicU64::new(u64::MAX);
        Ok(Driver { shared: Arc::new(Shared { waker, sleeps_until }) })
    }

    /// The clock of the stack that it is for.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.shared.clone()
    }

    /// What a link calls when the host takes no more frames: the thread waits for room.
    pub fn waker(&self) -> impl Fn() + Send + Sync + 'static {
        let shared = self.shared.clone();
        move || shared.waker.wake()
    }

    /// Starts the thread.
    pub fn start(self, stack: Arc<Stack>, links: Vec<(IfaceId, Arc<PacketLink>)>) -> Result<()> {
        thread::spawn("net", STACK, move || self.run(&stack, links))
            .map(drop)
            .map_err(|e| Errno::from_raw(e as i32))
    }

    fn run(&self, stack: &Stack, links: Vec<(IfaceId, Arc<PacketLink>)>) {
        AWAKE.with(|awake| awake.set(true));
        let served = |(id, link)| Served { id, link, errors: 0, strangers: Strangers::default() };
        let mut links: Vec<_> = links.into_iter().map(served).collect();
        let mut batch = Batch::new();
        loop {
            self.shared.sleeps_until.store(u64::MAX, Ordering::SeqCst);
            let next = stack.poll().map(Instant::nanos);
            let ready = self.sleep(&links, next);
            for (served, events) in links.iter_mut().zip(ready) {
                if events & libc::POLLOUT != 0 && served.link.is_blocked() {
                    served.link.unblock();
                    stack.link_writable(served.id);
                }
                // Those who were put off are due at once, whatever else happens.
                if events & !libc::POLLOUT != 0 || !served.strangers.frames.is_empty() {
                    served.receive(stack, &mut batch);
                }
            }
            links.retain(|served| served.errors < MAX_ERRORS);
        }
    }

    /// Sleeps until a link has something, `next` has come or somebody wakes it. The links' events.
    fn sleep(&self, links: &[Served], next: Option<u64>) -> Vec<Events> {
        let waiting = links.iter().any(|served| !served.strangers.frames.is_empty());
        let next = if waiting { 0 } else { next.unwrap_or(u64::MAX) };
        self.shared.sleeps_until.store(next, Ordering::SeqCst);
        let timeout = match next {
            u64::MAX => None,
            next => Some(next.saturating_sub(time::Clock::Monotonic.now())),
        };
        let mut entries: Vec<(BorrowedFd<'_>, Events)> =
            vec![(self.shared.waker.as_fd(), libc::POLLIN)];
        entries.extend(links.iter().map(|Served { link, .. }| {
            let out = if link.is_blocked() { libc::POLLOUT } else { 0 };
            (link.socket(), libc::POLLIN | out)
        }));
        if poll(&mut entries, timeout).is_err() {
            return Vec::new();
        }
        let mut events = entries.into_iter().map(|(_, events)| events);
        if events.next().is_some_and(|events| events != 0) {
            self.shared.waker.clear();
        }
        events.collect()
    }
}

/// What came faster than it could be served, and belongs to nothing that is known: it waits while what does is served.
#[derive(Default)]
struct Strangers {
    frames: VecDeque<(Vec<u8>, bool)>,
}

impl Strangers {
    /// Keeps a frame; without room it is lost.
    fn keep(&mut self, frame: &RxFrame<'_>) {
        if self.frames.len() < MAX_STRANGERS && frame.data.len() <= MAX_STRANGER {
            self.frames.push_back((frame.data.to_vec(), frame.checksum_valid));
        }
    }

    /// Gives the stack the oldest ones, `most` at most.
    fn give(&mut self, stack: &Stack, id: IfaceId, most: usize) {
        if self.frames.is_empty() {
            return;
        }
        let frames: Vec<_> = self.frames.drain(..most.min(self.frames.len())).collect();
        let frames = frames.iter().map(|(data, checksum_valid)| RxFrame {
            checksum_valid: *checksum_valid,
            ..RxFrame::new(data)
        });
        stack.input(id, &frames.collect::<Vec<_>>());
    }
}

/// A link that is served.
struct Served {
    id: IfaceId,
    link: Arc<PacketLink>,
    /// Failures in a row.
    errors: u32,
    strangers: Strangers,
}

impl Served {
    /// Gives the stack what the link has received.
    fn receive(&mut self, stack: &Stack, batch: &mut Batch) {
        for _ in 0..BATCHES {
            match self.link.receive(batch) {
                Ok((taken, frames)) if taken < BATCH => {
                    self.errors = 0;
                    self.strangers.give(stack, self.id, usize::MAX);
                    return stack.input(self.id, &frames);
                }
                Ok((_, mut frames)) => {
                    self.errors = 0;
                    frames.retain(|frame| {
                        let known = stack.expects(frame);
                        if !known {
                            self.strangers.keep(frame);
                        }
                        known
                    });
                    stack.input(self.id, &frames);
                    self.strangers.give(stack, self.id, SHARE);
                }
                Err(platform::host::Errno::EAGAIN) => {
                    return self.strangers.give(stack, self.id, usize::MAX);
                }
                Err(platform::host::Errno::EINTR) => return,
                Err(_) => {
                    self.errors += 1;
                    return;
                }
            }
        }
    }
}
