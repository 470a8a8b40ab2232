//! Controlling terminals and job control (`credentials(7)`, `tty_ioctl(2)`).

use super::Tty;
use crate::errno::{Errno, Result};
use crate::kernel::{ControllingTty, SigInfo, Signal, Task};
use crate::vfs::permission::CAP_SYS_ADMIN;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The controlling terminal of a task's session.
pub fn controlling(task: &Task) -> Option<Arc<Tty>> {
    let tty = task.group().controlling_tty(task.kernel())?;
    tty.as_any().downcast_ref::<Tty>()?.this.upgrade()
}

impl Tty {
    /// True if it is the controlling terminal of the task.
    pub(super) fn controls(&self, task: &Task) -> bool {
        let sid = self.session.load(Ordering::Relaxed);
        sid != 0 && task.group().sid() == sid
    }

    /// What a task in the background gets when it reads, writes or changes the terminal: a signal
    /// that stops its group, and the call is made again when it goes on. `EIO` where that would
    /// never happen.
    pub(super) fn check_foreground(&self, task: &Task, signal: Signal) -> Result<()> {
        let foreground = self.foreground();
        if !self.controls(task) || foreground == 0 || task.group().pgid() == foreground {
            return Ok(());
        }
        let ignored = task.blocked().contains(signal)
            || task.group().signals().handlers.ignored().contains(signal);
        if ignored {
            return if signal == Signal::SIGTTIN { Err(Errno::EIO) } else { Ok(()) };
        }
        let kernel = task.kernel();
        let pgid = task.group().pgid();
        if kernel.is_orphaned_pgroup(pgid) {
            return Err(Errno::EIO);
        }
        kernel.signal_process_group(pgid, &SigInfo::kernel(signal))?;
        Err(Errno::ERESTARTSYS)
    }

    /// Makes it the controlling terminal of the task's session.
    pub(super) fn take_session(self: &Arc<Self>, task: &Task) {
        let group = task.group();
        self.session.store(group.sid(), Ordering::SeqCst);
        self.foreground.store(group.pgid(), Ordering::SeqCst);
        let tty: Arc<dyn ControllingTty> = self.clone();
        drop(task.kernel().set_session_tty(group.sid(), Some(tty)));
    }

    /// Opening a terminal gives a session leader without one its controlling terminal.
    pub(super) fn opened_by(self: &Arc<Self>, task: &Task) {
        let group = task.group();
        if group.is_session_leader()
            && group.controlling_tty(task.kernel()).is_none()
            && self.session.load(Ordering::SeqCst) == 0
        {
            self.take_session(task);
        }
    }

    /// `TIOCSCTTY`; `steal`: also from another session, with `CAP_SYS_ADMIN`.
    pub(super) fn set_controlling(self: &Arc<Self>, task: &Task, steal: bool) -> Result<()> {
        let group = task.group();
        let leader = group.is_session_leader();
        let sid = self.session.load(Ordering::SeqCst);
        if leader && sid == group.sid() {
            return Ok(());
        }
        if !leader || group.controlling_tty(task.kernel()).is_some() {
            return Err(Errno::EPERM);
        }
        if sid != 0 {
            if !steal || !task.creds().has(CAP_SYS_ADMIN) {
                return Err(Errno::EPERM);
            }
            drop(task.kernel().set_session_tty(sid, None));
        }
        self.take_session(task);
        Ok(())
    }

    /// `TIOCNOTTY`: the session of a leader loses its terminal.
    pub(super) fn give_up(&self, task: &Task) -> Result<()> {
        if !self.controls(task) {
            return Err(Errno::ENOTTY);
        }
        let group = task.group();
        if !group.is_session_leader() {
            return Ok(());
        }
        let foreground = self.foreground.swap(0, Ordering::SeqCst);
        self.session.store(0, Ordering::SeqCst);
        let kernel = task.kernel();
        drop(kernel.set_session_tty(group.sid(), None));
        if foreground > 0 {
            let _ = kernel.signal_process_group(foreground, &SigInfo::kernel(Signal::SIGHUP));
            let _ = kernel.signal_process_group(foreground, &SigInfo::kernel(Signal::SIGCONT));
        }
        Ok(())
    }

    /// `ENOTTY` unless the task may use `TIOCSPGRP`; a background task is stopped first.
    pub(super) fn may_set_foreground(&self, task: &Task) -> Result<()> {
        match self.check_foreground(task, Signal::SIGTTOU) {
            Err(Errno::EIO) => return Err(Errno::ENOTTY),
            other => other?,
        }
        if !self.controls(task) {
            return Err(Errno::ENOTTY);
        }
        Ok(())
    }

    /// `TIOCSPGRP`, by a task that may use it.
    pub(super) fn set_foreground(&self, task: &Task, pgid: i32) -> Result<()> {
        if pgid < 0 {
            return Err(Errno::EINVAL);
        }
        let session = task.kernel().session_of_pgroup(pgid).ok_or(Errno::ESRCH)?;
        if session != task.group().sid() {
            return Err(Errno::EPERM);
        }
        self.foreground.store(pgid, Ordering::SeqCst);
        Ok(())
    }
}
