//! The thread that serves stacks of interfaces that the guest has made: it takes in what has come over them, and does what
//! the stacks' timers say is due. There is one for all of them, started when the first is made.

use super::super::admin::Failure;
use super::super::uplink::driver::Entropy;
use super::veth::Veth;
use crate::errno::{Errno, Result};
use crate::socket::netlink::notify::Cause;
use netstack::{Clock, Config, Instant, Stack};
use parking_lot::{Condvar, Mutex};
use platform::host::{thread, time};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Stack of the thread, in bytes.
const STACK: usize = 512 << 10;
/// Frames taken in over one interface before the others have their turn.
const BATCH: usize = 64;
/// The thread is awake: it looks at the timers before it sleeps anyway.
const AWAKE: u64 = 0;

/// Something that frames come in over.
pub trait Input: Send + Sync {
    /// Takes in at most so many frames. True if there are more.
    fn take_in(&self, most: usize) -> bool;
}

/// What is to be done.
#[derive(Default)]
struct Work {
    running: bool,
    ready: VecDeque<Arc<dyn Input>>,
    bereaved: Vec<Arc<Veth>>,
    stacks: Vec<(Weak<Stack>, Arc<Timer>)>,
}

struct Ticker {
    work: Mutex<Work>,
    changed: Condvar,
    /// When the thread wakes by itself.
    sleeps_until: AtomicU64,
}

static TICKER: Ticker = Ticker {
    work: Mutex::new(Work {
        running: false,
        ready: VecDeque::new(),
        bereaved: Vec::new(),
        stacks: Vec::new(),
    }),
    changed: Condvar::new(),
    sleeps_until: AtomicU64::new(AWAKE),
};

/// When a stack's next timer is due, nanoseconds.
struct Timer {
    due: AtomicU64,
}

fn now() -> u64 {
    time::Clock::Monotonic.now()
}

impl Clock for Timer {
    fn now(&self) -> Instant {
        Instant::from_nanos(now())
    }

    fn wake_by(&self, deadline: Instant) {
        let deadline = deadline.nanos();
        self.due.fetch_min(deadline, Ordering::SeqCst);
        if deadline < TICKER.sleeps_until.load(Ordering::SeqCst) {
            // The thread is between looking at the timers and sleeping only with the lock.
            let _work = TICKER.work.lock();
            TICKER.changed.notify_one();
        }
    }
}

/// A stack that the thread serves. `EAGAIN` if the host has no thread for that.
pub fn make_stack(config: Config) -> Result<Arc<Stack>> {
    let timer = Arc::new(Timer { due: AtomicU64::new(u64::MAX) });
    let stack = Stack::new(config, timer.clone(), Arc::new(Entropy));
    let mut work = TICKER.work.lock();
    if !work.running {
        thread::spawn("links", STACK, run).map_err(|e| Errno::from_raw(e as i32))?;
        work.running = true;
    }
    work.stacks.push((Arc::downgrade(&stack), timer));
    Ok(stack)
}

/// Frames wait to be taken in.
pub fn ready(input: Arc<dyn Input>) {
    TICKER.work.lock().ready.push_back(input);
    TICKER.changed.notify_one();
}

/// The other end of an interface is gone: it is removed, soon.
pub fn bereaved(veth: Arc<Veth>) {
    TICKER.work.lock().bereaved.push(veth);
    TICKER.changed.notify_one();
}

fn remove(veth: &Veth) -> std::result::Result<(), Failure> {
    let Some(home) = veth.home() else { return Ok(()) };
    let Some(net) = home.net.upgrade() else { return Ok(()) };
    net.remove_link(home.index, Cause::default())?;
    Ok(())
}

fn run() {
    loop {
        let (ready, bereaved) = wait();
        for input in ready {
            if input.take_in(BATCH) {
                TICKER.work.lock().ready.push_back(input);
            }
        }
        for veth in bereaved {
            // If it is gone already, so much the better.
            let _ = remove(&veth);
        }
        let due = {
            let mut work = TICKER.work.lock();
            work.stacks.retain(|(stack, _)| stack.strong_count() > 0);
            let now = now();
            let due =
                work.stacks.iter().filter(|(_, timer)| timer.due.load(Ordering::SeqCst) <= now);
            due.cloned().collect::<Vec<_>>()
        };
        for (stack, timer) in due {
            let Some(stack) = stack.upgrade() else { continue };
            timer.due.store(u64::MAX, Ordering::SeqCst);
            if let Some(next) = stack.poll() {
                timer.due.fetch_min(next.nanos(), Ordering::SeqCst);
            }
        }
    }
}

/// Sleeps until there is something to do.
fn wait() -> (VecDeque<Arc<dyn Input>>, Vec<Arc<Veth>>) {
    let mut work = TICKER.work.lock();
    // From here on who sets a timer wakes the thread.
    TICKER.sleeps_until.store(u64::MAX, Ordering::SeqCst);
    loop {
        let dues = work.stacks.iter().map(|(_, timer)| timer.due.load(Ordering::SeqCst));
        let next = dues.min().unwrap_or(u64::MAX);
        let now = now();
        if next <= now || !work.ready.is_empty() || !work.bereaved.is_empty() {
            TICKER.sleeps_until.store(AWAKE, Ordering::SeqCst);
            return (std::mem::take(&mut work.ready), std::mem::take(&mut work.bereaved));
        }
        TICKER.sleeps_until.store(next, Ordering::SeqCst);
        match next {
            u64::MAX => TICKER.changed.wait(&mut work),
            next => {
                TICKER.changed.wait_for(&mut work, Duration::from_nanos(next - now));
            }
        }
        TICKER.sleeps_until.store(u64::MAX, Ordering::SeqCst);
    }
}
