//! Epoll instances that watch epoll instances: no loops, and no long chains.

use super::Epoll;
use crate::errno::{Errno, Result};
use crate::sync::{Mutex, MutexGuard, rank};
use crate::vfs::File;

/// Longest chain of instances (`EP_MAX_NESTS` + 1).
const MAX_DEPTH: usize = 5;
/// Instances looked at in one check; far more than any program nests.
const MAX_VISITS: usize = 10_000;

static TREE: Mutex<(), { rank::EPOLL_TREE }> = Mutex::new(());

/// Serialises changes of who watches whom.
pub fn lock() -> MutexGuard<'static, ()> {
    TREE.lock()
}

/// Refuses with `ELOOP` that `outer` watches `inner` if that closes a loop or makes too long a chain.
pub fn check(outer: &File, inner: &Epoll) -> Result<()> {
    let mut visits = 0;
    let forbidden = outer.ops_as::<Epoll>().ok_or(Errno::EINVAL)?;
    let below = depth_below(inner, forbidden, 1, &mut visits)?;
    let above = depth_above(outer, 1, &mut visits)?;
    if below + above > MAX_DEPTH { Err(Errno::ELOOP) } else { Ok(()) }
}

fn count(visits: &mut usize, depth: usize) -> Result<()> {
    *visits += 1;
    if *visits > MAX_VISITS || depth > MAX_DEPTH { Err(Errno::ELOOP) } else { Ok(()) }
}

fn depth_below(at: &Epoll, forbidden: &Epoll, depth: usize, visits: &mut usize) -> Result<usize> {
    count(visits, depth)?;
    if std::ptr::eq(at, forbidden) {
        return Err(Errno::ELOOP);
    }
    let items: Vec<_> = at.interest.lock().values().cloned().collect();
    let mut deepest = 1;
    for file in items.iter().filter_map(|item| item.file()) {
        if let Some(next) = file.ops_as::<Epoll>() {
            deepest = deepest.max(1 + depth_below(next, forbidden, depth + 1, visits)?);
        }
    }
    Ok(deepest)
}

fn depth_above(at: &File, depth: usize, visits: &mut usize) -> Result<usize> {
    count(visits, depth)?;
    let mut highest = 1;
    for next in at.epoll_links.instances() {
        highest = highest.max(1 + depth_above(&next, depth + 1, visits)?);
    }
    Ok(highest)
}
