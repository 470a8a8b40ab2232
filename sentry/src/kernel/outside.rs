//! Processes that were started from outside the sandbox (`runsc exec`).
//!
//! As in a pid namespace of Linux they have no parent in here: their parent id is 0, nobody inside is told of
//! their end, and whoever started them learns how they ended from [`Outsiders::wait`].

use parking_lot::{Condvar, Mutex};
use rustc_hash::FxHashMap;

/// How each of them ended, until the one who waits has asked.
#[derive(Default)]
pub struct Outsiders {
    /// Wait status by process id; `None` while it lives.
    ended: Mutex<FxHashMap<i32, Option<i32>>>,
    changed: Condvar,
}

impl Outsiders {
    /// Notes a new one.
    pub(super) fn register(&self, pid: i32) {
        self.ended.lock().insert(pid, None);
    }

    /// Notes its end.
    pub(super) fn finish(&self, pid: i32, status: i32) {
        if let Some(place) = self.ended.lock().get_mut(&pid) {
            *place = Some(status);
        }
        self.changed.notify_all();
    }

    /// Waits for the end of one; the result is its wait status (`wait(2)`). `None` if there is no such
    /// process, or its end has been reported.
    pub fn wait(&self, pid: i32) -> Option<i32> {
        let mut ended = self.ended.lock();
        loop {
            if let Some(status) = *ended.get(&pid)? {
                ended.remove(&pid);
                // Others may wait for the same process.
                self.changed.notify_all();
                return Some(status);
            }
            self.changed.wait(&mut ended);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Outsiders;
    use std::sync::Arc;

    #[test]
    fn the_end_is_reported_once() {
        let outsiders = Arc::new(Outsiders::default());
        outsiders.register(7);
        let waiting = outsiders.clone();
        let waiter = std::thread::spawn(move || waiting.wait(7));
        outsiders.finish(7, 0x100);
        assert_eq!(waiter.join().unwrap(), Some(0x100));
        assert_eq!(outsiders.wait(7), None);
        assert_eq!(outsiders.wait(8), None);
    }
}
