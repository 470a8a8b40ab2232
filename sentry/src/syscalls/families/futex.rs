//! User-space locks (`futex(2)`).

use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::kernel::futex::ops::WakeOp;
use crate::kernel::futex::waitv::WaitWord;
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::time::restart::RestartBlock;
use crate::time::{ClockId, Timespec};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const FUTEX_WAIT: u32 = 0;
const FUTEX_WAKE: u32 = 1;
const FUTEX_REQUEUE: u32 = 3;
const FUTEX_CMP_REQUEUE: u32 = 4;
const FUTEX_WAKE_OP: u32 = 5;
const FUTEX_LOCK_PI: u32 = 6;
const FUTEX_UNLOCK_PI: u32 = 7;
const FUTEX_TRYLOCK_PI: u32 = 8;
const FUTEX_WAIT_BITSET: u32 = 9;
const FUTEX_WAKE_BITSET: u32 = 10;
const FUTEX_WAIT_REQUEUE_PI: u32 = 11;
const FUTEX_CMP_REQUEUE_PI: u32 = 12;
const FUTEX_LOCK_PI2: u32 = 13;
const FUTEX_PRIVATE_FLAG: u32 = 128;
const FUTEX_CLOCK_REALTIME: u32 = 256;
/// Waits for any wake-up.
const MATCH_ANY: u32 = u32::MAX;

/// The `CLOCK_MONOTONIC` deadline of a timeout in memory, which is a time on `clock` or a length.
fn deadline(
    t: &CurrentTask,
    timeout: UserAddr,
    clock: ClockId,
    relative: bool,
) -> Result<Option<u64>> {
    if timeout.is_null() {
        return Ok(None);
    }
    let nanos = t.mm().read_obj::<Timespec>(timeout)?.to_nanos()?;
    let time = &t.kernel().time;
    Ok(Some(if relative {
        time.monotonic().saturating_add(nanos)
    } else {
        time.monotonic_deadline(clock, t.namespaces().time.host(clock, nanos))?
    }))
}

/// `futex(2)`
pub fn futex(
    t: &mut CurrentTask,
    uaddr: UserAddr,
    op: u32,
    val: u32,
    timeout: u64,
    uaddr2: UserAddr,
    val3: u32,
) -> SysResult {
    let private = op & FUTEX_PRIVATE_FLAG != 0;
    let realtime = op & FUTEX_CLOCK_REALTIME != 0;
    let command = op & !(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
    let may_choose = matches!(command, FUTEX_WAIT_BITSET | FUTEX_WAIT_REQUEUE_PI | FUTEX_LOCK_PI2);
    if realtime && !may_choose {
        return Err(Errno::ENOSYS);
    }
    let clock = if realtime { ClockId::Realtime } else { ClockId::Monotonic };
    let at = UserAddr(timeout);
    // In calls without a timeout the argument is a second count.
    let val2 = timeout as u32;
    let kernel = t.kernel().clone();
    let futexes = &kernel.futexes;
    match command {
        FUTEX_WAIT => {
            let deadline = deadline(t, at, clock, true)?;
            wait(t, uaddr, private, val, MATCH_ANY, deadline)
        }
        FUTEX_WAIT_BITSET => {
            if val3 == 0 {
                return Err(Errno::EINVAL);
            }
            let deadline = deadline(t, at, clock, false)?;
            wait(t, uaddr, private, val, val3, deadline)
        }
        FUTEX_WAKE => futexes.wake(t.mm(), uaddr, private, at_least_one(val), MATCH_ANY),
        FUTEX_WAKE_BITSET => {
            if val3 == 0 {
                return Err(Errno::EINVAL);
            }
            futexes.wake(t.mm(), uaddr, private, at_least_one(val), val3)
        }
        FUTEX_REQUEUE | FUTEX_CMP_REQUEUE => {
            if (val as i32) < 0 || (val2 as i32) < 0 {
                return Err(Errno::EINVAL);
            }
            let compare = (command == FUTEX_CMP_REQUEUE).then_some(val3);
            let (from, to) = ((uaddr, private), (uaddr2, private));
            let (woken, moved) = futexes.requeue(t.mm(), from, to, val, val2, compare)?;
            Ok(woken + moved)
        }
        FUTEX_WAKE_OP => {
            let op = WakeOp::decode(val3)?;
            futexes.wake_op(t.mm(), uaddr, uaddr2, private, (at_least_one(val), val2), op)
        }
        FUTEX_LOCK_PI | FUTEX_LOCK_PI2 => {
            let clock = if command == FUTEX_LOCK_PI { ClockId::Realtime } else { clock };
            let deadline = deadline(t, at, clock, false)?;
            futexes.lock_pi(t, uaddr, private, deadline, false).map(|()| 0)
        }
        FUTEX_TRYLOCK_PI => futexes.lock_pi(t, uaddr, private, None, true).map(|()| 0),
        FUTEX_UNLOCK_PI => futexes.unlock_pi(t, uaddr, private).map(|()| 0),
        FUTEX_WAIT_REQUEUE_PI => {
            let deadline = deadline(t, at, clock, false)?;
            futexes.wait_requeue_pi(t, uaddr, uaddr2, private, val, deadline).map(|()| 0)
        }
        FUTEX_CMP_REQUEUE_PI => {
            if val != 1 {
                return Err(Errno::EINVAL);
            }
            futexes.requeue_pi(t, uaddr, uaddr2, private, val2, val3)
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// Linux wakes one waiter when asked for none.
fn at_least_one(count: u32) -> u32 {
    if (count as i32) < 1 { 1 } else { count }
}

fn wait(
    t: &mut CurrentTask,
    addr: UserAddr,
    private: bool,
    value: u32,
    bitset: u32,
    deadline: Option<u64>,
) -> SysResult {
    match deadline {
        Some(deadline) => wait_until(t, addr, private, value, bitset, deadline),
        None => {
            let kernel = t.kernel().clone();
            kernel.futexes.wait(t, addr, private, value, bitset, None).map(|()| 0)
        }
    }
}

/// A wait with a deadline: after a signal without a handler it goes on to the same deadline.
pub fn wait_until(
    t: &mut CurrentTask,
    addr: UserAddr,
    private: bool,
    value: u32,
    bitset: u32,
    deadline: u64,
) -> SysResult {
    let kernel = t.kernel().clone();
    match kernel.futexes.wait(t, addr, private, value, bitset, Some(deadline)) {
        Err(Errno::ERESTARTSYS) => {
            t.restart = Some(RestartBlock::Futex { addr, value, bitset, private, deadline });
            Err(Errno::ERESTART_RESTARTBLOCK)
        }
        other => other.map(|()| 0),
    }
}

const FUTEX2_SIZE_MASK: u32 = 3;
const FUTEX2_SIZE_U32: u32 = 2;
const FUTEX2_PRIVATE: u32 = 128;

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct FutexWaitv {
    value: u64,
    addr: u64,
    flags: u32,
    reserved: u32,
}

/// Most words of one `futex_waitv(2)`.
const FUTEX_WAITV_MAX: u32 = 128;

/// Checks the flags of the newer calls: 32-bit words only, as in Linux. True if private.
fn futex2_flags(flags: u32) -> Result<bool> {
    let known = FUTEX2_SIZE_MASK | FUTEX2_PRIVATE;
    if flags & !known != 0 || flags & FUTEX2_SIZE_MASK != FUTEX2_SIZE_U32 {
        return Err(Errno::EINVAL);
    }
    Ok(flags & FUTEX2_PRIVATE != 0)
}

fn clock_of(id: i32) -> Result<ClockId> {
    match id {
        0 => Ok(ClockId::Realtime),
        1 => Ok(ClockId::Monotonic),
        _ => Err(Errno::EINVAL),
    }
}

/// A value that must fit in a word.
fn word(value: u64) -> Result<u32> {
    u32::try_from(value).map_err(|_| Errno::EINVAL)
}

fn read_words(t: &CurrentTask, at: UserAddr, count: u32) -> Result<Vec<(WaitWord, u32)>> {
    let mut words = Vec::with_capacity(count as usize);
    for i in 0..u64::from(count) {
        let raw: FutexWaitv = t.mm().read_obj(at.offset(i * size_of::<FutexWaitv>() as u64))?;
        if raw.reserved != 0 {
            return Err(Errno::EINVAL);
        }
        let private = futex2_flags(raw.flags)?;
        let value = word(raw.value)?;
        words.push((WaitWord { addr: UserAddr(raw.addr), value, private }, raw.flags));
    }
    Ok(words)
}

/// `futex_waitv(2)`
pub fn futex_waitv(
    t: &mut CurrentTask,
    waiters: UserAddr,
    count: u32,
    flags: u32,
    timeout: UserAddr,
    clockid: i32,
) -> SysResult {
    if flags != 0 || count == 0 || count > FUTEX_WAITV_MAX || waiters.is_null() {
        return Err(Errno::EINVAL);
    }
    let deadline = match timeout.is_null() {
        true => None,
        false => deadline(t, timeout, clock_of(clockid)?, false)?,
    };
    let words: Vec<WaitWord> =
        read_words(t, waiters, count)?.into_iter().map(|(word, _)| word).collect();
    let kernel = t.kernel().clone();
    kernel.futexes.wait_any(t, &words, deadline).map(|i| i as u64)
}

/// `futex_wake(2)`
pub fn futex_wake(
    t: &mut CurrentTask,
    addr: UserAddr,
    mask: u64,
    count: i32,
    flags: u32,
) -> SysResult {
    let private = futex2_flags(flags)?;
    let mask = word(mask)?;
    if mask == 0 {
        return Err(Errno::EINVAL);
    }
    t.kernel().futexes.wake(t.mm(), addr, private, u32::try_from(count).unwrap_or(0), mask)
}

/// `futex_wait(2)`
pub fn futex_wait(
    t: &mut CurrentTask,
    addr: UserAddr,
    value: u64,
    mask: u64,
    flags: u32,
    timeout: UserAddr,
    clockid: i32,
) -> SysResult {
    let private = futex2_flags(flags)?;
    let (value, mask) = (word(value)?, word(mask)?);
    if mask == 0 {
        return Err(Errno::EINVAL);
    }
    let deadline = match timeout.is_null() {
        true => None,
        false => deadline(t, timeout, clock_of(clockid)?, false)?,
    };
    wait(t, addr, private, value, mask, deadline)
}

/// `futex_requeue(2)`
pub fn futex_requeue(
    t: &mut CurrentTask,
    waiters: UserAddr,
    flags: u32,
    wake: i32,
    requeue: i32,
) -> SysResult {
    if flags != 0 || waiters.is_null() {
        return Err(Errno::EINVAL);
    }
    let words = read_words(t, waiters, 2)?;
    let [(from, _), (to, _)] = words.as_slice() else { return Err(Errno::EINVAL) };
    let count = |n: i32| u32::try_from(n).map_err(|_| Errno::EINVAL);
    let (woken, moved) = t.kernel().futexes.requeue(
        t.mm(),
        (from.addr, from.private),
        (to.addr, to.private),
        count(wake)?,
        count(requeue)?,
        Some(from.value),
    )?;
    Ok(woken + moved)
}
