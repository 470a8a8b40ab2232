//! Waiting for children (`wait4(2)`, `waitid(2)`).

use super::accounting::Rusage;
use super::signal::Signal;
use super::signal::info::{CLD_CONTINUED, CLD_STOPPED, CLD_TRAPPED};
use super::tree::{Node, Tree};
use super::{CurrentTask, ThreadGroup, Wake};
use crate::errno::{Errno, Result};
use crate::wait::EventMask;
use std::sync::Arc;
use std::sync::atomic::Ordering;

bitflags::bitflags! {
    /// Options of `waitid(2)` and `wait4(2)`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct WaitOptions: u32 {
        /// Do not wait.
        const NOHANG = 1;
        /// Report stopped children (`WUNTRACED`).
        const STOPPED = 2;
        /// Report ended children.
        const EXITED = 4;
        /// Report continued children.
        const CONTINUED = 8;
        /// Leave the child as it is, to be waited for again.
        const NOWAIT = 0x0100_0000;
        /// Not the children of other threads.
        const NOTHREAD = 0x2000_0000;
        /// Children of any kind.
        const ALL = 0x4000_0000;
        /// Only children whose exit signal is not `SIGCHLD`.
        const CLONE = 0x8000_0000;
    }
}

/// Which children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitFor {
    /// All of them.
    Any,
    /// One process.
    Process(i32),
    /// Members of a process group.
    Group(i32),
}

/// What happened to a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitResult {
    /// Its process id.
    pub pid: i32,
    /// What the waiting task calls it; taken before it is reaped.
    pub ns_pid: i32,
    /// Its real user id.
    pub uid: u32,
    /// `CLD_*`.
    pub code: i32,
    /// Exit code or signal.
    pub value: i32,
    /// As `wait4(2)` reports it.
    pub status: i32,
    /// What it has used.
    pub usage: Rusage,
}

/// Waits for a child. `None`: nothing has happened and `NOHANG` was given. `ECHILD` if no child can
/// ever match, `ERESTARTSYS` for a signal.
pub fn wait(
    t: &mut CurrentTask,
    which: WaitFor,
    options: WaitOptions,
) -> Result<Option<WaitResult>> {
    let group = t.group().clone();
    // The first look needs no registration: a shell reaps many children that are already dead.
    if let Some(result) = look(t, &group, which, options)? {
        return Ok(Some(result));
    }
    if options.contains(WaitOptions::NOHANG) {
        return Ok(None);
    }
    let key = group.child_queue.add(EventMask::IN, t.waker());
    let result = loop {
        match look(t, &group, which, options) {
            Ok(None) => {}
            other => break other,
        }
        match t.block(None) {
            // The signal may be the very news of the child: that is a success, not an interruption.
            Wake::Interrupted => match look(t, &group, which, options) {
                Ok(None) => break Err(Errno::ERESTARTSYS),
                other => break other,
            },
            Wake::Event | Wake::Timeout => {}
        }
    };
    group.child_queue.remove(key);
    result
}

fn matches(
    node: &Node,
    id: i32,
    which: WaitFor,
    options: WaitOptions,
    caller: &Others<'_>,
) -> bool {
    let selected = match which {
        WaitFor::Any => true,
        WaitFor::Process(pid) => pid == id,
        WaitFor::Group(pgid) => pgid == node.pgid,
    };
    let odd = node.group.exit_signal.load(Ordering::Relaxed) != Signal::SIGCHLD.number();
    let creator = node.group.creator.load(Ordering::Relaxed);
    let foreign = options.contains(WaitOptions::NOTHREAD) && caller.other_lives(creator);
    selected
        && !foreign
        && (options.contains(WaitOptions::ALL) || odd == options.contains(WaitOptions::CLONE))
}

/// The other threads of the caller's process.
struct Others<'a>(&'a CurrentTask);

impl Others<'_> {
    /// True if `tid` is another living thread of the caller's process.
    fn other_lives(&self, tid: i32) -> bool {
        tid != self.0.tid() && self.0.group().signals().tasks.iter().any(|t| t.tid() == tid)
    }
}

fn look(
    t: &CurrentTask,
    group: &Arc<ThreadGroup>,
    which: WaitFor,
    options: WaitOptions,
) -> Result<Option<WaitResult>> {
    let mut tree = t.kernel().tree();
    let Some(me) = tree.nodes.get(&group.tgid()) else { return Err(Errno::ECHILD) };
    let others = Others(t);
    let mut any = false;
    let mut found = None;
    for &id in &me.children {
        let Some(child) = tree.nodes.get(&id) else { continue };
        if !matches(child, id, which, options, &others) {
            continue;
        }
        any = true;
        // What a tracer has not seen yet, the parent does not see either.
        let hidden = tree.tracees.get(&id).is_some_and(|tracee| tracee.tracer != group.tgid());
        if hidden {
            continue;
        }
        found = state_of(child, id, options)
            .map(|result| WaitResult { ns_pid: t.local_id(id), ..result });
        if found.is_some() {
            break;
        }
    }
    if found.is_none() {
        let seen = tracees(t, &mut tree, which, options, &mut any);
        if let Some((result, announce)) = seen {
            drop(tree);
            if let Some(id) = announce {
                super::exit::announce_to_parent(t.kernel(), id);
            }
            return Ok(Some(result));
        }
    }
    let Some(result) = found else {
        return if any { Ok(None) } else { Err(Errno::ECHILD) };
    };
    if !options.contains(WaitOptions::NOWAIT) {
        reap(&mut tree, group, &result);
    }
    Ok(Some(result))
}

/// Looks at the tasks that the caller's process traces. Of an ended process that is to be reaped, its id: the
/// parent is told then.
fn tracees(
    t: &CurrentTask,
    tree: &mut Tree,
    which: WaitFor,
    options: WaitOptions,
    any: &mut bool,
) -> Option<(WaitResult, Option<i32>)> {
    let keep = options.contains(WaitOptions::NOWAIT);
    let own = t.tgid();
    let mut found = None;
    for (&id, tracee) in tree.tracees.iter().filter(|(_, tracee)| tracee.tracer == own) {
        let group = tracee.task.group();
        let selected = match which {
            WaitFor::Any => true,
            WaitFor::Process(pid) => pid == id,
            WaitFor::Group(pgid) => pgid == group.pgid(),
        };
        let foreign = options.contains(WaitOptions::NOTHREAD) && tracee.tracer_tid != t.tid();
        if !selected || foreign {
            continue;
        }
        *any = true;
        let ns_pid = t.local_id(id);
        let usage = Rusage::default();
        if let Some(exit) = tracee.exit {
            if !options.contains(WaitOptions::EXITED) {
                continue;
            }
            let (code, value) = exit.code();
            let (uid, status) = (exit.uid, exit.status);
            found = Some(WaitResult { pid: id, ns_pid, uid, code, value, status, usage });
            break;
        }
        let mut trace = tracee.task.trace.lock();
        let Some(stopped) = trace.stopped.as_deref_mut() else { continue };
        if stopped.reported || stopped.listening || stopped.resume.is_some() {
            continue;
        }
        stopped.reported = !keep;
        let uid = tracee.task.creds().uid;
        let code = if stopped.group { CLD_STOPPED } else { CLD_TRAPPED };
        let (value, status) = (stopped.code, stopped.code << 8 | 0x7f);
        return Some((WaitResult { pid: id, ns_pid, uid, code, value, status, usage }, None));
    }
    let result = found?;
    if keep {
        return Some((result, None));
    }
    let ended = tree.tracees.remove(&result.pid)?;
    let process = ended.task.tgid() == result.pid;
    tree.release(result.pid);
    Some((result, process.then_some(result.pid)))
}

fn state_of(child: &Node, pid: i32, options: WaitOptions) -> Option<WaitResult> {
    if let Some(exit) = child.exit {
        let (code, value) = exit.code();
        let (uid, status, usage) = (exit.uid, exit.status, exit.usage);
        return options.contains(WaitOptions::EXITED).then_some(WaitResult {
            pid,
            ns_pid: pid,
            uid,
            code,
            value,
            status,
            usage,
        });
    }
    let mut signals = child.group.signals();
    let uid = signals.tasks.first().map_or(0, |t| t.creds().uid);
    let keep = options.contains(WaitOptions::NOWAIT);
    let usage = Rusage::default();
    let stop = &mut signals.stop;
    if options.contains(WaitOptions::STOPPED) && stop.stopped && stop.unreported != 0 {
        let value = stop.unreported;
        if !keep {
            stop.unreported = 0;
        }
        let status = value << 8 | 0x7f;
        let (ns_pid, code) = (pid, CLD_STOPPED);
        return Some(WaitResult { pid, ns_pid, uid, code, value, status, usage });
    }
    if options.contains(WaitOptions::CONTINUED) && stop.continued {
        if !keep {
            stop.continued = false;
        }
        let value = Signal::SIGCONT.number();
        let (ns_pid, code, status) = (pid, CLD_CONTINUED, 0xffff);
        return Some(WaitResult { pid, ns_pid, uid, code, value, status, usage });
    }
    None
}

/// Removes an ended child and adds what it used to our children's account.
fn reap(tree: &mut Tree, group: &ThreadGroup, result: &WaitResult) {
    if tree.nodes.get(&result.pid).is_some_and(|n| n.exit.is_some()) {
        tree.remove_process(result.pid);
        group.usage.lock().children.add(&result.usage);
    }
}
