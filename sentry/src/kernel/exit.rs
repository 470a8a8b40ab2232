//! The end of tasks and processes (`exit(2)`, `exit_group(2)`).

use super::accounting::Rusage;

/// How a process ended: what its zombie keeps for the parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Wait status (`wait(2)`).
    pub status: i32,
    /// Real user id at the end.
    pub uid: u32,
    /// What the process and its reaped children have used.
    pub usage: Rusage,
}
