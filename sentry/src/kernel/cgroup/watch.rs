//! Timers that look at a group's usage as long as it has a limit.

use super::Cgroup;
use crate::kernel::Kernel;
use crate::sync::{Mutex, rank};
use crate::time::queue::{TimerQueue, TimerTarget};
use std::sync::{Arc, Weak};

/// Looks at a group; the result is when to look again (`CLOCK_MONOTONIC`), `None`: no more.
type Look = fn(&Arc<Cgroup>, &Kernel) -> Option<u64>;

/// A timer of one group. It keeps itself alive until there is nothing left to watch.
pub(super) struct Watch {
    group: Arc<Cgroup>,
    kernel: Weak<Kernel>,
    look: Look,
    myself: Mutex<Option<Arc<Watch>>, { rank::LEAF }>,
}

impl Watch {
    /// Calls `look` at `first`, and then whenever it says.
    pub(super) fn start(kernel: &Arc<Kernel>, first: u64, group: &Arc<Cgroup>, look: Look) {
        let watch = Arc::new(Watch {
            group: group.clone(),
            kernel: Arc::downgrade(kernel),
            look,
            myself: Mutex::new(None),
        });
        *watch.myself.lock() = Some(watch.clone());
        let target: Arc<dyn TimerTarget> = watch;
        kernel.timers.set(first, Arc::downgrade(&target), 0);
    }
}

impl TimerTarget for Watch {
    fn expired(&self, queue: &Arc<TimerQueue>, _cookie: u64) {
        let next = self.kernel.upgrade().and_then(|kernel| (self.look)(&self.group, &kernel));
        let me = match next {
            Some(_) => self.myself.lock().clone(),
            None => self.myself.lock().take(),
        };
        if let (Some(me), Some(at)) = (me, next) {
            let target: Arc<dyn TimerTarget> = me;
            queue.set(at, Arc::downgrade(&target), 0);
        }
    }
}
