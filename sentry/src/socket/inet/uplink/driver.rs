//! The thread that serves the links: it sleeps until a packet comes or a timer of the stack is due.
//!
//! Packets that come faster than they can be served fill the host's queues, in which those of connections would be lost
//! with the rest. So the host sorts them into several, and what belongs to nothing that is known is served up to a limit
//! ([`super::strangers`]): beyond it, only queues are looked at in which there has been something else lately. What a flood brings
//! stays in the others, where the host drops it.

use super::link::{BATCH, Batch, PacketLink};
use super::strangers::Strangers;
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
/// Batches taken from one queue before the others and the timers have their turn.
const BATCHES: usize = 4;
/// How long a queue in which there was something known is looked at whatever else comes to it, in nanoseconds.
const TRUST: u64 = 1_000_000_000;
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
        let mut links: Vec<_> = links.into_iter().map(Served::new).collect();
        let mut batch = Batch::new();
        loop {
            self.shared.sleeps_until.store(u64::MAX, Ordering::SeqCst);
            let next = stack.poll().map(Instant::nanos);
            self.sleep(&mut links, next);
            let now = time::Clock::Monotonic.now();
            for served in &mut links {
                served.serve(stack, now, &mut batch);
            }
            links.retain(|served| served.errors < MAX_ERRORS);
        }
    }

    /// Sleeps until a link has something, `next` has come or somebody wakes it.
    fn sleep(&self, links: &mut [Served], next: Option<u64>) {
        let now = time::Clock::Monotonic.now();
        let more = links.iter().filter_map(|served| served.strangers.later());
        let next = next.into_iter().chain(more).min().unwrap_or(u64::MAX);
        self.shared.sleeps_until.store(next, Ordering::SeqCst);
        let timeout = (next != u64::MAX).then(|| next.saturating_sub(now));
        let mut entries: Vec<(BorrowedFd<'_>, Events)> =
            vec![(self.shared.waker.as_fd(), libc::POLLIN)];
        let mut found: Vec<&mut Events> = Vec::new();
        for Served { link, strangers, queues, .. } in links {
            let mut out = if link.is_blocked() { libc::POLLOUT } else { 0 };
            let sorted = queues.len() > 1;
            for (number, (queue, socket)) in queues.iter_mut().zip(link.sockets()).enumerate() {
                let looked_at = match number {
                    0 if sorted => strangers.first(),
                    _ => strangers.flows() || now < queue.trusted_until,
                };
                let wanted = std::mem::take(&mut out) | if looked_at { libc::POLLIN } else { 0 };
                queue.events = 0;
                if wanted != 0 {
                    entries.push((socket, wanted));
                    found.push(&mut queue.events);
                }
            }
        }
        if poll(&mut entries, timeout).is_err() {
            return;
        }
        let mut events = entries.into_iter().map(|(_, events)| events);
        if events.next().is_some_and(|events| events != 0) {
            self.shared.waker.clear();
        }
        for (found, events) in found.into_iter().zip(events) {
            *found = events;
        }
    }
}

/// A socket of a link.
#[derive(Default)]
struct Queue {
    /// What it has.
    events: Events,
    /// Until when it is looked at in a flood.
    trusted_until: u64,
}

/// A link that is served.
struct Served {
    id: IfaceId,
    link: Arc<PacketLink>,
    /// Failures in a row.
    errors: u32,
    strangers: Strangers,
    queues: Vec<Queue>,
    /// Which of them comes first.
    turn: usize,
}

impl Served {
    fn new((id, link): (IfaceId, Arc<PacketLink>)) -> Served {
        let queues = link.sockets().map(|_| Queue::default()).collect();
        Served { id, link, errors: 0, strangers: Strangers::default(), queues, turn: 0 }
    }

    /// Does what the events of the last sleep ask for.
    fn serve(&mut self, stack: &Stack, now: u64, batch: &mut Batch) {
        let alone = self.queues.iter().all(|queue| now >= queue.trusted_until);
        self.strangers.renew(now, alone, stack, self.id);
        let first = self.queues.first().map_or(0, |queue| queue.events);
        if first & libc::POLLOUT != 0 && self.link.is_blocked() {
            self.link.unblock();
            stack.link_writable(self.id);
        }
        // Each queue of flows is the first in turn. What begins connections comes last: nothing overtakes the packets of one
        // before.
        let flows = self.queues.len().saturating_sub(1).max(1);
        self.turn = (self.turn + 1) % flows;
        let turn = self.turn;
        let order = (0..flows).map(|n| 1 + (turn + n) % flows).chain([0]);
        for number in order {
            if self.queues.get(number).is_some_and(|queue| queue.events & !libc::POLLOUT != 0) {
                self.receive(number, stack, now, batch);
            }
        }
    }

    /// Gives the stack what a socket has received.
    fn receive(&mut self, number: usize, stack: &Stack, now: u64, batch: &mut Batch) {
        // What may be no flow; a socket alone gets everything.
        let first = number == 0 && self.queues.len() > 1;
        let Some(queue) = self.queues.get_mut(number) else { return };
        let Some(socket) = self.link.sockets().nth(number) else { return };
        for _ in 0..BATCHES {
            match self.link.receive(socket, batch) {
                Ok((taken, mut frames)) => {
                    self.errors = 0;
                    let trusted = now < queue.trusted_until;
                    if first {
                        self.strangers.count(taken);
                    } else if self.strangers.sort(trusted, stack, &mut frames) {
                        queue.trusted_until = now + TRUST;
                    }
                    stack.input(self.id, &frames);
                    let more = match first {
                        true => self.strangers.first(),
                        false => self.strangers.flows() || now < queue.trusted_until,
                    };
                    if taken < BATCH || !more {
                        return;
                    }
                }
                Err(platform::host::Errno::EAGAIN | platform::host::Errno::EINTR) => return,
                Err(_) => {
                    self.errors += 1;
                    return;
                }
            }
        }
    }
}
