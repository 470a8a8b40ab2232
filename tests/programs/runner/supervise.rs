//! Runs one command under a time limit in a process of its own that adopts every orphan the
//! command leaves, so that nothing outlives a test and what was left behind is known by name.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::processes::descendants;

/// How long processes of a command that has ended may take to disappear.
const GRACE: Duration = Duration::from_secs(2);

/// How one supervised command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Exit status in the shell's convention (128 + signal), or `None` when the limit passed.
    pub status: Option<i32>,
    /// Wall time, in milliseconds.
    pub millis: u128,
    /// Names of the processes it left behind, comma separated; empty when there were none.
    pub leftover: String,
}

/// Stops everything that is running, for a runner that is itself interrupted.
#[derive(Debug, Default)]
pub struct Cancel {
    stopped: AtomicBool,
    /// The supervisors' standard inputs, by process id: one that is closed kills its command.
    inputs: Mutex<BTreeMap<u32, ChildStdin>>,
}

impl Cancel {
    /// Whether [`Cancel::stop`] was called.
    pub fn stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Ends all supervised commands, also those that start from now on.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Keeps a supervisor's input open until it ends or everything is stopped.
    fn keep(&self, pid: u32, input: Option<ChildStdin>) {
        let mut inputs = self.inputs.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at under the lock that `stop` takes after it has set the flag.
        if let (Some(input), false) = (input, self.stopped()) {
            inputs.insert(pid, input);
        }
    }

    /// Forgets a supervisor that has ended.
    fn forget(&self, pid: u32) {
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
    }
}

/// Runs `command` through this program's `supervise` sub-command, its output going to two files.
///
/// # Errors
/// When the supervisor cannot be started or does not answer.
pub fn run(
    limit: Duration,
    [out, err]: &[PathBuf; 2],
    command: &[String],
    cancel: &Cancel,
) -> Result<Ended> {
    // Not by its path: the runner may be rebuilt while it runs.
    let mut child = Command::new("/proc/self/exe")
        .arg("supervise")
        .args([&limit.as_secs().to_string()])
        .args([out, err])
        .arg("--")
        .args(command)
        .stdin(Stdio::piped()) // Closed when the runner ends: the supervisor then cleans up.
        .stdout(Stdio::piped())
        .spawn()
        .context("starting the supervisor")?;
    cancel.keep(child.id(), child.stdin.take());
    let mut text = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut text).context("reading the supervisor's answer")?;
    }
    child.wait().context("waiting for the supervisor")?;
    cancel.forget(child.id());
    let mut fields = text.trim_end_matches('\n').splitn(3, ' ');
    let (Some(status), Some(millis)) = (fields.next(), fields.next()) else {
        bail!("the supervisor of {command:?} gave no answer, see {}", err.display());
    };
    let status = if status == "limit" { None } else { Some(status.parse()?) };
    let leftover = fields.next().unwrap_or("").to_owned();
    Ok(Ended { status, millis: millis.parse()?, leftover })
}

/// What can end the wait of a supervisor.
enum Event {
    Exited(i32),
    RunnerGone,
}

/// The `supervise` sub-command: runs `command`, prints `STATUS MILLISECONDS LEFTOVER`.
///
/// # Errors
/// When the command cannot be started or `/proc` cannot be read.
pub fn supervise(limit: Duration, out: &Path, err: &Path, command: &[String]) -> Result<()> {
    close_inherited()?;
    nix::sys::prctl::set_child_subreaper(true).context("becoming the reaper of orphans")?;
    let [program, args @ ..] = command else { bail!("no command to supervise") };
    let start = Instant::now();
    let mut child = Command::new(program)
        .args(args)
        .process_group(0) // Ctrl-C reaches the runner alone, which then closes our stdin.
        .stdin(Stdio::null())
        .stdout(File::create(out).with_context(|| format!("creating {}", out.display()))?)
        .stderr(File::create(err).with_context(|| format!("creating {}", err.display()))?)
        .spawn()
        .with_context(|| format!("starting {program}"))?;
    let (sender, events) = mpsc::channel();
    let exited = sender.clone();
    thread::spawn(move || {
        let status = child.wait().map_or(255, |s| {
            s.code().unwrap_or_else(|| 128_i32.saturating_add(s.signal().unwrap_or(127)))
        });
        exited.send(Event::Exited(status))
    });
    thread::spawn(move || {
        let end = io::copy(&mut io::stdin(), &mut io::sink());
        drop(end); // End of file or an error: either way nobody waits for the result.
        sender.send(Event::RunnerGone)
    });
    let status = match events.recv_timeout(limit) {
        Ok(Event::Exited(status)) => status.to_string(),
        Ok(Event::RunnerGone) | Err(_) => "limit".to_owned(),
    };
    let millis = start.elapsed().as_millis();
    let leftover = if status == "limit" { Vec::new() } else { settle()? };
    kill_all()?;
    println!("{status} {millis} {}", leftover.join(","));
    Ok(())
}

/// Closes what the runner was started with beyond the standard three: a program that lists its
/// descriptors would see them natively, and never in a sandbox.
fn close_inherited() -> Result<()> {
    let entries = fs::read_dir("/proc/self/fd").context("listing /proc/self/fd")?;
    let open: Vec<i32> =
        entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        // The descriptor of the listing itself is closed already.
        let _closed = nix::unistd::close(fd);
    }
    Ok(())
}

/// Waits for descendants to disappear by themselves; answers with the names of those that stay.
fn settle() -> Result<Vec<String>> {
    let start = Instant::now();
    loop {
        reap();
        let left = descendants()?;
        if left.is_empty() || start.elapsed() > GRACE {
            return Ok(left.into_iter().map(|(_, name)| name).collect());
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Kills descendants until there are none, since a dying process can leave new orphans.
fn kill_all() -> Result<()> {
    let start = Instant::now();
    loop {
        let left = descendants()?;
        if left.is_empty() {
            return Ok(());
        }
        if start.elapsed() > GRACE.saturating_mul(5) {
            bail!("processes survive SIGKILL: {left:?}");
        }
        for (pid, _) in left {
            // It may have ended meanwhile; the next round looks again.
            let _gone = kill(pid, Signal::SIGKILL);
        }
        thread::sleep(Duration::from_millis(10));
        reap();
    }
}

/// Collects the statuses of adopted orphans.
fn reap() {
    while let Ok(status) = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
}
