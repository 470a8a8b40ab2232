//! Files of the cpu controller.

use super::file::{Spec, Subject, parse};
use crate::errno::{Errno, Result};
use crate::kernel::cgroup::Controllers;
use std::sync::atomic::Ordering;

/// Nanoseconds in a microsecond, the unit of the files.
const US: u64 = 1000;
/// Shortest and longest period, and shortest quota, in microseconds.
const PERIODS: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;
const LEAST_QUOTA: u64 = 1_000;

pub(super) const FILES: &[Spec] = &[
    Spec::both("cpu.max", read_max, write_max).of(Controllers::CPU),
    Spec::both(
        "cpu.max.burst",
        |s| Ok(format!("{}\n", s.group.cpu.bandwidth().burst / US)),
        |s, text| {
            let burst = parse(text)?;
            if burst.saturating_mul(US) > s.group.cpu.bandwidth().quota {
                return Err(Errno::EINVAL);
            }
            s.group.set_bandwidth(s.kernel, |b| b.burst = burst.saturating_mul(US));
            Ok(())
        },
    )
    .of(Controllers::CPU),
    Spec::read("cpu.stat", read_stat),
    Spec::both(
        "cpu.weight",
        |s| Ok(format!("{}\n", s.group.cpu.weight.load(Ordering::Relaxed))),
        |s, text| {
            let weight: u64 = text.parse().map_err(|_| Errno::EINVAL)?;
            if !(1..=10_000).contains(&weight) {
                return Err(Errno::ERANGE);
            }
            s.group.cpu.weight.store(weight, Ordering::Relaxed);
            Ok(())
        },
    )
    .of(Controllers::CPU),
];

fn read_max(s: &Subject<'_>) -> Result<String> {
    let b = s.group.cpu.bandwidth();
    let period = b.period / US;
    Ok(match b.quota {
        u64::MAX => format!("max {period}\n"),
        quota => format!("{} {period}\n", quota / US),
    })
}

fn write_max(s: &Subject<'_>, text: &str) -> Result<()> {
    let mut words = text.split_ascii_whitespace();
    let quota = parse(words.next().ok_or(Errno::EINVAL)?)?;
    let period = match words.next() {
        Some(word) => word.parse().map_err(|_| Errno::EINVAL)?,
        None => s.group.cpu.bandwidth().period / US,
    };
    if words.next().is_some() || !PERIODS.contains(&period) || quota < LEAST_QUOTA {
        return Err(Errno::EINVAL);
    }
    s.group.set_bandwidth(s.kernel, |b| {
        b.quota = quota.saturating_mul(US);
        b.period = period * US;
    });
    Ok(())
}

fn read_stat(s: &Subject<'_>) -> Result<String> {
    let (user, all) = s.group.cpu_used(s.kernel);
    let (user, all) = (user / US, all / US);
    let system = all.saturating_sub(user);
    let mut out = format!("usage_usec {all}\nuser_usec {user}\nsystem_usec {system}\n");
    if s.group.controllers().contains(Controllers::CPU) {
        let b = s.group.cpu.bandwidth();
        let (periods, throttled, time) = (b.periods, b.throttled_periods, b.throttled_time / US);
        out.push_str(&format!(
            "nr_periods {periods}\nnr_throttled {throttled}\nthrottled_usec {time}\nnr_bursts 0\nburst_usec 0\n"
        ));
    }
    Ok(out)
}
