//! `runsc exec`: a further process in a container.
//!
//! A host process stands for it: it passes signals on, and ends as the process does. With `--detach` that is a
//! child of this one, whose id goes into the pid file; else this one itself.

use crate::bundle::{capabilities, process, scheduling};
use crate::cli::{ExecArgs, Global};
use crate::container::create::{pass_on, write_pid};
use crate::container::{Container, Phase, terminal};
use crate::sandbox::standin::{self, Owned};
use crate::sandbox::terminal::Terminal;
use crate::sandbox::{standard_streams, supervise};
use anyhow::{Context, bail};
use oci_spec::runtime::Process;
use rustix::thread::{CpuSet, sched_setaffinity};
use sentry::boot::ProcessSpec;
use sentry::boot::protocol::{Reply, Request};
use serde_json::{Value, json};
use std::fs::File;
use std::os::fd::AsFd;

/// Runs it; the result is its exit status, or 0 when it is left alone.
pub fn run(global: &Global, args: &ExecArgs) -> anyhow::Result<u8> {
    let container = Container::look(&global.state_root(), &args.id)?;
    match container.phase() {
        Phase::Running => {}
        Phase::Paused if args.ignore_paused => {}
        Phase::Paused => bail!("cannot exec in a paused container: resume it first"),
        phase => bail!(
            "cannot exec in a container that is not running: {:?} is {}",
            args.id,
            phase.name()
        ),
    }
    let mut spec = describe(&container, args)?;
    spec.personality = container.state()?.personality;
    if args.console_socket.is_some() && !spec.terminal {
        bail!("--console-socket is of no use without --tty");
    }
    if spec.terminal && args.detach && args.console_socket.is_none() {
        bail!(
            "--tty and --detach together need --console-socket (cannot allocate tty if runc will detach without setting console socket)"
        );
    }
    supervise::block_signals()?;
    if args.detach {
        let child = standin::spawn(false, |_| Ok(()), || start(&container, spec, args))?;
        if let Some(path) = &args.pid_file {
            write_pid(path, child.pid.as_raw())?;
        }
        return Ok(0);
    }
    let own_terminal = spec.terminal && args.console_socket.is_none();
    let raw = own_terminal.then(Terminal::open).transpose()?;
    let started = start(&container, spec, args)?;
    if let Some(path) = &args.pid_file {
        write_pid(path, std::process::id() as i32)?;
    }
    let status = started.wait(own_terminal);
    drop(raw);
    status
}

/// What to run: the file's process, or the container's own with what the flags change.
fn describe(container: &Container, args: &ExecArgs) -> anyhow::Result<ProcessSpec> {
    if let Some(path) = &args.process {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let mut described: Process = serde_json::from_str(&text)
            .with_context(|| format!("{} does not describe a process", path.display()))?;
        if args.tty {
            described.set_terminal(Some(true));
        }
        let cgroup = args.cgroup.as_deref().map(cgroup).transpose()?;
        run_on(&described)?;
        return Ok(ProcessSpec { cgroup, ..process::translate(&described)? });
    }
    if args.command.is_empty() {
        bail!("process args cannot be empty: name a command, or a file with --process");
    }
    let own = container.state()?.process.as_ref();
    let mut described = json!(own.context("the container's own process is not known")?);
    let map = described.as_object_mut().context("bad process")?;
    map.insert("args".into(), json!(args.command));
    map.insert("terminal".into(), json!(args.tty));
    if let Some(cwd) = &args.cwd {
        map.insert("cwd".into(), json!(cwd));
    }
    if args.no_new_privs {
        map.insert("noNewPrivileges".into(), json!(true));
    }
    if let Some(Value::Array(env)) = map.get_mut("env") {
        for item in &args.env {
            let name = item.split('=').next().unwrap_or_default();
            env.retain(|old| old.as_str().is_none_or(|old| old.split('=').next() != Some(name)));
            env.push(json!(item));
        }
    } else if !args.env.is_empty() {
        map.insert("env".into(), json!(args.env));
    }
    let described: Process = serde_json::from_value(described).context("bad process")?;
    run_on(&described)?;
    let mut spec = process::translate(&described)?;
    spec.user.clone_from(&args.user);
    spec.ids.groups.extend(&args.additional_gids);
    for name in &args.cap {
        let bit = capabilities::by_name(name)?;
        let sets = &mut spec.capabilities;
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            *set |= bit;
        }
        // Other users than root keep what is ambient only.
        if spec.user.is_some() || spec.ids.uid != 0 {
            sets.inheritable |= bit;
            sets.ambient |= bit;
        }
    }
    if args.tty {
        spec.terminal_size = Terminal::size();
    }
    spec.cgroup = args.cgroup.as_deref().map(cgroup).transpose()?;
    Ok(spec)
}

/// This process runs where `execCPUAffinity` wants it before the other one exists.
fn run_on(process: &Process) -> anyhow::Result<()> {
    let Some(given) = process.exec_cpu_affinity() else { return Ok(()) };
    let words = scheduling::initial_affinity(given)?;
    if words.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for cpu in 0..words.len().min(CpuSet::MAX_CPU / 64) * 64 {
        if words.get(cpu / 64).is_some_and(|word| word >> (cpu % 64) & 1 != 0) {
            set.set(cpu);
        }
    }
    sched_setaffinity(None, &set).context("error setting initial CPU affinity")
}

/// A group of the container's, as `--cgroup` names it. There is one hierarchy inside.
fn cgroup(path: &str) -> anyhow::Result<String> {
    if path.contains(':') {
        bail!("--cgroup {path}: the container has version 2, where no controllers are named");
    }
    if path.split('/').any(|part| part == "..") {
        bail!("--cgroup {path}: `..` components are not allowed");
    }
    Ok(path.into())
}

/// Starts it.
fn start(container: &Container, spec: ProcessSpec, args: &ExecArgs) -> anyhow::Result<Owned> {
    let control = container.connect()?;
    let mut files = Vec::new();
    let mut console = None;
    match &args.console_socket {
        Some(socket) => {
            let slave = terminal::send_master(socket, spec.terminal_size)?;
            console = Some(slave.try_clone().context("cannot duplicate the terminal")?);
            files.push((0, slave));
        }
        None => files.extend(standard_streams()),
    }
    pass_on(&mut files, args.preserve_fds, &args.pass_fd)?;
    let request = Request::Exec {
        process: Box::new(spec),
        files: files.iter().map(|(number, _)| *number).collect(),
    };
    let fds: Vec<_> = files.iter().map(|(_, fd)| fd.as_fd()).collect();
    let Reply::Started { pid } = control.ask(&request, &fds)? else {
        bail!("the sandbox does not answer the question");
    };
    if let Some(path) = &args.internal_pid_file {
        write_pid(path, pid)?;
    }
    let file = args
        .exit_file
        .as_ref()
        .map(|path| File::create(path).with_context(|| format!("cannot make {}", path.display())));
    Ok(Owned { control, console, exit: file.transpose()?.map(Into::into) })
}
