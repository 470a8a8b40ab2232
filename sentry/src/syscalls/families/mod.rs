//! The handlers, one file per family of calls.
pub mod file;
pub mod futex;
pub mod ipc;
pub mod keys;
pub mod landlock;
pub mod memory;
pub mod path;
pub mod process;
pub mod signal;
pub mod socket;
pub mod time;
