//! A container from `create` to `delete`.

pub mod create;
pub mod hooks;
pub mod terminal;

use crate::cli::HostSeccomp;
use crate::failure::Failure;
use crate::log;
use crate::sandbox;
use crate::sandbox::control::Control;
use crate::state::{Entry, OCI_VERSION, SOCKET, State};
use anyhow::{Context, bail};
use nix::sys::signal::Signal;
use sentry::boot::protocol::{Reply, Request, Status, Target};
use serde_json::{Value, json};
use std::path::Path;

/// Where a container is in its life, in the words of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Being set up.
    Creating,
    /// Its first process has not been started.
    Created,
    /// Its first process runs.
    Running,
    /// It runs, but for `pause`.
    Paused,
    /// Its processes have ended.
    Stopped,
}

impl Phase {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Creating => "creating",
            Phase::Created => "created",
            Phase::Running => "running",
            Phase::Paused => "paused",
            Phase::Stopped => "stopped",
        }
    }
}

/// A container that exists.
pub struct Container {
    entry: Entry,
    state: Option<State>,
    id: String,
}

impl Container {
    /// For commands that change it: nobody else does meanwhile.
    pub fn open(root: &Path, id: &str) -> anyhow::Result<Container> {
        let entry = Entry::open(root, id)?;
        let state = entry.load()?;
        Ok(Container { entry, state, id: id.into() })
    }

    /// For commands that only look.
    pub fn look(root: &Path, id: &str) -> anyhow::Result<Container> {
        let entry = Entry::look(root, id)?;
        let state = entry.load()?;
        Ok(Container { entry, state, id: id.into() })
    }

    /// One whose state cannot be read: to be removed as far as it is known.
    pub fn damaged(root: &Path, id: &str) -> anyhow::Result<Container> {
        Ok(Container { entry: Entry::open(root, id)?, state: None, id: id.into() })
    }

    /// What is kept about it.
    pub fn state(&self) -> anyhow::Result<&State> {
        self.state.as_ref().with_context(|| {
            format!("container {:?} was not set up completely: delete it with --force", self.id)
        })
    }

    /// Its first process has a terminal.
    pub fn has_terminal(&self) -> bool {
        let process = self.state.as_ref().and_then(|state| state.process.as_ref());
        process.is_some_and(|process| process.terminal().unwrap_or(false))
    }

    /// The exit status of its first process, once that has ended by itself.
    pub fn exit_status(&self) -> Option<u8> {
        self.entry.exit_status()
    }

    /// A connection to its sandbox.
    pub fn connect(&self) -> anyhow::Result<Control> {
        let pod = self.state.as_ref().and_then(|state| state.pod.as_deref());
        connect(self.entry.dir(), pod, &self.id)
    }

    /// Where it is in its life.
    pub fn phase(&self) -> Phase {
        let unfinished = self.state.as_ref().is_none_or(|state| state.sandbox.is_none());
        if unfinished && self.entry.is_busy() {
            return Phase::Creating;
        }
        let Some(state) = &self.state else { return Phase::Stopped };
        if !state.sandbox.is_some_and(|process| process.is_alive()) {
            return Phase::Stopped;
        }
        if !state.complete {
            return Phase::Creating;
        }
        if state.sandbox.is_some_and(|process| crate::cgroup::is_frozen(process.pid)) {
            return Phase::Paused;
        }
        let status = self.connect().and_then(|control| control.ask(&Request::Status, &[]));
        match status {
            Ok(Reply::Status(Status::Created)) => Phase::Created,
            Ok(Reply::Status(Status::Paused)) => Phase::Paused,
            Ok(_) => Phase::Running,
            // It may have ended in this moment.
            Err(_) if state.sandbox.is_some_and(|process| process.is_alive()) => Phase::Running,
            Err(_) => Phase::Stopped,
        }
    }

    /// A connection to the sandbox of a container that runs.
    pub fn running(&self) -> anyhow::Result<Control> {
        match self.phase() {
            Phase::Running | Phase::Paused | Phase::Created => self.connect(),
            phase => bail!("container not running: {:?} is {}", self.id, phase.name()),
        }
    }

    /// The state that the specification describes, for `state`, `list` and hooks.
    pub fn describe(&self, phase: Phase) -> Value {
        describe(&self.id, self.state.as_ref(), phase)
    }

    /// Runs the first process.
    pub fn start(&self, mode: HostSeccomp) -> anyhow::Result<()> {
        match self.phase() {
            Phase::Created => {}
            Phase::Stopped => bail!("cannot start a container that has stopped"),
            Phase::Running | Phase::Paused => bail!("cannot start an already running container"),
            Phase::Creating => bail!("cannot start a container that is being created"),
        }
        self.start_on(&self.connect()?, mode)
    }

    /// Runs the first process over an existing connection.
    pub fn start_on(&self, control: &Control, mode: HostSeccomp) -> anyhow::Result<()> {
        let state = self.state()?;
        if let Some(process) = state.sandbox.filter(|_| state.network_later) {
            sandbox::give_network(process.pid, control, mode)
                .context("cannot give the sandbox the interfaces of its network namespace")?;
        }
        control.ask(&Request::Start, &[])?;
        if let Some(found) = &state.hooks {
            let description = self.describe(Phase::Running);
            let done =
                hooks::run("poststart", found.poststart().as_ref(), &description, &state.bundle);
            if let Err(e) = done {
                // The specification wants an error, and a container that has stopped.
                if let Err(e) = self.kill(Target::All, Signal::SIGKILL as i32) {
                    log::warn(&format!("{e:#}"));
                }
                return Err(Failure { message: format!("{e:#}"), status: 1 }.into());
            }
        }
        Ok(())
    }

    /// Lets its processes go on, if somebody has frozen them from outside: they could not end.
    fn thaw(&self) {
        let processes = self.state.iter().flat_map(|state| [state.sandbox, state.gofer]);
        for process in processes.flatten() {
            crate::cgroup::thaw(process.pid);
        }
    }

    /// Sends a signal to its first process, or to all.
    pub fn kill(&self, to: Target, number: i32) -> anyhow::Result<()> {
        if number == Signal::SIGKILL as i32 {
            self.thaw();
        }
        let phase = self.phase();
        let state = self.state()?;
        if phase == Phase::Stopped {
            bail!("container not running: {:?} has stopped", self.id);
        }
        let fatal = number == Signal::SIGKILL as i32 || number == Signal::SIGTERM as i32;
        if phase == Phase::Creating || (phase == Phase::Created && fatal) {
            // There is nobody inside yet: the sandbox itself is what a signal ends.
            return state.sandbox.map_or(Ok(()), |process| process.kill());
        }
        let told =
            self.connect().and_then(|control| control.ask(&Request::Signal { to, number }, &[]));
        match (told, state.sandbox) {
            (Ok(_), _) => Ok(()),
            (Err(e), _) if e.is::<Failure>() => Err(e),
            (Err(_), Some(process)) if !process.is_alive() => {
                bail!("container not running: {:?} has stopped", self.id)
            }
            (Err(e), _) => Err(e),
        }
    }

    /// Removes a container that has stopped, or any if it is `forced`: whatever of it there is.
    pub fn delete(self, forced: bool) -> anyhow::Result<()> {
        if forced {
            self.thaw();
        }
        let phase = self.phase();
        match phase {
            Phase::Stopped => {}
            _ if forced => {}
            // As runc: nothing has run yet that could be lost.
            Phase::Created => {}
            phase => bail!(
                "cannot delete container {:?} that is not stopped: {} (use --force to kill it first)",
                self.id,
                phase.name()
            ),
        }
        if let Some(state) = &self.state {
            if state.pod.is_some()
                && let Ok(control) = self.connect()
            {
                // If the sandbox has ended there is nothing left to tell it.
                let _ = control.ask(&Request::Destroy, &[]);
            }
            end_processes(state)?;
            if let Some(group) = &state.cgroup
                && let Err(e) = group.remove()
            {
                log::warn(&format!("{e:#}"));
            }
            if let Some(found) = &state.hooks {
                let description = self.describe(Phase::Stopped);
                let done =
                    hooks::run("poststop", found.poststop().as_ref(), &description, &state.bundle);
                if let Err(e) = done {
                    log::warn(&format!("{e:#}"));
                }
            }
        }
        self.entry.remove()
    }
}

/// A connection to the sandbox of a container, or to another's (`pod`) that it shares.
fn connect(dir: &Path, pod: Option<&str>, id: &str) -> anyhow::Result<Control> {
    let Some(pod) = pod else { return Control::connect(dir, SOCKET) };
    let control = Control::connect(&dir.with_file_name(pod), SOCKET)?;
    control.ask(&Request::Select(id.into()), &[])?;
    Ok(control)
}

/// Ends the sentry and the gofer.
fn end_processes(state: &State) -> anyhow::Result<()> {
    for process in [state.sandbox, state.gofer].into_iter().flatten() {
        process.kill()?;
    }
    Ok(())
}

fn describe(id: &str, state: Option<&State>, phase: Phase) -> Value {
    let mut value = json!({ "ociVersion": OCI_VERSION, "id": id, "status": phase.name() });
    if let (Some(map), Some(state)) = (value.as_object_mut(), state) {
        let pid = match phase {
            Phase::Stopped => 0,
            _ => state.sandbox.map_or(0, |process| process.pid),
        };
        map.insert("pid".into(), pid.into());
        map.insert("bundle".into(), json!(state.bundle));
        map.insert("rootfs".into(), json!(state.rootfs));
        map.insert("created".into(), json!(state.created));
        map.insert("owner".into(), json!(state.owner));
        map.insert("annotations".into(), json!(state.annotations));
    }
    value
}
