//! The thread that serves the links: it sleeps until a packet comes or a timer of the stack is due.

use super::link::{Buffer, PacketLink};
use crate::errno::{Errno, Result};
use netstack::{Clock, IfaceId, Instant, RandomSource, Stack};
use platform::host::poll::{Events, Waker, poll};
use platform::host::{random, thread, time};
use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Stack of the thread, in bytes.
const STACK: usize = 512 << 10;
/// Packets taken from one link before the others and the timers have their turn.
const BATCH: usize = 64;
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
        let mut links: Vec<_> = links.into_iter().map(|(id, link)| (id, link, 0)).collect();
        let mut buffer = Buffer::new();
        loop {
            self.shared.sleeps_until.store(u64::MAX, Ordering::SeqCst);
            let next = stack.poll().map(Instant::nanos);
            let ready = self.sleep(&links, next);
            for ((id, link, errors), events) in links.iter_mut().zip(ready) {
                if events & libc::POLLOUT != 0 && link.is_blocked() {
                    link.unblock();
                    stack.link_writable(*id);
                }
                if events & !libc::POLLOUT != 0 {
                    receive(stack, *id, link, &mut buffer, errors);
                }
            }
            links.retain(|(_, _, errors)| *errors < MAX_ERRORS);
        }
    }

    /// Sleeps until a link has something, `next` has come or somebody wakes it. The links' events.
    fn sleep(&self, links: &[(IfaceId, Arc<PacketLink>, u32)], next: Option<u64>) -> Vec<Events> {
        let next = next.unwrap_or(u64::MAX);
        self.shared.sleeps_until.store(next, Ordering::SeqCst);
        let timeout = match next {
            u64::MAX => None,
            next => Some(next.saturating_sub(time::Clock::Monotonic.now())),
        };
        let mut entries: Vec<(BorrowedFd<'_>, Events)> =
            vec![(self.shared.waker.as_fd(), libc::POLLIN)];
        entries.extend(links.iter().map(|(_, link, _)| {
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

/// Gives the stack what a link has received. `errors` counts failures in a row.
fn receive(stack: &Stack, id: IfaceId, link: &PacketLink, buffer: &mut Buffer, errors: &mut u32) {
    for _ in 0..BATCH {
        match link.receive(buffer) {
            Ok(frame) => {
                *errors = 0;
                stack.input(id, frame.as_slice());
            }
            Err(platform::host::Errno::EAGAIN | platform::host::Errno::EINTR) => return,
            Err(_) => {
                *errors += 1;
                return;
            }
        }
    }
}
