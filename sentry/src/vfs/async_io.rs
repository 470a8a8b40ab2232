//! Signal-driven I/O: `F_SETOWN`, `F_SETSIG` and `O_ASYNC`.

use crate::sync::{Mutex, rank};

/// To whom the signal goes (`struct f_owner_ex`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OwnerKind {
    /// A thread (`F_OWNER_TID`).
    Thread,
    /// A process (`F_OWNER_PID`).
    #[default]
    Process,
    /// A process group (`F_OWNER_PGRP`).
    Group,
}

/// Who is signalled, how, and with whose permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OwnerState {
    /// What kind of id `id` is.
    pub kind: OwnerKind,
    /// The id; 0 for no one.
    pub id: i32,
    /// The signal (`F_SETSIG`); 0 is `SIGIO` without details.
    pub signal: i32,
    /// Real and effective user of who set the owner.
    pub uids: (u32, u32),
}

/// Who is signalled when a file becomes ready.
#[derive(Debug, Default)]
pub struct FileOwner {
    state: Mutex<OwnerState, { rank::LEAF }>,
}

impl FileOwner {
    /// The state.
    pub fn get(&self) -> OwnerState {
        *self.state.lock()
    }

    /// Changes the state.
    pub fn update(&self, change: impl FnOnce(&mut OwnerState)) {
        change(&mut self.state.lock());
    }
}
