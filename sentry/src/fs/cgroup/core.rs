//! The files that every control group has.

use super::file::{Spec, Subject, line, parse, parse_flag};
use super::may_move;
use crate::errno::{Errno, Result};
use crate::kernel::cgroup::{Controllers, Watched};
use crate::kernel::current;
use std::fmt::Write;

pub(super) const FILES: &[Spec] = &[
    Spec::read("cgroup.controllers", |s| Ok(s.group.controllers().line())),
    Spec::read("cgroup.events", |s| {
        let (populated, frozen) = (s.group.is_populated(), s.group.has_settled(s.kernel));
        Ok(format!("populated {}\nfrozen {}\n", u8::from(populated), u8::from(frozen)))
    })
    .watched(Watched::Events),
    Spec::both(
        "cgroup.freeze",
        |s| Ok(format!("{}\n", u8::from(s.group.freeze_wanted()))),
        |s, text| {
            s.group.set_frozen(s.kernel, parse_flag(text)?);
            Ok(())
        },
    ),
    Spec::write_only("cgroup.kill", |s, text| {
        if !parse_flag(text)? {
            return Err(Errno::ERANGE);
        }
        s.group.kill(s.kernel);
        Ok(())
    }),
    Spec::both("cgroup.max.depth", |s| Ok(line(s.group.most()[0])), |s, text| set_most(s, 0, text)),
    Spec::both(
        "cgroup.max.descendants",
        |s| Ok(line(s.group.most()[1])),
        |s, text| set_most(s, 1, text),
    ),
    Spec::both("cgroup.procs", |s| processes(s, false), move_process),
    Spec::read("cgroup.stat", |s| {
        let below = s.group.subtree().len() - 1;
        Ok(format!("nr_descendants {below}\nnr_dying_descendants 0\n"))
    }),
    Spec::both(
        "cgroup.subtree_control",
        |s| Ok(s.group.enabled().line()),
        |s, text| {
            let (on, off) = Controllers::parse_changes(text)?;
            s.group.enable(s.kernel, on, off)
        },
    ),
    // Threads of one process stay in one group: there are no threaded subtrees.
    Spec::both("cgroup.threads", |s| processes(s, true), |_, _| Err(Errno::EOPNOTSUPP)),
    Spec::both(
        "cgroup.type",
        |_| Ok("domain\n".into()),
        |_, text| match text {
            "threaded" => Err(Errno::EOPNOTSUPP),
            _ => Err(Errno::EINVAL),
        },
    ),
];

fn set_most(s: &Subject<'_>, which: usize, text: &str) -> Result<()> {
    let value = parse(text)?;
    s.group.set_most(|most| {
        if let Some(place) = most.get_mut(which) {
            *place = value;
        }
    });
    Ok(())
}

/// The processes in the group itself, or their threads, as the reader numbers them (0: not in its pid
/// namespace).
fn processes(s: &Subject<'_>, threads: bool) -> Result<String> {
    let reader = current().ok_or(Errno::ESRCH)?;
    let mut out = String::new();
    for process in s.group.members(s.kernel) {
        let ids = match threads {
            false => vec![process.tgid()],
            true => process.tasks().iter().map(|t| t.tid()).collect(),
        };
        for id in ids {
            let _ = writeln!(out, "{}", reader.local_id(id));
        }
    }
    Ok(out)
}

fn move_process(s: &Subject<'_>, text: &str) -> Result<()> {
    let writer = current().ok_or(Errno::ESRCH)?;
    let id: i32 = text.parse().map_err(|_| Errno::EINVAL)?;
    let process = match id {
        ..0 => return Err(Errno::EINVAL),
        0 => writer.group().clone(),
        _ => match writer.find_group(id) {
            Ok(process) => process,
            // A thread's id stands for its process.
            Err(_) => writer.find_task(id)?.group().clone(),
        },
    };
    may_move(&writer, &process.cgroup(), s.group)?;
    s.group.attach(s.kernel, &process)
}
