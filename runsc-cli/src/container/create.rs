//! Creating a container: everything up to its first process.

use super::{Container, Phase, describe, end_processes, hooks, terminal};
use crate::bundle::{self, Bundle};
use crate::cgroup::{self, Cgroup};
use crate::cli::{Global, NetworkName};
use crate::log;
use crate::sandbox::control::{Control, listen_at};
use crate::sandbox::network::egress;
use crate::sandbox::network::publish::Publish;
use crate::sandbox::{self, Detached, Life, Member, Running, Sandbox, inherited, standard_streams};
use crate::state::process::ProcessId;
use crate::state::{Entry, SOCKET, State, time};
use anyhow::{Context, bail};
use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;
use sentry::boot::protocol::{Reply, Request};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// How a container is created.
pub struct Options {
    /// Directory of the bundle.
    pub bundle: PathBuf,
    /// The configuration, if it is not the bundle's own.
    pub config: Option<PathBuf>,
    /// File that gets the sentry's process id.
    pub pid_file: Option<PathBuf>,
    /// Who gets the master of the terminal.
    pub console_socket: Option<PathBuf>,
    /// How many descriptors from 3 on the first process gets.
    pub preserve_fds: u32,
    /// Further descriptors: the number here and the one in the container.
    pub pass_fds: Vec<(i32, i32)>,
    /// Ports of the host that lead into the sandbox.
    pub publish: Vec<Publish>,
    /// The sandbox dies with this process.
    pub attached: bool,
    /// Its first process talks to this process's terminal.
    pub own_terminal: bool,
}

/// Creates it. The result is what is left to wait for.
pub fn create(
    global: &Global,
    id: &str,
    options: &Options,
) -> anyhow::Result<(Container, Running)> {
    crate::state::check_id(id)?;
    let Bundle { config, directory, container: spec, exports } =
        bundle::load(&options.bundle, options.config.as_deref(), id, global)?;
    let files = files(&spec.process, options)?;
    let entry = Entry::create(&global.state_root(), id)?;
    let linux = config.linux().as_ref();
    let mut state = State {
        id: id.into(),
        rootfs: bundle::rootfs(&config, &directory).unwrap_or_default(),
        bundle: directory,
        created: time::now(),
        owner: owner(),
        complete: false,
        sandbox: None,
        gofer: None,
        annotations: config.annotations().clone().unwrap_or_default(),
        process: config.process().clone(),
        hooks: config.hooks().clone(),
        pod: bundle::pod::sandbox_of(&config, id)?,
        personality: spec.process.personality,
        network_later: false,
        cgroup: None,
    };
    if !global.ignore_cgroups {
        let resources = linux.and_then(|linux| linux.resources().as_ref());
        let wanted = linux.and_then(|linux| linux.cgroups_path().as_deref());
        state.cgroup = cgroup::plan(wanted, id);
        // Written before the group exists, so that it is removed whatever happens.
        entry.save(&state)?;
        state.cgroup = state
            .cgroup
            .take()
            .and_then(|group| cgroup::set_up(group, wanted, id, resources, global.systemd_cgroup));
        if global.systemd_cgroup {
            // systemd may have put it elsewhere.
            entry.save(&state)?;
        }
    }
    let host = HostSide {
        resources: linux.and_then(|linux| linux.resources().as_ref()),
        oom_score_adj: config.process().as_ref().and_then(|process| process.oom_score_adj()),
    };
    let result = (|| {
        let (files, console) = with_console(files, options, spec.process.terminal_size)?;
        if let Some(pod) = state.pod.clone() {
            let (attached, exit) = (options.attached, Some(entry.exit_file()?));
            let mut spec = spec;
            let shared = linux.and_then(bundle::pid_namespace);
            spec.pids_of = shared.map(|path| owner_of_pids(global, &pod, &path));
            let member = Member { spec, exports, files, console, exit, attached };
            return join(global, &entry, &mut state, &pod, member, options, &host);
        }
        let detached = Detached {
            listener: Some(listen_at(entry.dir(), SOCKET)?),
            console,
            exit: Some(entry.exit_file()?),
            attached: options.attached,
        };
        let network = linux.and_then(bundle::network_namespace);
        let life = Life::Detached(detached);
        // Only root can look into a namespace that it has not made for itself.
        let network_by_others = nix::unistd::geteuid().is_root()
            && global.network == NetworkName::Sandbox
            && linux.is_some_and(bundle::new_network_namespace);
        let network_by_hooks =
            network_by_others && config.hooks().as_ref().is_some_and(hooks::any_while_creating);
        state.network_later = network_by_others && !network_by_hooks && !options.attached;
        let network_later = state.network_later;
        let publish = options.publish.clone();
        let egress = egress::of_annotations(&state.annotations)?;
        let sandbox = Sandbox {
            spec,
            exports,
            files,
            network,
            network_by_hooks,
            network_later,
            publish,
            egress,
            life,
        };
        let state = &mut state;
        let running = sandbox.start(global, |sentry, gofer, proxy| {
            prepare(&entry, state, sentry, gofer, proxy, &host)
        })?;
        match running.control.answer()? {
            Reply::Ready => {}
            other => bail!("the sandbox answered {other:?} instead of being ready"),
        }
        let names = running.takeover.as_ref().and_then(|takeover| takeover.names());
        if let (Some(group), Some(names)) = (&state.cgroup, names) {
            enter(group, names);
        }
        state.complete = true;
        entry.save(state)?;
        if let Some(path) = &options.pid_file {
            write_pid(path, running.sentry.pid.as_raw())?;
        }
        Ok(running)
    })();
    match result {
        Ok(running) => Ok((Container { entry, state: Some(state), id: id.into() }, running)),
        Err(e) => {
            undo(entry, &state);
            Err(e)
        }
    }
}

/// What the bundle says of the container's processes on the host.
struct HostSide<'a> {
    resources: Option<&'a LinuxResources>,
    oom_score_adj: Option<i32>,
}

/// Creates it in the sandbox of another one.
fn join(
    global: &Global,
    entry: &Entry,
    state: &mut State,
    pod: &str,
    member: Member,
    options: &Options,
    host: &HostSide<'_>,
) -> anyhow::Result<Running> {
    if !options.publish.is_empty() {
        bail!(
            "--publish is for the container that makes a sandbox: that of {pod:?} exists already"
        );
    }
    let first = Container::look(&global.state_root(), pod)
        .with_context(|| format!("cannot join the sandbox of {pod:?}"))?;
    if first.state()?.pod.is_some() {
        bail!("cannot join the sandbox of {pod:?}: it has none of its own");
    }
    let (dir, id) = (entry.dir().to_path_buf(), state.id.clone());
    let there = first.running().map(drop);
    there.with_context(|| format!("cannot join the sandbox of {pod:?}"))?;
    let (sentry, gofer) = sandbox::join(
        global,
        member,
        || Control::connect(&dir.with_file_name(pod), SOCKET),
        |standin, gofer| prepare(entry, state, standin, gofer, None, host),
    )?;
    state.complete = true;
    entry.save(state)?;
    if let Some(path) = &options.pid_file {
        write_pid(path, sentry.pid.as_raw())?;
    }
    let control = super::connect(entry.dir(), Some(pod), &id)?;
    Ok(Running { sentry, control, gofer, proxy: None, takeover: None })
}

/// The container of a pod whose process ids a namespace of the host stands for: that of the process which stands for
/// the container. For any other it is the pod's first one, whose ids Kubernetes shares.
fn owner_of_pids(global: &Global, pod: &str, path: &Path) -> String {
    let process = path.strip_prefix("/proc").ok().and_then(|rest| rest.iter().next());
    let pid: Option<i32> = process.and_then(|name| name.to_str()?.parse().ok());
    let root = global.state_root();
    let mut members = crate::state::list(&root).unwrap_or_default().into_iter().filter(|id| {
        let Ok(container) = Container::look(&root, id) else { return false };
        let Ok(state) = container.state() else { return false };
        state.pod.as_deref() == Some(pod) && state.sandbox.map(|process| process.pid) == pid
    });
    let owner = if pid.is_some() { members.next() } else { None };
    owner.unwrap_or_else(|| pod.to_owned())
}

/// Lets the sandbox live on without this process.
pub fn detach(running: Running) -> anyhow::Result<()> {
    let Running { control, gofer, proxy, takeover, sentry: _ } = running;
    control.ask(&Request::Detach, &[]).context("the sandbox ended at once")?;
    gofer.keep();
    if let Some(proxy) = proxy {
        proxy.keep();
    }
    if let Some(takeover) = takeover {
        takeover.keep();
    }
    Ok(())
}

/// The sentry exists and waits: everything that needs its process id.
fn prepare(
    entry: &Entry,
    state: &mut State,
    sentry: Pid,
    gofer: Pid,
    proxy: Option<Pid>,
    host: &HostSide<'_>,
) -> anyhow::Result<()> {
    state.sandbox = Some(ProcessId::of(sentry.as_raw())?);
    state.gofer = Some(ProcessId::of(gofer.as_raw())?);
    entry.save(state)?;
    if let Some(group) = &mut state.cgroup {
        let pids: Vec<Pid> = [sentry, gofer].into_iter().chain(proxy).collect();
        let numbers: Vec<i32> = pids.iter().map(|pid| pid.as_raw()).collect();
        group.adopt(&numbers, host.resources);
        pids.into_iter().for_each(|pid| enter(group, pid));
        entry.save(state)?;
    }
    if let Some(score) = host.oom_score_adj {
        let path = format!("/proc/{sentry}/oom_score_adj");
        if let Err(e) = fs::write(&path, score.to_string()) {
            log::warn(&format!("cannot write {score} to {path}: {e}"));
        }
    }
    if let Some(found) = &state.hooks {
        let description = describe(&state.id, Some(state), Phase::Creating);
        let prestart = found.prestart();
        for (point, list) in [
            ("prestart", prestart),
            ("createRuntime", found.create_runtime()),
            ("createContainer", found.create_container()),
        ] {
            hooks::run(point, list.as_ref(), &description, &state.bundle)?;
        }
    }
    Ok(())
}

/// Moves a process of the sandbox into its cgroup.
fn enter(group: &Cgroup, pid: Pid) {
    if let Err(e) = group.enter(pid.as_raw()) {
        log::warn(&format!("{e:#}: the limits do not hold for it"));
    }
}

/// Takes everything back. What cannot be taken back is left for `delete --force`.
fn undo(entry: Entry, state: &State) {
    let ended = end_processes(state);
    let removed = state.cgroup.as_ref().map_or(Ok(()), |group| group.remove());
    match ended.and(removed) {
        Ok(()) => {
            if let Err(e) = entry.remove() {
                log::warn(&format!("{e:#}"));
            }
        }
        Err(e) => log::warn(&format!("{e:#}: delete the container with --force")),
    }
}

type Files = Vec<(i32, OwnedFd)>;

/// The files that the first process gets from this one.
fn files(process: &sentry::boot::ProcessSpec, options: &Options) -> anyhow::Result<Files> {
    let terminal_elsewhere = process.terminal && !options.own_terminal;
    if terminal_elsewhere && options.console_socket.is_none() {
        bail!(
            "\"process.terminal\" is true, so that somebody has to take the terminal: name a socket with \
             --console-socket (cannot allocate tty if runc will detach without setting console socket)"
        );
    }
    if !process.terminal && options.console_socket.is_some() {
        bail!(
            "--console-socket is of no use without \"process.terminal\" (cannot use console socket if \
             runc will not detach or allocate tty)"
        );
    }
    let mut files = if terminal_elsewhere { Vec::new() } else { standard_streams() };
    pass_on(&mut files, options.preserve_fds, &options.pass_fds)?;
    Ok(files)
}

/// Adds descriptors that this process was started with and a container gets: those of so many from 3 on that there are, and
/// those that are named with their numbers there.
pub fn pass_on(files: &mut Files, preserved: u32, named: &[(i32, i32)]) -> anyhow::Result<()> {
    let first = 3..i32::try_from(preserved).unwrap_or(0).saturating_add(3);
    let there: Vec<_> = first.filter_map(|fd| Some((fd, inherited(fd)?))).collect();
    files.extend(there);
    for &(host, guest) in named {
        let fd = inherited(host)
            .with_context(|| format!("descriptor {host}, which is to be passed on, is not open"))?;
        if guest < 0 || files.iter().any(|(taken, _)| *taken == guest) {
            bail!("descriptor {guest} of the container is given twice, or is none");
        }
        files.push((guest, fd));
    }
    Ok(())
}

/// Adds a terminal for `--console-socket`; also returns the one that becomes the sentry's own.
fn with_console(
    mut files: Files,
    options: &Options,
    size: (u16, u16),
) -> anyhow::Result<(Files, Option<OwnedFd>)> {
    let Some(socket) = &options.console_socket else { return Ok((files, None)) };
    let slave = terminal::send_master(socket, size)?;
    let own = slave.try_clone().context("cannot duplicate the terminal")?;
    files.insert(0, (0, slave));
    Ok((files, Some(own)))
}

/// Writes a process id so that nobody reads half of it.
pub fn write_pid(path: &Path, pid: i32) -> anyhow::Result<()> {
    let name =
        path.file_name().with_context(|| format!("--pid-file {} is no file", path.display()))?;
    let new = path.with_file_name(format!(".{}", name.to_string_lossy()));
    fs::write(&new, pid.to_string())
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("cannot write the process id to {}", path.display()))
}

fn owner() -> String {
    match nix::unistd::getuid() {
        uid if uid.is_root() => "root".into(),
        uid => uid.to_string(),
    }
}
