//! Host threads for guest threads. One whose guest thread has ended waits for the next: making a host
//! thread takes ten host calls, and shells and builds start processes all the time.
//!
//! Lock order: [`IDLE`], alone.
//!
//! Host calls: those of [`crate::host::thread`], `futex`.

use crate::host::thread::{self, TASK_STACK};
use crate::host::{Errno, Parker};
use crate::placement;
use parking_lot::Mutex;
use std::sync::Arc;

/// Most threads that wait. An idle sandbox does not need more, and each holds some pages.
const MOST_IDLE: usize = 8;

/// What a thread is to run.
type Job = Box<dyn FnOnce() + Send>;

/// A thread that waits for a job.
struct Worker {
    tid: i32,
    job: Mutex<Option<Job>>,
    wake: Parker,
}

static IDLE: Mutex<Vec<Arc<Worker>>> = Mutex::new(Vec::new());

/// Runs `job` on a thread of its own, which starts on the caller's CPU.
///
/// Fails with `EAGAIN` when the host allows no more threads or memory.
pub fn spawn(job: impl FnOnce() + Send + 'static) -> Result<(), Errno> {
    let idle = IDLE.lock().pop();
    match idle {
        Some(worker) => {
            placement::follow(worker.tid);
            *worker.job.lock() = Some(Box::new(job));
            worker.wake.unpark();
            Ok(())
        }
        // A new thread inherits the caller's CPU.
        None => thread::spawn("task", TASK_STACK, move || work(Box::new(job))).map(drop),
    }
}

/// A thread's life: one job after the other, until enough others wait.
fn work(mut job: Job) {
    let me =
        Arc::new(Worker { tid: thread::current_tid(), job: Mutex::new(None), wake: Parker::new() });
    loop {
        job();
        {
            let mut idle = IDLE.lock();
            if idle.len() >= MOST_IDLE {
                return;
            }
            idle.push(me.clone());
        }
        job = loop {
            me.wake.park();
            if let Some(job) = me.job.lock().take() {
                break job;
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::sync::mpsc;

    #[test]
    fn threads_are_used_again_and_run_side_by_side() {
        let (send, receive) = mpsc::channel();
        let run = |wait: Option<mpsc::Receiver<()>>| {
            let send = send.clone();
            spawn(move || {
                if let Some(wait) = wait {
                    wait.recv().unwrap();
                }
                send.send(thread::current_tid()).unwrap();
            })
            .unwrap();
        };
        let mut gates = Vec::new();
        for _ in 0..2 * MOST_IDLE {
            let (open, wait) = mpsc::channel();
            gates.push(open);
            run(Some(wait));
        }
        gates.iter().for_each(|gate| gate.send(()).unwrap());
        let first: BTreeSet<i32> = (0..2 * MOST_IDLE).map(|_| receive.recv().unwrap()).collect();
        assert_eq!(first.len(), 2 * MOST_IDLE);
        // One after the other: at least one of these finds a thread that waits.
        let later = (0..100).filter(|_| {
            run(None);
            first.contains(&receive.recv().unwrap())
        });
        assert!(later.count() > 0);
        assert!(IDLE.lock().len() <= MOST_IDLE);
    }
}
