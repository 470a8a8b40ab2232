//! What takes time at the end of a guest process and nobody waits for: its stub's end, the release of its
//! memory. A thread does it that shares no CPU with the guest.
//!
//! Lock order: [`JOBS`], alone.
//!
//! Host calls: those of [`crate::host::thread`], `futex`.

use crate::host::Parker;
use crate::host::thread;
use crate::placement;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::OnceLock;

/// Jobs that may wait. Who brings more does it himself, so that ends keep up with beginnings.
const MOST_WAITING: usize = 16;

/// Stack of the thread, in bytes.
const STACK: usize = 256 << 10;

type Job = Box<dyn FnOnce() + Send>;

static JOBS: Mutex<VecDeque<Job>> = Mutex::new(VecDeque::new());

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
        if jobs.len() < MOST_WAITING {
            jobs.push_back(Box::new(job));
            drop(jobs);
            return wake.unpark();
        }
    }
    job();
}

fn run(wake: &Parker) {
    placement::run_anywhere();
    loop {
        let job = JOBS.lock().pop_front();
        match job {
            Some(job) => job(),
            None => wake.park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

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
