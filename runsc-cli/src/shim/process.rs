//! A process that containerd knows: a container's first, or one of `exec`.

use super::events::{Event, now};
use super::memory::MemoryWatch;
use super::settings::Settings;
use super::stdio::{self, Held, Paths};
use anyhow::{Context, bail};
use containerd_shim_protos::events::task::TaskExit;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::topics::TASK_EXIT_EVENT_TOPIC;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// How a process has ended.
#[derive(Debug, Clone)]
pub struct Exit {
    /// Its exit status.
    pub status: u32,
    /// When.
    pub at: Timestamp,
}

/// What changes about a process.
#[derive(Default)]
pub struct Now {
    /// The host's process that stands for it; 0 before it is there.
    pub pid: i32,
    /// A descriptor of that process: its id may be another's by the time that somebody sends a signal.
    handle: Option<Arc<OwnedFd>>,
    /// It has been started.
    pub started: bool,
    /// It has ended.
    pub exit: Option<Exit>,
    /// Its streams.
    pub held: Held,
}

/// A process.
pub struct Process {
    /// The id of its container.
    pub container: String,
    /// Its own id, empty for the first.
    pub exec_id: String,
    /// Where its streams lead.
    pub paths: Paths,
    /// What `exec` is to run, as JSON.
    pub spec: Vec<u8>,
    now: Mutex<Now>,
    ended: Condvar,
}

impl Process {
    /// One that is not there yet.
    pub fn new(container: &str, exec_id: &str, paths: Paths, spec: Vec<u8>) -> Self {
        let (container, exec_id) = (container.to_owned(), exec_id.to_owned());
        Self { container, exec_id, paths, spec, now: Mutex::default(), ended: Condvar::new() }
    }

    /// How it is. Whoever holds this delays the news of its end.
    pub fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a signal to the host's process that stands for it, which passes it on; false if that has gone.
    pub fn signal(&self, number: i32) -> anyhow::Result<bool> {
        let signal =
            Signal::from_named_raw(number).with_context(|| format!("invalid signal {number}"))?;
        let Some(handle) = self.now().handle.clone() else { return Ok(false) };
        match pidfd_send_signal(&handle, signal) {
            Ok(()) => Ok(true),
            Err(Errno::SRCH) => Ok(false),
            Err(e) => Err(e).with_context(|| format!("cannot send signal {number}")),
        }
    }

    /// Waits for its end.
    pub fn wait(&self) -> Exit {
        let mut now = self.now();
        loop {
            if let Some(exit) = &now.exit {
                return exit.clone();
            }
            now = self.ended.wait(now).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Runs a command of runsc that makes the process, and gives the streams to it. The result is the process's id.
    pub fn launch(
        &self,
        now: &mut Now,
        settings: &Settings,
        bundle: &Path,
        command: &[&str],
    ) -> anyhow::Result<()> {
        let (mut held, given) = stdio::open(&self.paths)?;
        let name = if self.exec_id.is_empty() { "init" } else { &self.exec_id };
        let file = |kind: &str| bundle.join(format!("runsc-{name}.{kind}"));
        let (log, pid_file) = (file("log"), file("pid"));
        let mut runsc = Command::new("/proc/self/exe");
        runsc.arg0("runsc").args(&settings.flags).arg("--log").arg(&log);
        runsc.args(["--log-format", "json"]).args(command).arg("--pid-file").arg(&pid_file);
        if let Some(socket) = given.console_socket() {
            runsc.arg("--console-socket").arg(socket);
        }
        let mut given = given;
        let [stdin, stdout, stderr] = std::mem::replace(&mut given.streams, null());
        let status = runsc
            .arg(&self.container)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .current_dir(bundle)
            .status()
            .context("cannot execute runsc")?;
        // It holds our copies of the streams.
        drop(runsc);
        if !status.success() {
            bail!("{}", last_error(&log).unwrap_or_else(|| format!("runsc failed: {status}")));
        }
        given.take_terminal(&self.paths, &mut held)?;
        let pid = fs::read_to_string(&pid_file)
            .with_context(|| format!("cannot read {}", pid_file.display()))?;
        now.pid = pid.trim().parse().context("bad process id")?;
        // It is a child of ours by now, or will be, and nobody reaps it before `watch` is told of its end. One that
        // cannot be found has ended.
        let pid = Pid::from_raw(now.pid);
        now.handle = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()).map(Arc::new);
        now.held = held;
        Ok(())
    }

    /// Starts a thread that waits for its end, asks `status` how it ended, and tells containerd; and, until then, of the news
    /// of `memory`.
    pub fn watch(
        self: &Arc<Self>,
        started: &Now,
        events: Sender<Event>,
        mut memory: MemoryWatch,
        status: impl FnOnce() -> u32 + Send + 'static,
    ) {
        let process = Arc::clone(self);
        let (pid, handle) = (started.pid, started.handle.clone());
        std::thread::spawn(move || {
            if let Some(fd) = handle {
                loop {
                    let all = [fd.as_fd()].into_iter().chain(memory.fds());
                    let mut fds: Vec<_> =
                        all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
                    let waited = poll(&mut fds, PollTimeout::NONE);
                    let ended =
                        waited.is_ok() && fds.first().is_some_and(|fd| fd.any() == Some(true));
                    // What was killed before the end is told before it.
                    memory.look(&process.container, &events);
                    if ended {
                        break;
                    }
                }
            }
            let exit = Exit { status: status(), at: now() };
            let mut event = TaskExit::new();
            event.container_id.clone_from(&process.container);
            event.id =
                if process.exec_id.is_empty() { &process.container } else { &process.exec_id }
                    .to_owned();
            event.pid = u32::try_from(pid).unwrap_or(0);
            event.exit_status = exit.status;
            event.exited_at = Some(exit.at.clone()).into();
            let mut now = process.now();
            now.held.close();
            now.exit = Some(exit);
            process.ended.notify_all();
            // Sent before the lock is given back, so that nothing of what follows overtakes it.
            let _ = events.send((TASK_EXIT_EVENT_TOPIC, Box::new(event)));
        });
    }
}

fn null() -> [std::process::Stdio; 3] {
    std::array::from_fn(|_| std::process::Stdio::null())
}

/// The last error in a log of JSON lines.
fn last_error(log: &Path) -> Option<String> {
    let text = fs::read_to_string(log).ok()?;
    let lines = text.lines().rev().filter_map(|line| serde_json::from_str(line).ok());
    lines
        .filter(|line: &serde_json::Value| line["level"] == "error")
        .find_map(|line| Some(line["msg"].as_str()?.to_owned()))
}
