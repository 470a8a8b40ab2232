//! Files of the pids controller.

use super::file::{Spec, number, parse};
use crate::errno::Errno;
use crate::kernel::cgroup::{Controllers, Watched};
use std::sync::atomic::Ordering;

/// Most that `pids.max` takes (`PID_MAX_LIMIT`).
const MOST: u64 = 4 << 20;

pub(super) const FILES: &[Spec] = &[
    Spec::read("pids.current", |s| Ok(number(&s.group.pids.current))).of(Controllers::PIDS),
    Spec::read("pids.events", |s| {
        Ok(format!("max {}\n", s.group.pids.refused.load(Ordering::Relaxed)))
    })
    .of(Controllers::PIDS)
    .watched(Watched::PidsEvents),
    Spec::both(
        "pids.max",
        |s| Ok(number(&s.group.pids.max)),
        |s, text| {
            let most = parse(text)?;
            if most != u64::MAX && most > MOST {
                return Err(Errno::EINVAL);
            }
            s.group.pids.max.store(most, Ordering::Relaxed);
            Ok(())
        },
    )
    .of(Controllers::PIDS),
    Spec::read("pids.peak", |s| Ok(number(&s.group.pids.peak))).of(Controllers::PIDS),
];
