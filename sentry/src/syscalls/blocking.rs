//! How system calls wait: register, try, sleep, try again.

use crate::errno::{Errno, Result};
use crate::kernel::{CurrentTask, Wake};
use crate::vfs::File;
use crate::wait::EventMask;
use std::sync::Arc;

/// Runs `attempt` until it returns something other than `EAGAIN`. Between attempts the task sleeps
/// until `file` announces one of `events`.
///
/// With `nonblocking`, `EAGAIN` is returned at once. `deadline` is in nanoseconds of the host's
/// `CLOCK_MONOTONIC`; when it passes the result is `EAGAIN`, too. A signal gives `ERESTARTSYS`.
pub fn on_file<T>(
    t: &mut CurrentTask,
    file: &Arc<File>,
    events: EventMask,
    nonblocking: bool,
    deadline: Option<u64>,
    mut attempt: impl FnMut(&mut CurrentTask) -> Result<T>,
) -> Result<T> {
    match attempt(t) {
        Err(Errno::EAGAIN) if !nonblocking => {}
        other => return other,
    }
    let Some(queue) = file.ops().wait_queue() else { return Err(Errno::EAGAIN) };
    let key = queue.add(events, t.waker());
    let result = loop {
        match attempt(t) {
            Err(Errno::EAGAIN) => {}
            other => break other,
        }
        match t.block(deadline) {
            Wake::Event => {}
            Wake::Timeout => break Err(Errno::EAGAIN),
            Wake::Interrupted => break Err(Errno::ERESTARTSYS),
        }
    };
    queue.remove(key);
    result
}
