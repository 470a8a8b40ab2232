//! `select(2)` and `pselect(2)`.

use super::poll::{Watched, wait_for};
use super::wait::{Timeout, with_mask};
use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::wait::EventMask;

/// What makes a descriptor ready in the three sets: for reading, writing, exceptions.
const SETS: [EventMask; 3] = [
    EventMask::READABLE.union(EventMask::RDBAND).union(EventMask::HUP).union(EventMask::ERR),
    EventMask::WRITABLE.union(EventMask::WRBAND).union(EventMask::ERR),
    EventMask::PRI,
];

/// A bit for each descriptor.
struct FdSet {
    addr: UserAddr,
    words: Vec<u64>,
}

impl FdSet {
    fn read(t: &CurrentTask, addr: UserAddr, nfds: usize) -> Result<FdSet> {
        let mut words = vec![0u64; nfds.div_ceil(64)];
        if !addr.is_null() {
            use zerocopy::IntoBytes;
            t.mm().read(addr, words.as_mut_slice().as_mut_bytes())?;
            // Bits beyond the highest descriptor do not count.
            if let Some(last) = words.last_mut()
                && !nfds.is_multiple_of(64)
            {
                *last &= (1 << (nfds % 64)) - 1;
            }
        }
        Ok(FdSet { addr, words })
    }

    fn word(&self, i: usize) -> u64 {
        self.words.get(i).copied().unwrap_or(0)
    }

    fn write(&self, t: &CurrentTask, words: &[u64]) -> Result<()> {
        if self.addr.is_null() {
            return Ok(());
        }
        use zerocopy::IntoBytes;
        t.mm().write(self.addr, words.as_bytes())
    }
}

fn do_select(t: &mut CurrentTask, nfds: i32, sets: [UserAddr; 3], timeout: Timeout) -> SysResult {
    let nfds = usize::try_from(nfds).map_err(|_| Errno::EINVAL)?;
    let nfds = nfds.min(super::wait::table_size(t));
    let [a, b, c] = sets;
    let sets = [FdSet::read(t, a, nfds)?, FdSet::read(t, b, nfds)?, FdSet::read(t, c, nfds)?];
    let words = nfds.div_ceil(64);
    let mut files = Vec::new();
    let (mut fds, mut named) = (Vec::new(), Vec::new());
    for i in 0..words {
        let mut any = sets.iter().fold(0, |any, set| any | set.word(i));
        while any != 0 {
            let bit = any.trailing_zeros();
            any &= any - 1;
            let fd = i * 64 + bit as usize;
            let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
            let file = match t.file(fd) {
                // What can only be named is ready for all, as what poll(2) calls POLLNVAL is.
                Err(Errno::EBADF) if t.files().get_raw(fd).is_ok() => {
                    named.push((i, bit));
                    continue;
                }
                file => file?,
            };
            let wanted = sets.iter().zip(SETS).filter(|(set, _)| set.word(i) >> bit & 1 != 0);
            let events = wanted.fold(EventMask::empty(), |all, (_, events)| all | events);
            files.push(Watched { file, events });
            fds.push((i, bit));
        }
    }
    let mut results = [vec![0u64; words], vec![0u64; words], vec![0u64; words]];
    let n = wait_for(t, &files, timeout, || {
        let mut n = 0;
        for &(i, bit) in &named {
            for (set, result) in sets.iter().zip(&mut results) {
                if let (1, Some(word)) = (set.word(i) >> bit & 1, result.get_mut(i)) {
                    *word |= 1 << bit;
                    n += 1;
                }
            }
        }
        for (watched, &(i, bit)) in files.iter().zip(&fds) {
            let ready = watched.file.poll();
            for ((set, events), result) in sets.iter().zip(SETS).zip(&mut results) {
                if set.word(i) >> bit & 1 != 0
                    && ready.intersects(events)
                    && let Some(word) = result.get_mut(i)
                {
                    *word |= 1 << bit;
                    n += 1;
                }
            }
        }
        n
    })?;
    for (set, result) in sets.iter().zip(&results) {
        set.write(t, result)?;
    }
    Ok(n as u64)
}

/// `select(2)`.
pub fn select(
    t: &mut CurrentTask,
    nfds: i32,
    readfds: UserAddr,
    writefds: UserAddr,
    exceptfds: UserAddr,
    timeout: UserAddr,
) -> SysResult {
    let limit = if timeout.is_null() {
        Timeout::Never
    } else {
        let [sec, usec]: [i64; 2] = t.mm().read_obj(timeout)?;
        let (Ok(sec), Ok(usec)) = (u64::try_from(sec), u64::try_from(usec)) else {
            return Err(Errno::EINVAL);
        };
        let nanos = sec.saturating_mul(1_000_000_000).saturating_add(usec.saturating_mul(1000));
        Timeout::after(nanos)
    };
    let result = do_select(t, nfds, [readfds, writefds, exceptfds], limit);
    limit.write_left(t, timeout, true);
    result
}

/// `pselect6(2)`; `sigmask` points to the mask's address and size.
pub fn pselect6(
    t: &mut CurrentTask,
    nfds: i32,
    readfds: UserAddr,
    writefds: UserAddr,
    exceptfds: UserAddr,
    timeout: UserAddr,
    sigmask: UserAddr,
) -> SysResult {
    let (mask, size) = if sigmask.is_null() {
        (0, 0)
    } else {
        let [mask, size]: [u64; 2] = t.mm().read_obj(sigmask)?;
        (mask, size)
    };
    let limit = Timeout::read_timespec(t, timeout)?;
    let sets = [readfds, writefds, exceptfds];
    let result = with_mask(t, UserAddr(mask), size, |t| do_select(t, nfds, sets, limit));
    limit.write_left(t, timeout, false);
    result
}
