//! Processes that were started from outside the sandbox (`runsc exec`).
//!
//! As in a pid namespace of Linux they have no parent in here: their parent id is 0, nobody inside is told of
//! their end, and whoever started them learns how they ended from [`Outsiders::wait`].

use parking_lot::{Condvar, Mutex};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How many ends are remembered. Nobody starts as many processes from outside before those who started them have asked.
const REMEMBERED: usize = 4096;

#[derive(Default)]
struct Ends {
    /// Wait status by process id; `None` while it lives.
    status: FxHashMap<i32, Option<i32>>,
    /// Those that have ended, the oldest first.
    order: VecDeque<i32>,
}

/// How each of them ended.
#[derive(Default)]
pub struct Outsiders {
    ended: Mutex<Ends>,
    changed: Condvar,
}

impl Outsiders {
    /// Notes a new one.
    pub(super) fn register(&self, pid: i32) {
        let mut ended = self.ended.lock();
        ended.order.retain(|old| *old != pid);
        ended.status.insert(pid, None);
    }

    /// Notes its end.
    pub(super) fn finish(&self, pid: i32, status: i32) {
        let mut ended = self.ended.lock();
        if let Some(place) = ended.status.get_mut(&pid) {
            *place = Some(status);
            ended.order.push_back(pid);
        }
        while ended.order.len() > REMEMBERED
            && let Some(oldest) = ended.order.pop_front()
        {
            ended.status.remove(&oldest);
        }
        drop(ended);
        self.changed.notify_all();
    }

    /// Waits for the end of one; the result is its wait status (`wait(2)`). `None` if there is no such
    /// process, or its end is long ago. Several may wait for the same one, and after its end.
    pub fn wait(&self, pid: i32) -> Option<i32> {
        self.wait_for(pid, None)
    }

    /// As [`Outsiders::wait`], for a limited time; `None` when that is over, too.
    pub fn wait_for(&self, pid: i32, limit: Option<Duration>) -> Option<i32> {
        let end = limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut ended = self.ended.lock();
        loop {
            if let Some(status) = *ended.status.get(&pid)? {
                return Some(status);
            }
            match end {
                None => self.changed.wait(&mut ended),
                Some(end) if self.changed.wait_until(&mut ended, end).timed_out() => {
                    // It may have ended in the same moment.
                    (*ended.status.get(&pid)?)?;
                }
                Some(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Outsiders, REMEMBERED};
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn the_end_is_reported_to_all_who_ask() {
        let outsiders = Arc::new(Outsiders::default());
        outsiders.register(7);
        let waiting = outsiders.clone();
        let waiter = std::thread::spawn(move || waiting.wait(7));
        outsiders.finish(7, 0x100);
        assert_eq!(waiter.join().unwrap(), Some(0x100));
        assert_eq!(outsiders.wait(7), Some(0x100));
        outsiders.register(9);
        assert_eq!(outsiders.wait_for(9, Some(Duration::ZERO)), None);
        outsiders.finish(9, 0);
        assert_eq!(outsiders.wait_for(9, Some(Duration::ZERO)), Some(0));
        assert_eq!(outsiders.wait(8), None);
    }

    #[test]
    fn old_ends_are_forgotten() {
        let outsiders = Outsiders::default();
        for pid in 0..=REMEMBERED as i32 {
            outsiders.register(pid);
            outsiders.finish(pid, 0);
        }
        assert_eq!((outsiders.wait(0), outsiders.wait(1)), (None, Some(0)));
    }
}
