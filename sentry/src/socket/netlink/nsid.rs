//! `RTM_GETNSID`: the numbers by which a network names others. One that holds the other end of a pair of interfaces gets
//! one when somebody asks about the pair.

use super::message::{Answer, Request, attribute, u32_at};
use crate::errno::{Errno, Result};
use crate::fs::nsfs;
use crate::kernel::Task;
use crate::kernel::namespace::Namespace;
use crate::socket::inet::Net;
use crate::sync::{Mutex, rank};
use std::sync::{Arc, Weak};

const NEWNSID: u16 = 88;
/// Size of `struct rtgenmsg`, padded.
const RTGENMSG: usize = 4;
/// `NETNSA_*`
const NSID: u16 = 1;
const PID: u16 = 2;
const FD: u16 = 3;
/// `NETNSA_NSID_NOT_ASSIGNED`
const NONE: i32 = -1;
/// Most networks that have numbers.
const MAX_NUMBERS: usize = 1024;

/// The numbers that a network has given out: positions in the list. Those of networks that are gone are given out again.
#[derive(Default)]
pub struct Numbers(Mutex<Vec<Weak<Net>>, { rank::LEAF }>);

impl Numbers {
    /// The number of a network, if it has one.
    fn of(&self, net: &Net) -> Option<i32> {
        let all = self.0.lock();
        let at = all.iter().position(|known| std::ptr::eq(known.as_ptr(), net));
        at.and_then(|n| i32::try_from(n).ok())
    }

    /// The number of a network, which it gets now if it has none.
    pub fn give(&self, net: &Arc<Net>) -> i32 {
        if let Some(known) = self.of(net) {
            return known;
        }
        let mut all = self.0.lock();
        let free = all.iter().position(|known| known.strong_count() == 0);
        let at = free.unwrap_or(all.len());
        if at >= MAX_NUMBERS {
            return NONE;
        }
        match all.get_mut(at) {
            Some(place) => *place = Arc::downgrade(net),
            None => all.push(Arc::downgrade(net)),
        }
        i32::try_from(at).unwrap_or(NONE)
    }
}

/// Answers a question. `EBADF`, `ESRCH`, `EINVAL`.
pub(super) fn answer(
    net: &Arc<Net>,
    task: &Task,
    request: &Request<'_>,
    out: &mut Answer,
) -> Result<()> {
    let number = |kind| attribute(request.body, RTGENMSG, kind).and_then(|b| u32_at(b, 0));
    let asked = if let Some(pid) = number(PID) {
        let pid = i32::try_from(pid).map_err(|_| Errno::ESRCH)?;
        task.find_task(pid)?.namespaces().net.net().clone()
    } else if let Some(fd) = number(FD) {
        of_file(task, fd)?.net().clone()
    } else {
        return Err(Errno::EINVAL);
    };
    let number = net.numbers.of(&asked).unwrap_or(NONE);
    out.put(NEWNSID, &[0; RTGENMSG], |b| b.attr(NSID, &number.to_ne_bytes()));
    Ok(())
}

/// The network namespace that an open file stands for. `EBADF`, `EINVAL`.
pub(super) fn of_file(task: &Task, fd: u32) -> Result<Arc<crate::kernel::namespace::NetNamespace>> {
    let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
    let file = task.file(fd)?;
    match nsfs::namespace_of(&file) {
        Some(Namespace::Net(found)) => Ok(found),
        _ => Err(Errno::EINVAL),
    }
}
