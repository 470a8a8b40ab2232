//! `stat`, `statm`, `schedstat`: numbers for programs.

use super::Subject;
use crate::errno::Result;
use crate::fs::proc::system::USER_HZ;
use std::sync::atomic::Ordering;

const TICK: u64 = 1_000_000_000 / USER_HZ;

/// `stat`: 52 numbers, in the order of `proc_pid_stat(5)`.
pub fn stat(subject: &Subject) -> Result<Vec<u8>> {
    let kernel = subject.kernel()?;
    let group = &subject.group;
    let task = subject.task().ok();
    let comm = match &task {
        Some(task) => task.comm(),
        None => group.comm(),
    };
    let state = match (&subject.task, &task) {
        (Some(task), _) => task.state(),
        _ => group.state(),
    };
    let (user, system) = match &subject.task {
        Some(task) => task.cpu_times(),
        None => group.cpu_times(),
    };
    let children = group.children_rusage();
    let (tty, tpgid) = match group.controlling_tty(&kernel) {
        Some(tty) => (tty.dev(), tty.foreground()),
        None => (0, -1),
    };
    let mm = task.as_ref().and_then(|t| t.mm().ok());
    let exec = mm.as_ref().map(|mm| mm.exec_info()).unwrap_or_default();
    let size = mm.as_ref().map_or(0, |mm| mm.totals().total);
    let rss = mm.as_ref().map_or(0, |mm| mm.usage(0, u64::MAX).total());
    let brk = mm.as_ref().map_or(0, |mm| mm.brk_range().0);
    let pending = task.as_ref().map(|t| group.pending_split(t).0.0).unwrap_or_default();
    let handlers = group.signals().handlers.clone();
    let (nice, policy, rt) = task.as_ref().map_or((0, 0, 0), |t| {
        let sched = t.sched.lock();
        (sched.nice, sched.policy, sched.priority)
    });
    let inspect = subject.may_inspect().is_ok();
    let addr = |a: u64| if inspect { a } else { 0 };
    let comm = String::from_utf8_lossy(&comm);
    let priority = if rt > 0 { -1 - i64::from(rt) } else { 20 + i64::from(nice) };
    let faults = group.rusage().faults;
    let start = subject.task.as_ref().map_or(group.start_time, |t| t.start_time);
    let start = crate::fs::proc::system::shown_boottime(start) / TICK;
    let local = |id: i32| subject.pids.local(id).to_string();
    let fields = [
        local(group.ppid()),
        local(group.pgid()),
        local(group.sid()),
        tty.to_string(),
        local(tpgid),
        "4194304".into(),
        faults.to_string(),
        "0 0 0".into(),
        (user / TICK).to_string(),
        (system / TICK).to_string(),
        (children.user / TICK).to_string(),
        (children.system / TICK).to_string(),
        priority.to_string(),
        nice.to_string(),
        group.tasks().len().max(1).to_string(),
        "0".into(),
        start.to_string(),
        size.to_string(),
        (rss / 4096).to_string(),
        u64::MAX.to_string(),
        addr(exec.code.start).to_string(),
        addr(exec.code.end).to_string(),
        addr(exec.stack_start).to_string(),
        "0 0".into(),
        pending.to_string(),
        task.as_ref().map_or(0, |t| t.blocked().0).to_string(),
        handlers.ignored().0.to_string(),
        handlers.caught().0.to_string(),
        "0 0 0".into(),
        group.exit_signal.load(Ordering::Relaxed).to_string(),
        "0".into(),
        rt.to_string(),
        policy.to_string(),
        "0 0 0".into(),
        addr(exec.data.start).to_string(),
        addr(exec.data.end).to_string(),
        addr(brk).to_string(),
        addr(exec.args.start).to_string(),
        addr(exec.args.end).to_string(),
        addr(exec.env.start).to_string(),
        addr(exec.env.end).to_string(),
        "0".into(),
    ];
    Ok(format!("{} ({comm}) {state} {}\n", subject.id(), fields.join(" ")).into_bytes())
}

/// `statm`: sizes in pages.
pub fn statm(subject: &Subject) -> Result<Vec<u8>> {
    let Some(mm) = subject.mm() else { return Ok(b"0 0 0 0 0 0 0\n".to_vec()) };
    let (all, used) = (mm.totals(), mm.usage(0, u64::MAX));
    let pages = |bytes: u64| bytes / 4096;
    let (size, rss) = (pages(all.total), pages(used.total()));
    let shared = pages(used.file + used.shared);
    let (text, data) = (pages(all.exec), pages(all.data + all.stack));
    Ok(format!("{size} {rss} {shared} {text} 0 {data} 0\n").into_bytes())
}

/// `schedstat`: time on a CPU, time waiting for one (not known), time slices.
pub fn schedstat(subject: &Subject) -> Result<Vec<u8>> {
    let task = subject.task()?;
    let (user, system) = task.cpu_times();
    let switches = task.switches.load(Ordering::Relaxed);
    Ok(format!("{} 0 {switches}\n", user + system).into_bytes())
}
