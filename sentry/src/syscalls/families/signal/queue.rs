//! Taking signals without a handler (`sigtimedwait(2)`).

use super::read_set;
use crate::errno::{Errno, Result};
use crate::kernel::signal::{SigInfo, SigSet, send};
use crate::kernel::{CurrentTask, Wake};
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::time::Timespec;
use crate::wait::EventMask;

/// `rt_sigtimedwait(2)`
pub fn rt_sigtimedwait(
    t: &mut CurrentTask,
    set: UserAddr,
    info: UserAddr,
    timeout: UserAddr,
    size: u64,
) -> SysResult {
    let set = read_set(t, set, size)?.without(SigSet::UNBLOCKABLE);
    let deadline = if timeout.is_null() {
        None
    } else {
        let nanos = t.mm().read_obj::<Timespec>(timeout)?.to_nanos()?;
        Some(t.kernel().time.monotonic().saturating_add(nanos))
    };
    let taken = take(t, set, deadline)?;
    if !info.is_null() {
        t.mm().write(info, &taken.to_bytes())?;
    }
    Ok(taken.signal.number() as u64)
}

fn take(t: &mut CurrentTask, set: SigSet, deadline: Option<u64>) -> Result<SigInfo> {
    if let Some(info) = send::take_from_set(t.task(), set) {
        return Ok(info);
    }
    let group = t.group().clone();
    let key = group.signal_queue.add(EventMask::READABLE, t.waker());
    let result = loop {
        if let Some(info) = send::take_from_set(t.task(), set) {
            break Ok(info);
        }
        match t.block(deadline) {
            Wake::Event => {}
            Wake::Timeout => break Err(Errno::EAGAIN),
            // It may be one of ours that is not blocked.
            Wake::Interrupted => {
                break send::take_from_set(t.task(), set).ok_or(Errno::EINTR);
            }
        }
    };
    group.signal_queue.remove(key);
    result
}
