//! Linux, in user space: the kernel that runs sandboxed programs.
//!
//! Where to start: [`kernel`] (tasks and their run loop), [`syscalls`] (the table of every system
//! call), [`mm`] (memory), [`vfs`] and [`fs`] (files). Objects of the kernel are plain data that name
//! each other by `Arc` or id; what they own of the host is small and can be re-established.
//!
//! Lock order: [`sync::rank`].

// A file leads to its file system, that to the kernel, and the kernel to the network: deep for the compiler.
#![recursion_limit = "256"]

pub mod boot;
pub mod bpf;
pub mod errno;
pub mod fs;
pub mod io;
pub mod kernel;
pub mod loader;
pub mod mm;
pub mod socket;
pub mod sync;
pub mod syscalls;
pub mod time;
pub mod vfs;
pub mod wait;

pub use errno::{Errno, Result};
