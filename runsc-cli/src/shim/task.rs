//! The task API: what containerd asks of the containers of a shim.
//!
//! Locks: the map of containers, then that of a container's processes, then a process; none of the maps is held while
//! anything is waited for.

use super::events::{Event, any, now};
use super::memory::MemoryWatch;
use super::process::Process;
use super::rootfs;
use super::settings::Settings;
use super::stdio::Paths;
use crate::cgroup;
use crate::cli::UpdateArgs;
use crate::commands::{pause, update};
use crate::container::{Container, Phase};
use anyhow::Context;
use containerd_shim_protos::Task;
use containerd_shim_protos::api::*;
use containerd_shim_protos::cgroups::metrics::Metrics;
use containerd_shim_protos::events::task as event;
use containerd_shim_protos::protobuf::MessageDyn;
use containerd_shim_protos::protobuf::well_known_types::empty::Empty;
use containerd_shim_protos::topics;
use containerd_shim_protos::ttrpc::{self, Code, TtrpcContext};
use containerd_shim_protos::types::task::ProcessInfo;
use sentry::boot::protocol::{Reply, Request, Target};
use serde_json::Value;
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Exit status of what was killed.
const KILLED: u32 = 137;

/// A container of the shim's.
struct Entry {
    id: String,
    bundle: PathBuf,
    settings: Settings,
    /// By the id of `exec`; the first process has the empty one.
    processes: Mutex<HashMap<String, Arc<Process>>>,
}

/// The service.
pub struct Service {
    namespace: String,
    events: Mutex<Sender<Event>>,
    stop: Mutex<Sender<()>>,
    containers: Mutex<HashMap<String, Arc<Entry>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refuse(code: Code, message: String) -> ttrpc::Error {
    ttrpc::Error::RpcStatus(ttrpc::get_status(code, message))
}

fn failed(e: anyhow::Error) -> ttrpc::Error {
    refuse(Code::UNKNOWN, format!("{e:#}"))
}

impl Entry {
    fn look(&self) -> anyhow::Result<Container> {
        Container::look(&self.settings.global.state_root(), &self.id)
    }

    fn process(&self, exec_id: &str) -> ttrpc::Result<Arc<Process>> {
        lock(&self.processes).get(exec_id).cloned().ok_or_else(|| {
            refuse(Code::NOT_FOUND, format!("no process {exec_id:?} in {:?}: not found", self.id))
        })
    }

    /// Creates the container and watches its first process.
    fn create(
        &self,
        request: &CreateTaskRequest,
        process: &Arc<Process>,
        events: Sender<Event>,
    ) -> anyhow::Result<i32> {
        self.settings.save(&self.bundle)?;
        rootfs::mount_all(&self.bundle, &request.rootfs)?;
        let bundle = self.bundle.to_str().context("the bundle's name is not UTF-8")?;
        let mut now = process.now();
        process.launch(&mut now, &self.settings, &self.bundle, &["create", "--bundle", bundle])?;
        let mut created = event::TaskCreate::new();
        created.container_id.clone_from(&self.id);
        created.bundle.clone_from(&request.bundle);
        created.rootfs.clone_from(&request.rootfs);
        created.pid = u32::try_from(now.pid).unwrap_or(0);
        let mut io = event::TaskIO::new();
        io.stdin.clone_from(&request.stdin);
        io.stdout.clone_from(&request.stdout);
        io.stderr.clone_from(&request.stderr);
        io.terminal = request.terminal;
        created.io = Some(io).into();
        let _ = events.send((topics::TASK_CREATE_EVENT_TOPIC, Box::new(created)));
        let (root, id) = (self.settings.global.state_root(), self.id.clone());
        let memory = self.look().map(|container| MemoryWatch::start(&container));
        process.watch(&now, events, memory.unwrap_or_default(), move || {
            let status = Container::look(&root, &id).ok().and_then(|found| found.exit_status());
            status.map_or(KILLED, u32::from)
        });
        Ok(now.pid)
    }

    /// Runs a process of `exec`.
    fn exec(&self, process: &Arc<Process>, events: Sender<Event>) -> anyhow::Result<()> {
        let file = |kind: &str| self.bundle.join(format!("runsc-{}.{kind}", process.exec_id));
        let (spec, exit) = (file("json"), file("exit"));
        std::fs::write(&spec, &process.spec).context("cannot write what is to be executed")?;
        let (spec, exit_name) = (spec.to_string_lossy(), exit.to_string_lossy());
        let command = ["exec", "--detach", "--process", &spec, "--exit-file", &exit_name];
        let mut now = process.now();
        process.launch(&mut now, &self.settings, &self.bundle, &command)?;
        now.started = true;
        let mut started = event::TaskExecStarted::new();
        started.container_id.clone_from(&self.id);
        started.exec_id.clone_from(&process.exec_id);
        started.pid = u32::try_from(now.pid).unwrap_or(0);
        let _ = events.send((topics::TASK_EXEC_STARTED_EVENT_TOPIC, Box::new(started)));
        process.watch(&now, events, MemoryWatch::default(), move || {
            let text = std::fs::read_to_string(&exit).unwrap_or_default();
            text.parse().unwrap_or(KILLED)
        });
        Ok(())
    }

    /// Runs the first process.
    fn start(&self, process: &Process, events: &Sender<Event>) -> anyhow::Result<()> {
        let mut now = process.now();
        let global = &self.settings.global;
        Container::open(&global.state_root(), &self.id)?.start(global.host_seccomp)?;
        now.started = true;
        let mut started = event::TaskStart::new();
        started.container_id.clone_from(&self.id);
        started.pid = u32::try_from(now.pid).unwrap_or(0);
        let _ = events.send((topics::TASK_START_EVENT_TOPIC, Box::new(started)));
        Ok(())
    }

    fn stats(&self) -> anyhow::Result<Metrics> {
        let container = self.look()?;
        let Reply::Stats(inside) = container.running()?.ask(&Request::Stats, &[])? else {
            anyhow::bail!("the sandbox does not answer the question");
        };
        let stats = cgroup::stats(container.state()?.cgroup.as_ref(), &inside);
        let number = |path: &str| stats.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        let mut metrics = Metrics::new();
        metrics.pids.mut_or_insert_default().current = number("/pids/current");
        let cpu = metrics.cpu.mut_or_insert_default().usage.mut_or_insert_default();
        cpu.total = number("/cpu/usage/total");
        cpu.user = number("/cpu/usage/user");
        cpu.kernel = number("/cpu/usage/kernel");
        let memory = metrics.memory.mut_or_insert_default();
        memory.rss = number("/memory/raw/guest");
        let usage = memory.usage.mut_or_insert_default();
        usage.usage = number("/memory/usage/usage");
        usage.limit = number("/memory/usage/limit");
        usage.max = number("/memory/usage/max");
        Ok(metrics)
    }

    fn limit(&self, resources: &[u8]) -> anyhow::Result<()> {
        let mut file = tempfile::NamedTempFile::new().context("cannot make a file")?;
        file.write_all(resources).context("cannot write the limits")?;
        let args = UpdateArgs {
            resources: Some(file.path().to_owned()),
            id: self.id.clone(),
            ..UpdateArgs::default()
        };
        update::run(&self.settings.global, &args).map(drop)
    }
}

impl Service {
    /// With no container; `stop` is told when there is none any more.
    pub fn new(namespace: &str, events: Sender<Event>, stop: Sender<()>) -> Self {
        let (events, stop) = (Mutex::new(events), Mutex::new(stop));
        Self { namespace: namespace.into(), events, stop, containers: Mutex::default() }
    }

    fn events(&self) -> Sender<Event> {
        lock(&self.events).clone()
    }

    fn tell(&self, topic: &'static str, message: impl MessageDyn) {
        // Its receiver lives as long as the process.
        let _ = lock(&self.events).send((topic, Box::new(message)));
    }

    fn entry(&self, id: &str) -> ttrpc::Result<Arc<Entry>> {
        lock(&self.containers)
            .get(id)
            .cloned()
            .ok_or_else(|| refuse(Code::NOT_FOUND, format!("no container {id:?}: not found")))
    }

    fn paused(&self, id: &str, pause: bool) -> ttrpc::Result<Empty> {
        let entry = self.entry(id)?;
        pause::run(&entry.settings.global, id, pause).map_err(failed)?;
        if pause {
            let mut event = event::TaskPaused::new();
            event.container_id = id.into();
            self.tell(topics::TASK_PAUSED_EVENT_TOPIC, event);
        } else {
            let mut event = event::TaskResumed::new();
            event.container_id = id.into();
            self.tell(topics::TASK_RESUMED_EVENT_TOPIC, event);
        }
        Ok(empty())
    }
}

fn empty() -> Empty {
    Empty::new()
}

fn unsigned(pid: i32) -> u32 {
    u32::try_from(pid).unwrap_or(0)
}

impl Task for Service {
    fn create(
        &self,
        _: &TtrpcContext,
        request: CreateTaskRequest,
    ) -> ttrpc::Result<CreateTaskResponse> {
        let id = request.id.clone();
        if !request.checkpoint.is_empty() {
            return Err(refuse(Code::UNIMPLEMENTED, "checkpoints cannot be restored".into()));
        }
        let settings =
            Settings::of_options(request.options.as_ref(), &self.namespace).map_err(failed)?;
        let paths = Paths {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
        };
        let process = Arc::new(Process::new(&id, "", paths, Vec::new()));
        let entry = Arc::new(Entry {
            id: id.clone(),
            bundle: Path::new(&request.bundle).to_owned(),
            settings,
            processes: Mutex::new(HashMap::from([(String::new(), Arc::clone(&process))])),
        });
        {
            let mut containers = lock(&self.containers);
            if containers.contains_key(&id) {
                return Err(refuse(Code::ALREADY_EXISTS, format!("container {id:?} exists")));
            }
            containers.insert(id.clone(), Arc::clone(&entry));
        }
        match entry.create(&request, &process, self.events()) {
            Ok(pid) => Ok(CreateTaskResponse { pid: unsigned(pid), ..Default::default() }),
            Err(e) => {
                lock(&self.containers).remove(&id);
                rootfs::unmount(&entry.bundle);
                Err(failed(e))
            }
        }
    }

    fn start(&self, _: &TtrpcContext, request: StartRequest) -> ttrpc::Result<StartResponse> {
        let entry = self.entry(&request.id)?;
        let process = entry.process(&request.exec_id)?;
        if request.exec_id.is_empty() {
            entry.start(&process, &self.events()).map_err(failed)?;
        } else {
            entry.exec(&process, self.events()).map_err(failed)?;
        }
        let pid = unsigned(process.now().pid);
        Ok(StartResponse { pid, ..Default::default() })
    }

    fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> ttrpc::Result<Empty> {
        let entry = self.entry(&request.id)?;
        crate::state::check_id(&request.exec_id).map_err(failed)?;
        let paths = Paths {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        };
        let spec = request.spec.into_option().unwrap_or_default().value;
        let process = Process::new(&request.id, &request.exec_id, paths, spec);
        let mut processes = lock(&entry.processes);
        if processes.contains_key(&request.exec_id) {
            return Err(refuse(
                Code::ALREADY_EXISTS,
                format!("process {:?} exists", request.exec_id),
            ));
        }
        processes.insert(request.exec_id.clone(), Arc::new(process));
        drop(processes);
        let mut event = event::TaskExecAdded::new();
        event.container_id = request.id;
        event.exec_id = request.exec_id;
        self.tell(topics::TASK_EXEC_ADDED_EVENT_TOPIC, event);
        Ok(empty())
    }

    fn state(&self, _: &TtrpcContext, request: StateRequest) -> ttrpc::Result<StateResponse> {
        let entry = self.entry(&request.id)?;
        let process = entry.process(&request.exec_id)?;
        let mut state = StateResponse::new();
        state.id = request.id;
        state.exec_id = request.exec_id;
        state.bundle = entry.bundle.display().to_string();
        state.stdin.clone_from(&process.paths.stdin);
        state.stdout.clone_from(&process.paths.stdout);
        state.stderr.clone_from(&process.paths.stderr);
        state.terminal = process.paths.terminal;
        let now = process.now();
        state.pid = unsigned(now.pid);
        let (started, exit) = (now.started, now.exit.clone());
        drop(now);
        let status = match (started, &exit) {
            (_, Some(_)) => Status::STOPPED,
            (false, None) => Status::CREATED,
            (true, None) if entry.look().is_ok_and(|found| found.phase() == Phase::Paused) => {
                Status::PAUSED
            }
            (true, None) => Status::RUNNING,
        };
        state.status = status.into();
        if let Some(exit) = exit {
            state.exit_status = exit.status;
            state.exited_at = Some(exit.at).into();
        }
        Ok(state)
    }

    fn delete(&self, _: &TtrpcContext, request: DeleteRequest) -> ttrpc::Result<DeleteResponse> {
        let entry = self.entry(&request.id)?;
        let process = entry.process(&request.exec_id)?;
        let now_is = process.now();
        let (pid, exit, started) = (now_is.pid, now_is.exit.clone(), now_is.started);
        drop(now_is);
        if exit.is_none() && started {
            return Err(refuse(Code::FAILED_PRECONDITION, "the process has not ended".into()));
        }
        let mut response = DeleteResponse::new();
        response.pid = unsigned(pid);
        response.exit_status = exit.as_ref().map_or(0, |exit| exit.status);
        response.exited_at = Some(exit.map_or_else(now, |exit| exit.at)).into();
        if !request.exec_id.is_empty() {
            lock(&entry.processes).remove(&request.exec_id);
            return Ok(response);
        }
        let root = entry.settings.global.state_root();
        Container::open(&root, &request.id)
            .and_then(|container| container.delete(true))
            .map_err(failed)?;
        rootfs::unmount(&entry.bundle);
        lock(&self.containers).remove(&request.id);
        let mut event = event::TaskDelete::new();
        event.container_id = request.id;
        event.pid = response.pid;
        event.exit_status = response.exit_status;
        event.exited_at = response.exited_at.clone();
        self.tell(topics::TASK_DELETE_EVENT_TOPIC, event);
        Ok(response)
    }

    fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> ttrpc::Result<PidsResponse> {
        let entry = self.entry(&request.id)?;
        let processes: Vec<_> = lock(&entry.processes).values().cloned().collect();
        let mut response = PidsResponse::new();
        for process in processes {
            let now = process.now();
            if now.pid != 0 && now.exit.is_none() {
                response
                    .processes
                    .push(ProcessInfo { pid: unsigned(now.pid), ..Default::default() });
            }
        }
        Ok(response)
    }

    fn pause(&self, _: &TtrpcContext, request: PauseRequest) -> ttrpc::Result<Empty> {
        self.paused(&request.id, true)
    }

    fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> ttrpc::Result<Empty> {
        self.paused(&request.id, false)
    }

    fn kill(&self, _: &TtrpcContext, request: KillRequest) -> ttrpc::Result<Empty> {
        let entry = self.entry(&request.id)?;
        let process = entry.process(&request.exec_id)?;
        let now = process.now();
        let (pid, ended) = (now.pid, now.exit.is_some());
        drop(now);
        let gone = || refuse(Code::NOT_FOUND, "process already finished: not found".into());
        if ended {
            return Err(gone());
        }
        if pid <= 0 {
            let why = "the process has not been started: cannot send it a signal";
            return Err(refuse(Code::FAILED_PRECONDITION, why.into()));
        }
        let number = i32::try_from(request.signal).unwrap_or(0);
        if !request.exec_id.is_empty() {
            // What stands for it passes signals on.
            return match process.signal(number) {
                Ok(true) => Ok(empty()),
                Ok(false) => Err(gone()),
                Err(e) => Err(refuse(Code::INVALID_ARGUMENT, format!("{e:#}"))),
            };
        }
        let target = if request.all { Target::All } else { Target::Own };
        match entry.look().and_then(|container| container.kill(target, number)) {
            Ok(()) => Ok(empty()),
            Err(e) if format!("{e:#}").contains("not running") => Err(gone()),
            Err(e) => Err(failed(e)),
        }
    }

    fn resize_pty(&self, _: &TtrpcContext, request: ResizePtyRequest) -> ttrpc::Result<Empty> {
        let process = self.entry(&request.id)?.process(&request.exec_id)?;
        process.now().held.resize(request.width, request.height).map_err(failed)?;
        Ok(empty())
    }

    fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> ttrpc::Result<Empty> {
        if request.stdin {
            self.entry(&request.id)?.process(&request.exec_id)?.now().held.end_input();
        }
        Ok(empty())
    }

    fn update(&self, _: &TtrpcContext, request: UpdateTaskRequest) -> ttrpc::Result<Empty> {
        let resources = request.resources.into_option().unwrap_or_default().value;
        self.entry(&request.id)?.limit(&resources).map_err(failed)?;
        Ok(empty())
    }

    fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> ttrpc::Result<WaitResponse> {
        let exit = self.entry(&request.id)?.process(&request.exec_id)?.wait();
        let mut response = WaitResponse::new();
        response.exit_status = exit.status;
        response.exited_at = Some(exit.at).into();
        Ok(response)
    }

    fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> ttrpc::Result<StatsResponse> {
        let metrics = self.entry(&request.id)?.stats().map_err(failed)?;
        let mut response = StatsResponse::new();
        response.stats = Some(any(&metrics).map_err(failed)?).into();
        Ok(response)
    }

    fn connect(&self, _: &TtrpcContext, request: ConnectRequest) -> ttrpc::Result<ConnectResponse> {
        let task = self.entry(&request.id)?.process("")?.now().pid;
        let mut response = ConnectResponse::new();
        response.shim_pid = std::process::id();
        response.task_pid = unsigned(task);
        Ok(response)
    }

    fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> ttrpc::Result<Empty> {
        // Others of the pod are still there.
        if lock(&self.containers).is_empty() {
            let _ = lock(&self.stop).send(());
        }
        Ok(empty())
    }
}
