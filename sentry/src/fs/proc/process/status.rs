//! `status`: what a process is, for people.

use super::Subject;
use crate::errno::Result;
use crate::kernel::{Rlimit, cpus};
use std::fmt::Write;
use std::sync::atomic::Ordering;

/// `status`
pub fn status(subject: &Subject) -> Result<Vec<u8>> {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_status(subject, &mut text);
    Ok(text.into_bytes())
}

fn write_status(subject: &Subject, out: &mut String) -> std::fmt::Result {
    let group = &subject.group;
    let task = subject.task().ok();
    let comm = task.as_ref().map_or_else(|| group.comm(), |t| t.comm());
    writeln!(out, "Name:\t{}", comm.escape_ascii())?;
    let umask = task.as_ref().and_then(|t| t.fs().ok()).map(|fs| fs.umask());
    if let Some(umask) = umask {
        writeln!(out, "Umask:\t{umask:04o}")?;
    }
    let state = subject.task.as_ref().map_or_else(|| group.state(), |t| t.state());
    let word = match state {
        'R' => "running",
        'S' => "sleeping",
        'T' => "stopped",
        't' => "tracing stop",
        'Z' => "zombie",
        _ => "dead",
    };
    writeln!(out, "State:\t{state} ({word})")?;
    let local = |id: i32| subject.pids.local(id);
    let tracer = task.as_ref().map_or(0, |t| t.tracer_id());
    let (id, tgid) = (subject.id(), local(group.tgid()));
    writeln!(
        out,
        "Tgid:\t{tgid}\nNgid:\t0\nPid:\t{id}\nPPid:\t{}\nTracerPid:\t{}",
        local(group.ppid()),
        local(tracer)
    )?;
    if let Some(task) = &task {
        let c = task.creds();
        let [r, e, s, f] = [c.uid, c.euid, c.suid, c.fsuid].map(|id| subject.show_uid(id));
        writeln!(out, "Uid:\t{r}\t{e}\t{s}\t{f}")?;
        let [r, e, s, f] = [c.gid, c.egid, c.sgid, c.fsgid].map(|id| subject.show_gid(id));
        writeln!(out, "Gid:\t{r}\t{e}\t{s}\t{f}")?;
        writeln!(out, "FDSize:\t{}", task.files().map_or(0, |files| files.size()))?;
        let groups: String =
            c.groups.iter().map(|g| format!("{} ", subject.show_gid(*g))).collect();
        writeln!(out, "Groups:\t{groups}")?;
    }
    let own = subject.task.as_ref().map_or(group.tgid(), |task| task.tid());
    for (name, id) in
        [("NStgid", group.tgid()), ("NSpid", own), ("NSpgid", group.pgid()), ("NSsid", group.sid())]
    {
        let numbers = group.pid_ns().numbers_from(&subject.pids, id);
        let numbers: String = numbers.iter().map(|n| format!("\t{n}")).collect();
        writeln!(out, "{name}:{numbers}")?;
    }
    writeln!(out, "Kthread:\t0")?;
    if let Some(mm) = subject.mm() {
        let (all, used) = (mm.totals(), mm.usage(0, u64::MAX));
        for (name, bytes) in [
            ("VmPeak", all.peak),
            ("VmSize", all.total),
            ("VmLck", all.locked),
            ("VmPin", 0),
            ("VmHWM", used.total()),
            ("VmRSS", used.total()),
            ("RssAnon", used.anonymous),
            ("RssFile", used.file),
            ("RssShmem", used.shared),
            ("VmData", all.data),
            ("VmStk", all.stack),
            ("VmExe", all.exec),
            ("VmLib", 0),
            ("VmPTE", 0),
            ("VmSwap", 0),
        ] {
            writeln!(out, "{name}:\t{:>8} kB", bytes / 1024)?;
        }
        let huge = u8::from(!group.thp_disable.load(Ordering::Relaxed));
        writeln!(out, "HugetlbPages:\t       0 kB\nCoreDumping:\t0\nTHP_enabled:\t{huge}")?;
    }
    writeln!(out, "Threads:\t{}", group.tasks().len().max(1))?;
    if let Some(task) = &task {
        let limit = group.limit(Rlimit::Sigpending).soft;
        let (own, shared) = group.pending_split(task);
        writeln!(out, "SigQ:\t{}/{limit}", group.queued_signals())?;
        writeln!(out, "SigPnd:\t{:016x}\nShdPnd:\t{:016x}", own.0, shared.0)?;
        let handlers = group.signals().handlers.clone();
        writeln!(out, "SigBlk:\t{:016x}", task.blocked().0)?;
        writeln!(out, "SigIgn:\t{:016x}", handlers.explicitly_ignored().0)?;
        writeln!(out, "SigCgt:\t{:016x}", handlers.caught().0)?;
        let c = task.creds();
        for (name, set) in [
            ("CapInh", c.inheritable),
            ("CapPrm", c.permitted),
            ("CapEff", c.effective),
            ("CapBnd", c.bounding),
            ("CapAmb", c.ambient),
        ] {
            writeln!(out, "{name}:\t{set:016x}")?;
        }
        let bound = c.no_new_privs || task.no_new_privs.load(Ordering::Relaxed);
        writeln!(out, "NoNewPrivs:\t{}", u8::from(bound))?;
        let (mode, filters) = (task.seccomp.mode() as u8, task.seccomp.filters());
        writeln!(out, "Seccomp:\t{mode}\nSeccomp_filters:\t{filters}")?;
        writeln!(out, "Speculation_Store_Bypass:\tvulnerable")?;
        writeln!(out, "SpeculationIndirectBranch:\tconditional enabled")?;
        let count = subject.kernel().map_or(1, |k| k.config.cpus);
        let set = task.affinity();
        writeln!(out, "Cpus_allowed:\t{}", mask(&set, count))?;
        writeln!(out, "Cpus_allowed_list:\t{}", cpus::list(&set))?;
        writeln!(out, "Mems_allowed:\t1\nMems_allowed_list:\t0")?;
        let switches = task.switches.load(Ordering::Relaxed);
        writeln!(out, "voluntary_ctxt_switches:\t{switches}\nnonvoluntary_ctxt_switches:\t0")?;
    }
    Ok(())
}

/// A set of CPUs (64 to a word) on a machine with so many, in groups of eight digits (`%*pb`).
fn mask(set: &[u64], cpus: u32) -> String {
    let groups: Vec<String> = (0..cpus.div_ceil(32).max(1))
        .rev()
        .map(|group| {
            let word = set.get(group as usize / 2).copied().unwrap_or(0);
            let value = (word >> (group % 2 * 32)) as u32;
            let digits = (cpus - group * 32).clamp(1, 32).div_ceil(4) as usize;
            format!("{value:0digits$x}")
        })
        .collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::mask;
    use crate::kernel::cpus::{all_cpus, list};

    #[test]
    fn cpu_masks() {
        let of = |cpus| (mask(&all_cpus(cpus), cpus), list(&all_cpus(cpus)));
        assert_eq!(of(1), ("1".into(), "0".into()));
        assert_eq!(of(2), ("3".into(), "0-1".into()));
        assert_eq!(of(32).0, "ffffffff");
        assert_eq!(of(40).0, "ff,ffffffff");
        assert_eq!(of(64), ("ffffffff,ffffffff".into(), "0-63".into()));
        assert_eq!(
            (mask(&[0x15], 40), list(&[0x8000_0000_0000_0017, 1])),
            ("00,00000015".into(), "0-2,4,63-64".into())
        );
    }
}
