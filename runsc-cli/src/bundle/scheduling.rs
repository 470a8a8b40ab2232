//! How a config.json wants its process scheduled (`sched(7)`, `ioprio_set(2)`). The sandbox's kernel keeps and reports it;
//! who runs when is for the host's scheduler to say.

use anyhow::{Context, bail};
use oci_spec::runtime::{
    ExecCPUAffinity, IOPriorityClass, LinuxIOPriority, LinuxSchedulerFlag, LinuxSchedulerPolicy,
    Scheduler,
};
use sentry::boot::SchedulerSpec;

/// Least runtime and longest period of `SCHED_DEADLINE`, in nanoseconds, as the host's kernel has them.
const RUNTIME_MIN: u64 = 1 << 10;
const PERIOD_MAX: u64 = (1 << 22) * 1000;
/// Shortest period.
const PERIOD_MIN: u64 = 100_000;

/// Translates `process.scheduler`.
pub fn scheduler(given: &Scheduler) -> anyhow::Result<SchedulerSpec> {
    use LinuxSchedulerPolicy as P;
    let policy = match given.policy() {
        P::SchedOther => libc::SCHED_OTHER,
        P::SchedFifo => libc::SCHED_FIFO,
        P::SchedRr => libc::SCHED_RR,
        P::SchedBatch => libc::SCHED_BATCH,
        P::SchedIdle => libc::SCHED_IDLE,
        P::SchedDeadline => libc::SCHED_DEADLINE,
        P::SchedIso => bail!("\"process.scheduler\": Linux has no policy SCHED_ISO"),
    };
    let real_time = matches!(given.policy(), P::SchedFifo | P::SchedRr);
    let priority = given.priority().unwrap_or(0);
    let allowed = if real_time { 1..=99 } else { 0..=0 };
    if !allowed.contains(&priority) {
        bail!("\"process.scheduler\": this policy does not have the priority {priority}");
    }
    let nice = given.nice().unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        bail!("\"process.scheduler\": niceness {nice} must lie between -20 and 19");
    }
    let mut deadline = [0; 3];
    if *given.policy() == P::SchedDeadline {
        let of = |value: &Option<u64>| value.unwrap_or(0);
        let (runtime, limit) = (of(given.runtime()), of(given.deadline()));
        let period = given.period().filter(|p| *p != 0).unwrap_or(limit);
        // The kernel's own checks (`__checkparam_dl`).
        let fits = runtime >= RUNTIME_MIN
            && runtime <= limit
            && limit <= period
            && (PERIOD_MIN..=PERIOD_MAX).contains(&period);
        if !fits {
            bail!(
                "\"process.scheduler\": SCHED_DEADLINE needs runtime <= deadline <= period, a runtime of at least \
                 {RUNTIME_MIN} ns and a period between 0.1 ms and 4.2 s: invalid argument"
            );
        }
        deadline = [runtime, limit, period];
    }
    let flags = given.flags().as_deref().unwrap_or_default();
    Ok(SchedulerSpec {
        policy: policy as u32,
        nice,
        priority: priority as u32,
        reset_on_fork: flags.contains(&LinuxSchedulerFlag::SchedResetOnFork),
        deadline,
    })
}

/// One more than the highest number of a CPU on any Linux (`CONFIG_NR_CPUS`).
const CPUS_MAX: usize = 8192;

/// Where a process of `exec` may run: what `process.execCPUAffinity` says at last, which is what it says at first if
/// that is all.
pub fn final_affinity(given: &ExecCPUAffinity) -> anyhow::Result<Vec<u64>> {
    let last = given.cpu_affinity_final().as_deref().filter(|list| !list.is_empty());
    cpus(last.or(given.initial().as_deref()).unwrap_or_default())
}

/// Where the runtime may run before that.
pub fn initial_affinity(given: &ExecCPUAffinity) -> anyhow::Result<Vec<u64>> {
    cpus(given.initial().as_deref().unwrap_or_default())
}

/// The set of a list of CPUs.
fn cpus(list: &str) -> anyhow::Result<Vec<u64>> {
    set_of(list, CPUS_MAX).context("\"process.execCPUAffinity\"")
}

/// The set of a list of numbers below `end`, as `0-3,7`: a bit each, 64 to a word.
pub fn set_of(list: &str, end: usize) -> anyhow::Result<Vec<u64>> {
    let mut set = vec![0; end.div_ceil(64)];
    for range in list.split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<usize>().ok().filter(|number| *number < end);
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            bail!("{range:?} does not name numbers below {end}");
        };
        if first > last {
            bail!("{range:?} ends before it begins");
        }
        for number in first..=last {
            *set.get_mut(number / 64).context("no such number")? |= 1_u64 << (number % 64);
        }
    }
    let used = set.iter().rposition(|word| *word != 0).map_or(0, |last| last + 1);
    set.truncate(used);
    Ok(set)
}

/// Translates `process.ioPriority` to the number of `ioprio_set(2)`.
pub fn io_priority(given: &LinuxIOPriority) -> anyhow::Result<u32> {
    let class = match given.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    match u32::try_from(given.priority()) {
        Ok(level @ 0..=7) => Ok(class << 13 | level),
        _ => {
            bail!("\"process.ioPriority\": priority {} must lie between 0 and 7", given.priority())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of(value: Value) -> Result<SchedulerSpec, String> {
        scheduler(&serde_json::from_value(value).unwrap()).map_err(|e| e.to_string())
    }

    #[test]
    fn policies() {
        let batch = of(json!({ "policy": "SCHED_BATCH", "nice": 5 })).unwrap();
        assert_eq!((batch.policy, batch.nice), (libc::SCHED_BATCH as u32, 5));
        let fifo =
            json!({ "policy": "SCHED_FIFO", "priority": 3, "flags": ["SCHED_RESET_ON_FORK"] });
        assert!(of(fifo).unwrap().reset_on_fork);
        assert!(of(json!({ "policy": "SCHED_FIFO" })).is_err());
        assert!(of(json!({ "policy": "SCHED_OTHER", "nice": 20 })).is_err());
        let deadline = |runtime: u64, limit: u64, period: u64| {
            of(
                json!({ "policy": "SCHED_DEADLINE", "runtime": runtime, "deadline": limit, "period": period }),
            )
        };
        assert_eq!(deadline(1_000_000, 2_000_000, 0).unwrap().deadline[2], 2_000_000);
        for (runtime, limit, period) in
            [(0, 9, 9), (3_000_000, 2_000_000, 4_000_000), (1023, 200_000, 0)]
        {
            assert!(deadline(runtime, limit, period).unwrap_err().contains("invalid argument"));
        }
    }

    #[test]
    fn sets_of_cpus() {
        assert_eq!(cpus("0-2,7,64").unwrap(), [0x87, 1]);
        assert!(cpus("").unwrap().is_empty());
        for bad in ["2-1", "8192", "x", "1-", "99999999999999999999"] {
            assert!(cpus(bad).is_err(), "{bad}");
        }
        let of = |value| final_affinity(&serde_json::from_value(value).unwrap()).unwrap();
        assert_eq!(of(json!({ "initial": "0", "final": "1" })), [2]);
        assert_eq!(of(json!({ "initial": "0" })), [1]);
    }

    #[test]
    fn io_priorities() {
        let of = |value| io_priority(&serde_json::from_value(value).unwrap());
        assert_eq!(of(json!({ "class": "IOPRIO_CLASS_BE", "priority": 4 })).unwrap(), 2 << 13 | 4);
        assert!(of(json!({ "class": "IOPRIO_CLASS_BE", "priority": 8 })).is_err());
    }
}
