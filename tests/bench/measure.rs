//! Single measurements: a command's wall time, the guest program's figures, and what an idle
//! sandbox costs. Every command runs under a time limit and leaves no process.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::processes::descendants;
use crate::systems::System;

/// No measured command takes longer; one that does has failed.
const LIMIT: Duration = Duration::from_secs(180);
/// A system that cannot run `true` within this time is left out.
const PROBE: Duration = Duration::from_secs(20);
/// How long a sandbox gets to come to rest before its idle cost is read.
const SETTLE: Duration = Duration::from_secs(2);
/// Over this time the CPU use of an idle sandbox is read.
const IDLE: Duration = Duration::from_secs(5);

/// What a command printed on stdout, and its wall time.
pub struct Finished {
    /// Its standard output.
    pub stdout: String,
    /// From before it was started until its end was seen.
    pub elapsed: Duration,
}

/// Runs `command` in `system` from the directory `cwd`.
///
/// # Errors
/// When it cannot be started, exits with another status than 0, or exceeds the limit.
pub fn run(system: &System, cwd: &Path, command: &[String]) -> Result<Finished> {
    run_within(LIMIT, system, cwd, command)
}

/// Runs `true` in `system`.
///
/// # Errors
/// As [`run`], within a shorter limit: some platforms hang where they do not work.
pub fn probe(system: &System, cwd: &Path) -> Result<()> {
    run_within(PROBE, system, cwd, &["true".to_owned()]).map(drop)
}

fn run_within(
    limit: Duration,
    system: &System,
    cwd: &Path,
    command: &[String],
) -> Result<Finished> {
    let start = Instant::now();
    let child = spawn(system, cwd, command)?;
    let pid = child.id();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send((child.wait_with_output(), Instant::now())));
    let answer = receiver.recv_timeout(limit);
    kill_descendants()?;
    let line = system.line(command).join(" ");
    let Ok((output, end)) = answer else {
        bail!("`{line}` (process {pid}) did not end within {limit:?}");
    };
    let output = output.with_context(|| format!("running `{line}`"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let last: Vec<_> = text.lines().rev().take(3).collect();
        bail!("`{line}` ended with {}: {}", output.status, last.join(" / "));
    }
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(Finished { stdout, elapsed: end.saturating_duration_since(start) })
}

fn spawn(system: &System, cwd: &Path, command: &[String]) -> Result<Child> {
    let line = system.line(command);
    let [program, args @ ..] = line.as_slice() else { bail!("an empty command") };
    Command::new(program)
        .args(args)
        .current_dir(cwd)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {program}"))
}

/// Runs the guest program and reads its `NAME NUMBER` lines.
///
/// # Errors
/// As [`run`], and when the output has another form.
pub fn guest(system: &System, cwd: &Path, guest: &[String]) -> Result<BTreeMap<String, f64>> {
    let text = run(system, cwd, guest)?.stdout;
    let mut values = BTreeMap::new();
    for line in text.lines() {
        let (name, number) = line.split_once(' ').context("bench-guest printed no figure")?;
        values.insert(name.to_owned(), number.parse().context("bench-guest's figure")?);
    }
    Ok(values)
}

/// What a sandbox costs while its program sleeps.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    /// Proportional set size of all its processes, in MiB.
    pub pss_mib: f64,
    /// CPU time of all its processes, in per cent of one CPU.
    pub cpu_percent: f64,
}

/// Starts `sleep` in `system` and reads what its processes use.
///
/// # Errors
/// When it does not start or ends early.
pub fn idle(system: &System, cwd: &Path) -> Result<Idle> {
    let mut child = spawn(system, cwd, &["sleep".to_owned(), "60".to_owned()])?;
    thread::sleep(SETTLE);
    let read = || -> Result<Idle> {
        let (before, start) = (cpu_ticks()?, Instant::now());
        thread::sleep(IDLE);
        let ticks = cpu_ticks()?.saturating_sub(before);
        let seconds = start.elapsed().as_secs_f64();
        let per_second =
            nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.unwrap_or(100) as f64;
        let kib: u64 = descendants()?.iter().filter_map(|(pid, _)| pss_kib(*pid)).sum();
        Ok(Idle {
            pss_mib: kib as f64 / 1024.0,
            cpu_percent: 100.0 * ticks as f64 / per_second / seconds,
        })
    };
    let values = read();
    if let Some(status) = child.try_wait()? {
        bail!("`{}` ended early with {status}", system.line(&["sleep".to_owned()]).join(" "));
    }
    kill_descendants()?; // This also collects the child's status.
    values
}

/// Proportional set size of a process; `None` when it has ended.
fn pss_kib(pid: Pid) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// User and system time of all descendants so far, in clock ticks.
fn cpu_ticks() -> Result<u64> {
    let ticks = |pid: Pid| -> Option<u64> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(") ")?;
        // After the name: state is field 3 of proc(5), utime and stime are 14 and 15.
        let mut fields = rest.split(' ').skip(11);
        let user: u64 = fields.next()?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        user.checked_add(system)
    };
    Ok(descendants()?.into_iter().filter_map(|(pid, _)| ticks(pid)).sum())
}

/// Kills and reaps everything below this process.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn kill_descendants() -> Result<()> {
    loop {
        while let Ok(status) = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                break;
            }
        }
        let left = descendants()?;
        if left.is_empty() {
            return Ok(());
        }
        for (pid, _) in left {
            // It may have ended meanwhile; the next round looks again.
            let _gone = kill(pid, Signal::SIGKILL);
        }
        thread::sleep(Duration::from_millis(2));
    }
}
