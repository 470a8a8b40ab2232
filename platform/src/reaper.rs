//! What takes time at the end of a guest process and nobody waits for: its stub's end, the release of its
//! memory. A thread does it that shares no CPU with the guest. It also does what is due some time later.
//!
//! Lock order: [`JOBS`], alone.
//!
//! Host calls: those of [`crate::host::thread`], `futex`.

use crate::host::Parker;
use crate::host::thread;
use crate::host::time::Clock;
use crate::placement;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::OnceLock;

/// Jobs that may wait. Who brings more does it himself, so that ends keep up with beginnings.
const MOST_WAITING: usize = 16;

/// Stack of the thread, in bytes.
const STACK: usize = 256 << 10;

type Job = Box<dyn FnOnce() + Send>;

/// What is to be done.
struct Jobs {
    /// As soon as possible, in this order.
    now: VecDeque<Job>,
    /// From a time of `CLOCK_MONOTONIC` on, in nanoseconds.
    timed: Vec<(u64, Job)>,
}

static JOBS: Mutex<Jobs> = Mutex::new(Jobs { now: VecDeque::new(), timed: Vec::new() });

/// Wakes the thread; `None` if it could not be started.
fn waker() -> Option<&'static Parker> {
    static WAKE: OnceLock<Option<Parker>> = OnceLock::new();
    static STARTED: OnceLock<bool> = OnceLock::new();
    let wake = WAKE.get_or_init(|| Some(Parker::new())).as_ref()?;
    let started = STARTED.get_or_init(|| thread::spawn("reaper", STACK, || run(wake)).is_ok());
    started.then_some(wake)
}

/// Runs `job` soon, or at once when too many wait.
pub fn later(job: impl FnOnce() + Send + 'static) {
    let Some(wake) = waker() else { return job() };
    {
        let mut jobs = JOBS.lock();
        if jobs.now.len() < MOST_WAITING {
            jobs.now.push_back(Box::new(job));
            drop(jobs);
            return wake.unpark();
        }
    }
    job();
}

/// Runs `job` in so many nanoseconds, or a little later. Never, if the host allows no thread for it.
pub fn after(nanoseconds: u64, job: impl FnOnce() + Send + 'static) {
    let Some(wake) = waker() else { return };
    let due = Clock::Monotonic.now().saturating_add(nanoseconds);
    JOBS.lock().timed.push((due, Box::new(job)));
    wake.unpark();
}

/// The next job, or when there is one.
fn next() -> Result<Job, u64> {
    let mut jobs = JOBS.lock();
    if let Some(job) = jobs.now.pop_front() {
        return Ok(job);
    }
    let first = jobs.timed.iter().enumerate().min_by_key(|(_, (due, _))| *due);
    match first.map(|(index, (due, _))| (index, *due)) {
        Some((index, due)) if due <= Clock::Monotonic.now() => Ok(jobs.timed.swap_remove(index).1),
        Some((_, due)) => Err(due),
        None => Err(u64::MAX),
    }
}

fn run(wake: &Parker) {
    placement::run_anywhere();
    loop {
        match next() {
            Ok(job) => job(),
            Err(due) => {
                wake.park_until(due);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_job_waits_for_its_time() {
        let (send, receive) = mpsc::channel();
        let start = Clock::Monotonic.now();
        for delay in [600_000_000, 200_000_000, 400_000_000] {
            let send = send.clone();
            after(delay, move || send.send((delay, Clock::Monotonic.now() - start)).unwrap());
        }
        drop(send);
        let done: Vec<(u64, u64)> = receive.iter().collect();
        assert_eq!(
            done.iter().map(|(delay, _)| delay / 200_000_000).collect::<Vec<_>>(),
            [1, 2, 3]
        );
        assert!(done.iter().all(|(delay, taken)| taken >= delay));
    }

    #[test]
    fn every_job_is_done_and_few_wait() {
        let (send, receive) = mpsc::channel();
        let (open, gate) = mpsc::channel::<()>();
        later(move || gate.recv().unwrap());
        for n in 0..3 * MOST_WAITING {
            let send = send.clone();
            later(move || send.send(n).unwrap());
        }
        // What found no room was done here.
        assert!(receive.try_iter().count() >= 2 * MOST_WAITING - 1);
        open.send(()).unwrap();
        drop(send);
        assert!(receive.iter().count() <= MOST_WAITING);
    }
}
