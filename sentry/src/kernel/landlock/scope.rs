//! Whom a task with a domain may reach: tracing, signals, abstract socket names.

use super::{Domain, Layer, SCOPE_ABSTRACT, SCOPE_SIGNAL};
use crate::errno::{Errno, Result};
use crate::kernel::{Credentials, Task};
use std::sync::Arc;

impl Domain {
    /// True if a layer of this domain keeps its tasks, in the sense of `scope`, from reaching a task with
    /// domain `other`: one that is not in that layer's sandbox.
    fn keeps_from(&self, other: Option<&Domain>, scope: u16) -> bool {
        let theirs = other.map_or(&[][..], |d| &d.layers);
        // Of the layers that are scoped the newest one decides: whoever is in it is in the older ones, too.
        let scoped = |(_, layer): &(usize, &Arc<Layer>)| layer.handled.scope & scope != 0;
        match self.layers.iter().enumerate().rev().find(scoped) {
            None => false,
            Some((i, layer)) => !theirs.get(i).is_some_and(|their| Arc::ptr_eq(their, layer)),
        }
    }

    /// True if `other` is this domain, or has been stacked on it.
    fn contains(&self, other: Option<&Domain>) -> bool {
        let Some(last) = self.layers.len().checked_sub(1) else { return true };
        let theirs = other.and_then(|d| d.layers.get(last));
        matches!((self.layers.get(last), theirs), (Some(a), Some(b)) if Arc::ptr_eq(a, b))
    }
}

fn domain_of(creds: &Credentials) -> Option<&Domain> {
    creds.landlock.as_deref()
}

/// True if a task may trace, or look into, one with credentials `target`: that must be under the same
/// restrictions at least.
pub fn may_trace(tracer: &Credentials, target: &Credentials) -> bool {
    domain_of(tracer).is_none_or(|domain| domain.contains(domain_of(target)))
}

/// Whether a task with a domain may send a signal to `target`, which is of another process. `EPERM`.
pub fn check_signal(domain: Option<&Domain>, target: &Task) -> Result<()> {
    let Some(domain) = domain.filter(|d| d.all.scope & SCOPE_SIGNAL != 0) else { return Ok(()) };
    let kept = domain.keeps_from(domain_of(&target.creds()), SCOPE_SIGNAL);
    if kept { Err(Errno::EPERM) } else { Ok(()) }
}

/// Whether a task may connect, or send, to a socket with an abstract name that was made by a task with the
/// domain `owner`. `EPERM`.
pub fn check_abstract(creds: &Credentials, owner: Option<&Domain>) -> Result<()> {
    let Some(domain) = domain_of(creds) else { return Ok(()) };
    if domain.keeps_from(owner, SCOPE_ABSTRACT) { Err(Errno::EPERM) } else { Ok(()) }
}
