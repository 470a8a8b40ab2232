//! Ends stubs that do not do what they always do soon.
//!
//! A guest thread that has been interrupted, or whose registers the sentry wants, gets to its signal handler at once,
//! unless guest code has seen to it that it does not: it can block our signals with an `rt_sigreturn(2)` of its own, and
//! somebody on the host may stop the stub. The sentry's thread would wait for ever, and with it who wants to end the
//! process. So a thread of our own looks at such waits, and ends the stub of one that lasts too long.
//!
//! The time is counted in looks and not by the clock, so that one during which the whole sandbox was stopped does
//! not count. While nobody waits the thread sleeps.
//!
//! Lock order: [`WATCHED`], alone.
//!
//! Host calls: those of [`crate::host::thread`], `futex`.

use super::space::SystrapSpace;
use crate::host::Parker;
use crate::host::thread;
use crate::host::time::Clock;
use crate::stub::interrupt::InterruptState;
use crate::{Interrupter, placement};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use std::sync::{Arc, OnceLock, Weak};

/// Between two looks, in nanoseconds.
const INTERVAL: u64 = 1_000_000_000;
/// Looks that find the same wait before its stub is ended: a host that is short of CPUs is slow as well.
const PATIENCE: u32 = 15;
/// Stack of the thread, in bytes.
const STACK: usize = 128 << 10;

static WATCHED: Mutex<Vec<Weak<Watched>>> = Mutex::new(Vec::new());
/// The thread looks from time to time.
static AWAKE: AtomicBool = AtomicBool::new(false);

/// What is watched of a guest thread.
#[derive(Debug)]
pub struct Watched {
    interrupts: Arc<InterruptState>,
    space: Weak<SystrapSpace>,
    /// Odd while the sentry waits for the thread's report outside of its turn.
    waits: AtomicU32,
}

impl Watched {
    /// Watches a thread until the value is dropped.
    pub fn new(interrupts: Arc<InterruptState>, space: &Arc<SystrapSpace>) -> Arc<Self> {
        let space = Arc::downgrade(space);
        let watched = Arc::new(Self { interrupts, space, waits: AtomicU32::new(0) });
        let mut all = WATCHED.lock();
        if all.len() == all.capacity() {
            all.retain(|other| other.strong_count() > 0);
        }
        all.push(Arc::downgrade(&watched));
        watched
    }

    /// The sentry waits for the thread's report until the result is dropped.
    pub fn wait(&self) -> Wait<'_> {
        self.waits.fetch_add(1, Ordering::Relaxed);
        look();
        Wait(&self.waits)
    }

    /// Tells the present wait from earlier ones; `None` when nobody waits.
    fn waits(&self) -> Option<(u32, u32)> {
        let waits = self.waits.load(Ordering::Relaxed);
        let interrupted = self.interrupts.is_unheeded();
        (waits % 2 == 1 || interrupted).then(|| (waits, self.interrupts.turns()))
    }
}

impl Interrupter for Watched {
    fn interrupt(&self) {
        self.interrupts.interrupt();
        if self.interrupts.is_unheeded() {
            look();
        }
    }
}

/// See [`Watched::wait`].
#[derive(Debug)]
pub struct Wait<'a>(&'a AtomicU32);

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// To be called when somebody has begun to wait.
fn look() {
    // Either the thread sees the wait in its last look, or we see that it sleeps.
    fence(Ordering::SeqCst);
    if AWAKE.load(Ordering::Relaxed) || AWAKE.swap(true, Ordering::AcqRel) {
        return;
    }
    static WAKE: Parker = Parker::new();
    static STARTED: OnceLock<bool> = OnceLock::new();
    // Without it nothing is ended. A host that is so short of threads lets no guest start any.
    STARTED.get_or_init(|| thread::spawn("watchdog", STACK, || run(&WAKE)).is_ok());
    WAKE.unpark();
}

/// A thread about which somebody waits.
struct Suspect {
    watched: Weak<Watched>,
    /// See [`Watched::waits`].
    wait: (u32, u32),
    /// How often this wait has been seen before.
    looks: u32,
}

/// By the addresses of what is watched.
type Suspects = HashMap<*const Watched, Suspect>;

fn run(wake: &Parker) -> ! {
    placement::run_anywhere();
    let mut suspects = Suspects::new();
    loop {
        if suspects.is_empty() {
            AWAKE.store(false, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            suspects = find(&Suspects::new());
            if suspects.is_empty() {
                wake.park();
            }
            AWAKE.store(true, Ordering::Relaxed);
        }
        wake.park_until(Clock::Monotonic.now().saturating_add(INTERVAL));
        suspects = find(&suspects);
        for suspect in suspects.values() {
            if suspect.looks > PATIENCE
                && let Some(watched) = suspect.watched.upgrade()
                && let Some(space) = watched.space.upgrade()
            {
                space.kill();
            }
        }
    }
}

/// The waits there are, with the number of looks of those which were there before.
fn find(before: &Suspects) -> Suspects {
    let all = WATCHED.lock();
    let mut found = Suspects::new();
    for weak in all.iter() {
        let Some(watched) = weak.upgrade() else { continue };
        let Some(wait) = watched.waits() else { continue };
        let known = before.get(&weak.as_ptr()).filter(|known| known.wait == wait);
        let looks = known.map_or(0, |known| known.looks + 1);
        found.insert(weak.as_ptr(), Suspect { watched: weak.clone(), wait, looks });
    }
    found
}
