//! Processes: their life, ids, credentials, limits and attributes.

pub mod arch;
pub mod control;
pub mod creds;
pub mod ids;
pub mod life;
pub mod limits;
pub mod machine;
pub mod pidfd;
pub mod ptrace;
pub mod sched;
pub mod seccomp;
pub mod system;

pub use arch::*;
pub use control::*;
pub use creds::*;
pub use ids::*;
pub use life::*;
pub use limits::*;
pub use machine::*;
pub use pidfd::*;
pub use ptrace::*;
pub use sched::*;
pub use seccomp::*;
pub use system::*;

use crate::errno::Result;
use crate::kernel::{Credentials, CurrentTask, Task, ThreadGroup};
use std::sync::Arc;

/// The living task of that id; 0 is the caller. `ESRCH` if there is none.
fn task_or_self(t: &CurrentTask, tid: i32) -> Result<Arc<Task>> {
    if tid == 0 || tid == t.ns_tid() {
        return Ok(t.task().clone());
    }
    t.find_task(tid)
}

/// The process of that id, zombies included; 0 is the caller's. `ESRCH` if there is none.
fn group_or_self(t: &CurrentTask, pid: i32) -> Result<Arc<ThreadGroup>> {
    if pid == 0 || pid == t.ns_tgid() {
        return Ok(t.group().clone());
    }
    t.find_group(pid)
}

/// Same owner, as scheduling calls want it.
fn owns(mine: &Credentials, theirs: &Credentials) -> bool {
    mine.euid == theirs.euid || mine.euid == theirs.uid
}
