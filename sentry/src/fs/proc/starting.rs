//! Whose settings `/proc/sys` shows and changes: those of the namespaces of whoever looks, or of a container that starts.

use crate::errno::{Errno, Result};
use crate::kernel::namespace::Namespaces;
use std::cell::RefCell;
use std::sync::Arc;

thread_local! {
    /// The namespaces whose settings the calling thread changes before there is a task in them.
    static STARTED: RefCell<Option<Arc<Namespaces>>> = const { RefCell::new(None) };
}

/// Does `f` for whoever starts a container in `namespaces`: the settings are theirs, and may be changed.
pub fn at_start<T>(namespaces: &Arc<Namespaces>, f: impl FnOnce() -> T) -> T {
    let before = STARTED.replace(Some(namespaces.clone()));
    let value = f();
    STARTED.set(before);
    value
}

/// True within [`at_start`].
pub(super) fn is_starting() -> bool {
    STARTED.with_borrow(Option::is_some)
}

/// The namespaces of whoever looks. `ENOENT` for the sentry's own threads.
pub(super) fn namespaces() -> Result<Arc<Namespaces>> {
    if let Some(namespaces) = STARTED.with_borrow(Clone::clone) {
        return Ok(namespaces);
    }
    Ok(crate::kernel::current().ok_or(Errno::ENOENT)?.namespaces())
}
