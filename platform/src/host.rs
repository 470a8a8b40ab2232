//! Host system calls.
//!
//! The one folder through which the sentry reaches its host. Every wrapper is safe, takes and returns
//! plain values, and reports the host's errno. [`calls::HOST_CALLS`] lists each system call that may
//! be made, and what for: a call that is not in that list must not be made.
//!
//! Nothing here opens a path or a socket: descriptors come from the gofer or are inherited.

pub mod calls;
pub mod file;
pub mod hostnet;
pub mod inet;
pub mod io;
pub mod mapping;
pub mod messages;
pub mod park;
pub mod poll;
pub mod random;
pub mod seccomp;
pub mod socket;
pub mod thread;
pub mod time;
pub mod tty;
pub mod watch;

pub use nix::errno::Errno;
pub use park::Parker;
