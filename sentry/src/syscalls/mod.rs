//! System calls: the table, the decoding of arguments, and the handlers by family.
//!
//! A handler is thin: decoded arguments in, the shared inner function of `kernel`, `mm` or `vfs`
//! called, results copied out. [`table`] says which call has which arguments, handler and support;
//! everything else (dispatch, `--strace`, `docs/syscalls.md`) comes from there.

pub mod arg;
pub mod blocking;
pub mod dispatch;
pub mod docs;
pub mod entry;
pub mod events;
pub mod families;
pub mod strace;
pub mod table;

/// What a handler returns: the value for `rax`, or the error.
pub type SysResult = crate::errno::Result<u64>;
