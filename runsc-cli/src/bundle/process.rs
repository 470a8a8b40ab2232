//! `process` of a config.json.

use super::{capabilities, scheduling};
use anyhow::{Context, bail};
use oci_spec::runtime::{PosixRlimit, PosixRlimitType, Process};
use sentry::boot::{CapabilitySets, Ids, ProcessSpec, RlimitSpec};
use std::os::unix::ffi::OsStrExt;

/// Translates it.
pub fn translate(process: &Process) -> anyhow::Result<ProcessSpec> {
    let args = process.args().as_deref().unwrap_or_default();
    if args.is_empty() {
        bail!("\"process.args\" is empty: nothing to run");
    }
    if !process.cwd().is_absolute() {
        bail!("\"process.cwd\" {:?} is not an absolute path", process.cwd());
    }
    let bytes = |list: &[String]| list.iter().map(|s| s.as_bytes().to_vec()).collect();
    let user = process.user();
    let size = process.console_size().unwrap_or_default();
    let sets = match process.capabilities() {
        None => CapabilitySets::default(),
        Some(c) => {
            let bits = |set: &Option<_>| capabilities::bits(set.iter().flatten());
            CapabilitySets {
                bounding: bits(c.bounding())?,
                effective: bits(c.effective())?,
                inheritable: bits(c.inheritable())?,
                permitted: bits(c.permitted())?,
                ambient: bits(c.ambient())?,
            }
        }
    };
    let rlimits = process.rlimits().as_deref().unwrap_or_default();
    Ok(ProcessSpec {
        args: bytes(args),
        env: bytes(process.env().as_deref().unwrap_or_default()),
        cwd: process.cwd().as_os_str().as_bytes().to_vec(),
        make_cwd: false,
        ids: Ids {
            uid: user.uid(),
            gid: user.gid(),
            groups: user.additional_gids().clone().unwrap_or_default(),
        },
        user: None,
        umask: user.umask().unwrap_or(0o022),
        capabilities: sets,
        rlimits: rlimits.iter().map(rlimit).collect::<anyhow::Result<_>>()?,
        no_new_privs: process.no_new_privileges().unwrap_or(false),
        oom_score_adj: process.oom_score_adj().unwrap_or(0),
        scheduler: process.scheduler().as_ref().map(scheduling::scheduler).transpose()?,
        io_priority: match process.io_priority() {
            Some(given) => scheduling::io_priority(given)?,
            None => 0,
        },
        affinity: match process.exec_cpu_affinity() {
            Some(given) => scheduling::final_affinity(given)?,
            None => Vec::new(),
        },
        personality: 0,
        mempolicy: Default::default(),
        cgroup: None,
        terminal: process.terminal().unwrap_or(false),
        terminal_size: (
            u16::try_from(size.width()).context("\"process.consoleSize\" is too wide")?,
            u16::try_from(size.height()).context("\"process.consoleSize\" is too high")?,
        ),
    })
}

fn rlimit(limit: &PosixRlimit) -> anyhow::Result<RlimitSpec> {
    use PosixRlimitType as T;
    let resource = match limit.typ() {
        T::RlimitCpu => libc::RLIMIT_CPU,
        T::RlimitFsize => libc::RLIMIT_FSIZE,
        T::RlimitData => libc::RLIMIT_DATA,
        T::RlimitStack => libc::RLIMIT_STACK,
        T::RlimitCore => libc::RLIMIT_CORE,
        T::RlimitRss => libc::RLIMIT_RSS,
        T::RlimitNproc => libc::RLIMIT_NPROC,
        T::RlimitNofile => libc::RLIMIT_NOFILE,
        T::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        T::RlimitAs => libc::RLIMIT_AS,
        T::RlimitLocks => libc::RLIMIT_LOCKS,
        T::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        T::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        T::RlimitNice => libc::RLIMIT_NICE,
        T::RlimitRtprio => libc::RLIMIT_RTPRIO,
        T::RlimitRttime => libc::RLIMIT_RTTIME,
    };
    if limit.soft() > limit.hard() {
        bail!("\"process.rlimits\": the soft limit of {:?} is above the hard one", limit.typ());
    }
    Ok(RlimitSpec { resource, soft: limit.soft(), hard: limit.hard() })
}
