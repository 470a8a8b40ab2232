//! Files of the memory controller.

use super::file::{Spec, Subject, number, parse, parse_flag};
use crate::errno::{Errno, Result};
use crate::kernel::cgroup::memory::Memory;
use crate::kernel::cgroup::{Controllers, Watched};
use crate::mm::PAGE_SIZE;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) const FILES: &[Spec] = &[
    Spec::read("memory.current", |s| Ok(format!("{}\n", s.group.in_memory(s.kernel).charged())))
        .of(Controllers::MEMORY),
    Spec::read("memory.events", events).of(Controllers::MEMORY).watched(Watched::MemoryEvents),
    Spec::both("memory.high", |s| Ok(number(&s.group.memory.high)), |s, t| set(s, t, |m| &m.high))
        .of(Controllers::MEMORY),
    Spec::both("memory.low", |s| Ok(number(&s.group.memory.low)), |s, t| set(s, t, |m| &m.low))
        .of(Controllers::MEMORY),
    Spec::both("memory.max", |s| Ok(number(&s.group.memory.max)), |s, t| set(s, t, |m| &m.max))
        .of(Controllers::MEMORY),
    Spec::both("memory.min", |s| Ok(number(&s.group.memory.min)), |s, t| set(s, t, |m| &m.min))
        .of(Controllers::MEMORY),
    Spec::both(
        "memory.oom.group",
        |s| Ok(format!("{}\n", u8::from(s.group.memory.oom_group.load(Ordering::Relaxed)))),
        |s, text| {
            let flag = parse_flag(text).map_err(|_| Errno::EINVAL)?;
            s.group.memory.oom_group.store(flag, Ordering::Relaxed);
            Ok(())
        },
    )
    .of(Controllers::MEMORY),
    Spec::read("memory.peak", |s| {
        let now = s.group.in_memory(s.kernel).charged();
        Ok(format!("{}\n", s.group.memory.peak.load(Ordering::Relaxed).max(now)))
    })
    .of(Controllers::MEMORY),
    Spec::read("memory.stat", |s| {
        let used = s.group.in_memory(s.kernel);
        Ok(format!(
            "anon {}\nfile {}\nshmem {}\nfile_mapped {}\n",
            used.anonymous,
            used.file.saturating_add(used.shared),
            used.shared,
            used.file.saturating_add(used.shared)
        ))
    })
    .of(Controllers::MEMORY),
    Spec::read("memory.swap.current", |_| Ok("0\n".into())).of(Controllers::MEMORY),
    Spec::both(
        "memory.swap.max",
        |s| Ok(number(&s.group.memory.swap_max)),
        |s, t| set(s, t, |m| &m.swap_max),
    )
    .of(Controllers::MEMORY),
];

/// Sets a limit: bytes, with a suffix `K`, `M`, `G` or `T`, rounded down to pages.
fn set(s: &Subject<'_>, text: &str, which: fn(&Memory) -> &AtomicU64) -> Result<()> {
    let value = match text {
        "max" => u64::MAX,
        _ => size(text)? / PAGE_SIZE * PAGE_SIZE,
    };
    which(&s.group.memory).store(value, Ordering::Relaxed);
    s.group.watch_memory(s.kernel);
    Ok(())
}

fn size(text: &str) -> Result<u64> {
    let shift = match text.bytes().last().map(|c| c.to_ascii_uppercase()) {
        Some(b'K') => 10,
        Some(b'M') => 20,
        Some(b'G') => 30,
        Some(b'T') => 40,
        _ => return parse(text),
    };
    let digits = text.get(..text.len() - 1).ok_or(Errno::EINVAL)?;
    let number: u64 = digits.parse().map_err(|_| Errno::EINVAL)?;
    number.checked_mul(1 << shift).ok_or(Errno::EINVAL)
}

fn events(s: &Subject<'_>) -> Result<String> {
    let events = &s.group.memory.events;
    let n = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Ok(format!(
        "low 0\nhigh {}\nmax {}\noom {}\noom_kill {}\noom_group_kill {}\n",
        n(&events.high),
        n(&events.max),
        n(&events.oom),
        n(&events.oom_kill),
        n(&events.oom_group_kill)
    ))
}
