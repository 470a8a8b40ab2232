//! Tasks and everything they share: the part of Linux's `kernel/`.
//!
//! * [`Kernel`]: one sandbox. [`Task`]: one guest thread, seen from everywhere. [`ThreadGroup`]: a
//!   process. [`tree`]: who is whose parent, group and session.
//! * [`CurrentTask`]: the same thread, seen from its own host thread, with registers and context.
//! * [`run`]: the loop that drives it. [`clone`], [`exec`], [`exit`], [`wait`]: a process's life.
//! * [`signal`]: sending, queues, delivery. [`futex`]: user-space locks.

pub mod accounting;
pub mod aio;
mod answers;
mod barrier;
pub mod calls;
pub mod cgroup;
pub mod clone;
pub mod config;
pub mod coredump;
pub mod cpus;
pub mod credentials;
pub mod current;
pub mod exec;
pub mod exit;
pub mod futex;
pub mod inspect;
pub mod ipc;
pub mod keys;
pub mod landlock;
pub mod last_call;
pub mod load;
pub mod log;
pub mod mempolicy;
pub mod namespace;
pub mod outside;
pub mod panic;
pub mod pause;
pub mod pidfd;
pub mod pkeys;
pub mod ptrace;
pub mod rlimit;
pub mod run;
pub mod sandbox;
pub mod sched;
pub mod seccomp;
pub mod signal;
pub mod start;
pub mod task;
pub mod thread_group;
pub mod trace;
pub mod tree;
pub mod tty;
pub mod version;
pub mod wait;

pub use config::{KernelConfig, LogSink, SandboxLimits};
pub use credentials::Credentials;
pub use current::{CurrentTask, Wake};
pub use inspect::current;
pub use rlimit::{Limit, Limits, Rlimit};
pub use sandbox::Kernel;
pub use signal::{SigInfo, SigSet, Signal};
pub use task::Task;
pub use thread_group::ThreadGroup;
pub use tty::ControllingTty;
