//! What the platform may answer system calls with ([`platform::answers`]).
//!
//! A task's words are computed anew whenever something they are made from has changed: that is stored first, so that
//! of two who compute at a time the later one has seen both changes. A call has no word while somebody is to be told
//! of it (filters that look at it, a tracer, a log), or while what it returns may change without the task's doing.

use super::namespace::user::MapKind;
use super::task::syscall_work;
use super::trace::watched;
use super::{Kernel, Task};
use crate::sync::{Mutex, rank};
use crate::vfs::FdTable;
use platform::{Answers, PureCall};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where a task's words are, once it has a platform that has a place for them.
pub(super) type Words = Mutex<Option<Arc<dyn Answers>>, { rank::ANSWERS }>;

impl Task {
    /// From now on the words are there.
    pub(super) fn set_answers(&self, answers: Option<Arc<dyn Answers>>) {
        *self.answers.lock() = answers;
        self.refresh_answers();
    }

    /// Computes the words anew.
    pub(super) fn refresh_answers(&self) {
        let answers = self.answers.lock();
        let Some(answers) = &*answers else { return };
        for call in PureCall::ALL {
            let open = self.is_unwatched(call.number());
            answers.set(call, if open { self.answer(call) } else { None });
        }
    }

    /// The task goes on with another table of descriptors, or without one.
    pub(super) fn note_files(&self, files: Option<&FdTable>) {
        if self.table_number.replace(TableNumber::of(files)) {
            self.refresh_answers();
        }
    }

    /// What calls on open files are answered with.
    fn descriptors(&self) -> Option<u32> {
        self.table_number.get()
    }

    /// Whether nobody is to be told of calls of a number.
    fn is_unwatched(&self, nr: u64) -> bool {
        let allowed = match self.syscall_work.load(Ordering::SeqCst) {
            0 => true,
            syscall_work::SECCOMP => self.seccomp.always_allows(nr),
            _ => false,
        };
        // Events are about calls that fail, or change something.
        let logs = &self.kernel().call_logs;
        allowed && !(logs.watched() & watched::CALLS != 0 && logs.wants(nr))
    }

    fn answer(&self, call: PureCall) -> Option<u32> {
        let id = |id: i32| u32::try_from(id).ok();
        let creds = self.creds();
        let ns = &creds.user_ns;
        // What ids are called is settled once the map is written, which somebody else may do.
        let user = |uid| ns.has_map(MapKind::User).then(|| ns.show_uid(uid));
        let group = |gid| ns.has_map(MapKind::Group).then(|| ns.show_gid(gid));
        match call {
            PureCall::Getpid => id(self.ns_tgid()),
            PureCall::Gettid => id(self.ns_tid()),
            PureCall::Getppid => id(self.local_id(self.group().ppid())),
            PureCall::Getpgrp => id(self.local_id(self.group().pgid())),
            PureCall::Getuid => user(creds.uid),
            PureCall::Geteuid => user(creds.euid),
            PureCall::Getgid => group(creds.gid),
            PureCall::Getegid => group(creds.egid),
            PureCall::Futex => self.kernel().futexes.are_counted().then_some(0),
            PureCall::Sigprocmask => self.mask.number(),
            PureCall::Lseek | PureCall::Read | PureCall::Write => self.descriptors(),
        }
    }
}

/// What the platform calls a task's table of descriptors ([`FdTable::number`]), for those who cannot lock what the task shares.
#[derive(Default)]
pub(super) struct TableNumber(AtomicU64);

impl TableNumber {
    /// That of a table, or of none.
    pub(super) fn of(files: Option<&FdTable>) -> Self {
        let number = files.and_then(FdTable::number);
        Self(AtomicU64::new(number.map_or(u64::MAX, u64::from)))
    }

    /// Becomes another one; true if it is one.
    fn replace(&self, with: Self) -> bool {
        let new = with.0.into_inner();
        self.0.swap(new, Ordering::SeqCst) != new
    }

    fn get(&self) -> Option<u32> {
        u32::try_from(self.0.load(Ordering::SeqCst)).ok()
    }
}

impl Kernel {
    /// Computes the words of all tasks anew.
    pub(super) fn refresh_all_answers(&self) {
        let tasks: Vec<_> = self.tree().pids.tasks.values().cloned().collect();
        tasks.iter().for_each(|task| task.refresh_answers());
    }
}
