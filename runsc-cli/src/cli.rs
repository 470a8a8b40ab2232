//! The command line. Names of commands and flags are gVisor's `runsc`'s and runc's where they have them.

pub mod arguments;
mod gvisor;

use crate::log::Format;
use crate::sandbox::network::publish::Publish;
use clap::{Args, Parser, Subcommand, ValueEnum};
use gofer::Reach;
use netproxy::policy::Rule;
use sentry::boot::EventKinds;
use std::net::IpAddr;
use std::path::PathBuf;

/// Runs untrusted Linux programs on a kernel of their own.
#[derive(Debug, Parser)]
#[command(name = "runsc", version, about)]
pub struct Cli {
    /// Flags that every command knows.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that stand before the command.
#[derive(Debug, Args)]
pub struct Global {
    /// How guest code is run.
    #[arg(long, value_enum, default_value_t = PlatformName::Auto, global = true)]
    pub platform: PlatformName,
    /// Under systrap, leave the guest's code as it is: programs that check their own code see no change, and
    /// system calls are slower.
    #[arg(long, global = true)]
    pub systrap_disable_syscall_patching: bool,
    /// Directory for the state of containers (default: /var/run/runsc, or runsc in $XDG_RUNTIME_DIR).
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// File for errors and warnings of runsc itself, besides standard error.
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Format of that file.
    #[arg(long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub log_format: Format,
    /// Write a line for every system call of the guest to the debug log.
    #[arg(long)]
    pub strace: bool,
    /// With --strace: for these calls only, separated by commas.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub strace_syscalls: Vec<String>,
    /// For compatibility with gVisor: arguments are shown up to a length of their own.
    #[arg(long, hide = true, value_name = "BYTES")]
    pub strace_log_size: Option<u32>,
    /// The debug log says more.
    #[arg(long)]
    pub debug: bool,
    /// File that gets a line of JSON for every event that matters for security: programs that are executed, files
    /// opened for writing, connections, changes of privileges, and calls that are refused. Patterns as in --debug-log.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Kinds of events that it gets: exec, open, connect, privilege, refused.
    #[arg(long, value_name = "KINDS", value_delimiter = ',', value_parser = event_kind)]
    pub trace_events: Vec<EventKinds>,
    /// File for the debug log (default: standard error). %ID% becomes the container's name, %COMMAND% the command's and
    /// %TIMESTAMP% the time; in a directory (with a slash at the end) the file is runsc.log.%TIMESTAMP%.%COMMAND%.
    #[arg(long, value_name = "FILE")]
    pub debug_log: Option<PathBuf>,
    /// Format of the debug log.
    #[arg(long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub debug_log_format: Format,
    /// Commands that have a debug log, separated by commas; with `!` before them all but these (default: all).
    #[arg(long, value_name = "COMMANDS")]
    pub debug_command: Option<String>,
    /// File that gets the report if the sandbox's kernel itself has a bug. Patterns as in --debug-log.
    #[arg(long, value_name = "FILE")]
    pub panic_log: Option<PathBuf>,
    /// Network of the sandbox: that of the network namespace it is given, the host's by ordinary sockets, or none.
    #[arg(long, value_enum, default_value_t = NetworkName::Sandbox)]
    pub network: NetworkName,
    /// With --network=user: the gateway's address (10.0.2.2) stands for the host's own loopback interface.
    #[arg(long)]
    pub host_loopback: bool,
    /// Whom the sandbox may reach: `allow:` or `deny:`, then a domain, `*.` and a domain, an
    /// address, a network (CIDR) or `*`, then `:PORT` if need be. The first rule that fits decides; what none fits
    /// is refused if any of them allows something. Repeatable.
    #[arg(long, value_name = "RULE")]
    pub egress: Vec<Rule>,
    /// File with such rules, one in a line; they come after those of --egress.
    #[arg(long, value_name = "FILE")]
    pub egress_file: Option<PathBuf>,
    /// With --network=sandbox and rules: a name server whose answers for names are believed (default: those that the
    /// host has). Repeatable.
    #[arg(long, value_name = "IP")]
    pub egress_name_server: Vec<IpAddr>,
    /// File that gets the packets of a sandbox with --network=sandbox, in the format pcapng (`tcpdump -r`). Patterns as in
    /// --debug-log.
    #[arg(long, alias = "pcap-log", value_name = "FILE")]
    pub pcap: Option<PathBuf>,
    /// CAP_NET_RAW, for packets of their own, as config.json gives it to programs; `false` takes it from them.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true,
        default_missing_value = "true", action = clap::ArgAction::Set)]
    pub net_raw: bool,
    /// What is written to a container's root stays in the sandbox's memory, up to a size (`root:memory,size=2g`), with
    /// `all:memory` what is written to its volumes, too; with `none` it goes to the bundle. (`self` and
    /// `dir=DIR`, which gVisor has in place of `memory`, mean the same as that: nothing is kept on the host.)
    #[arg(long, default_value = "root:memory", value_name = "WHERE", value_parser = Overlay::parse)]
    pub overlay2: Overlay,
    /// For compatibility with gVisor: as --overlay2=all:memory.
    #[arg(long, hide = true)]
    pub overlay: bool,
    /// Whether others than the container change its root meanwhile: `shared` looks for it at every use, if writes go to
    /// the bundle.
    #[arg(long, value_enum, default_value_t = FileAccess::Exclusive, value_name = "HOW")]
    pub file_access: FileAccess,
    /// For compatibility with gVisor: others may always change volumes.
    #[arg(long, value_enum, hide = true, default_value_t = FileAccess::Shared, value_name = "HOW")]
    pub file_access_mounts: FileAccess,
    /// What becomes of host calls that the sentry should not make: end the sandbox, or only log them in the
    /// host's kernel (for debugging; the sandbox is weaker then).
    #[arg(long, value_enum, default_value_t = HostSeccomp::Enforce, value_name = "MODE")]
    pub host_seccomp: HostSeccomp,
    /// Unix sockets of the host in the root and in volumes: programs can connect to them (`open`), programs of the host can
    /// connect to those bound there (`create`), or both (`all`).
    #[arg(long, value_enum, default_value_t = HostUds::None, value_name = "WHAT")]
    pub host_uds: HostUds,
    /// FIFOs of the host in the root and in volumes: with `open` what is written to one comes out outside, and the
    /// other way round; without they are the sandbox's own.
    #[arg(long, value_enum, default_value_t = HostFifo::None, value_name = "WHAT")]
    pub host_fifo: HostFifo,
    /// Programs with set-user-ID and set-group-ID bits get the rights of their file's user and group.
    #[arg(long)]
    pub allow_suid: bool,
    /// Apply the seccomp profile of config.json (`linux.seccomp`) inside the sandbox, to its processes and those of
    /// `exec`. What it refuses is refused by the sandbox's kernel; the sandbox itself has filters of its own.
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", action = clap::ArgAction::Set)]
    pub oci_seccomp: bool,
    /// Leave the host's cgroups alone.
    #[arg(long)]
    pub ignore_cgroups: bool,
    /// Have systemd manage the cgroup that `cgroupsPath` names as slice:prefix:name: a transient scope. Without the flag
    /// such a group is made directly, under the names systemd would give it.
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// Who manages the host's cgroups, as crun's users say it.
    #[arg(long, value_enum, value_name = "MANAGER")]
    pub cgroup_manager: Option<CgroupManager>,
}

impl Global {
    /// Lets the flag that stands for another one set it.
    pub fn resolve(&mut self) {
        match self.cgroup_manager {
            Some(CgroupManager::Systemd) => self.systemd_cgroup = true,
            Some(CgroupManager::Disabled) => self.ignore_cgroups = true,
            Some(CgroupManager::Cgroupfs) | None => {}
        }
    }

    /// Directory for the state of containers.
    pub fn state_root(&self) -> PathBuf {
        self.root.clone().unwrap_or_else(crate::state::default_root)
    }

    /// What of the host's the exported directories lead to besides their files.
    pub fn reach(&self) -> Reach {
        let sockets = match self.host_uds {
            HostUds::None => Reach::empty(),
            HostUds::Open => Reach::CONNECT,
            HostUds::Create => Reach::BIND,
            HostUds::All => Reach::CONNECT | Reach::BIND,
        };
        match self.host_fifo {
            HostFifo::None => sockets,
            HostFifo::Open => sockets | Reach::FIFO,
        }
    }

    /// What is written to the sandbox only.
    pub fn overlay(&self) -> Overlay {
        match self.overlay {
            true => Overlay { mounts: true, root: true, ..self.overlay2 },
            false => self.overlay2,
        }
    }
}

/// Values of `--cgroup-manager`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CgroupManager {
    /// This process makes them; the default.
    Cgroupfs,
    /// The same as --systemd-cgroup.
    Systemd,
    /// The same as --ignore-cgroups.
    Disabled,
}

/// Values of `--platform`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlatformName {
    /// The fastest one that works on this host.
    Auto,
    /// `PTRACE_SYSEMU`: works everywhere, needs nothing.
    Ptrace,
    /// Seccomp notifications: half the price of a system call; needs Linux 5.19 and FSGSBASE.
    Systrap,
    /// A virtual machine: a system call is one exit; needs /dev/kvm and a CPU with VMX or SVM, and Linux 5.16.
    Kvm,
}

/// Values of `debug --log-level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevelName {
    /// What went wrong, and may go wrong.
    Warning,
    /// What happens.
    Info,
    /// Everything.
    Debug,
}

/// A kind of events by its name.
pub fn event_kind(name: &str) -> Result<EventKinds, String> {
    let known = EventKinds::NAMES.iter().find(|(known, _)| *known == name);
    known.map(|(_, kind)| *kind).ok_or_else(|| {
        let names: Vec<_> = EventKinds::NAMES.iter().map(|(name, _)| *name).collect();
        format!("there is no such kind of event; there are {}", names.join(", "))
    })
}

/// Values of `--host-seccomp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HostSeccomp {
    /// The sandbox ends, with a line that names the call.
    Enforce,
    /// The call is made, and logged by the host (`dmesg`, the audit log).
    Log,
}

/// Values of `--network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NetworkName {
    /// The interfaces of the network namespace that it is given (by the bundle, or `--net-ns`), which it takes
    /// over; with no namespace, a loopback interface and nothing else.
    Sandbox,
    /// Outbound connections, datagrams and pings, by ordinary sockets of the host; needs no privileges. Names are
    /// resolved by the host's name server. Link-local addresses, metadata services and the host's loopback
    /// interface are not reached.
    User,
    /// The host's own sockets, for what needs its throughput: no isolation of the network. Ports that only root may bind
    /// cannot be bound.
    Host,
    /// A loopback interface and nothing else.
    None,
}

/// Values of `--host-uds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HostUds {
    /// Nobody outside is reached, or reaches in.
    None,
    /// Programs can connect to sockets of the host.
    Open,
    /// Programs of the host can connect to sockets that are bound in the sandbox.
    Create,
    /// Both.
    All,
}

/// Values of `--host-fifo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HostFifo {
    /// FIFOs are the sandbox's own.
    None,
    /// They are the host's.
    Open,
}

/// Values of `--file-access`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FileAccess {
    /// The container only.
    Exclusive,
    /// Others, too.
    Shared,
}

/// The value of `--overlay2`: what is written to the sandbox only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlay {
    /// The root.
    pub root: bool,
    /// Volumes.
    pub mounts: bool,
    /// Most bytes for each.
    pub size: u64,
}

impl Overlay {
    fn parse(text: &str) -> Result<Overlay, String> {
        let (place, size) = match text.split_once(",size=") {
            Some((place, size)) => (place, bytes(size)?),
            None => (text, crate::commands::OVERLAY_SIZE),
        };
        let of = |root, mounts| Ok(Overlay { root, mounts, size });
        match place.split_once(':') {
            None if place == "none" => of(false, false),
            Some(("root", medium)) if is_medium(medium) => of(true, false),
            Some(("all", medium)) if is_medium(medium) => of(true, true),
            _ => Err("expected none, root:memory or all:memory, and ,size=BYTES after it".into()),
        }
    }
}

fn is_medium(text: &str) -> bool {
    matches!(text, "memory" | "self")
        || text.strip_prefix("dir=").is_some_and(|d| d.starts_with('/'))
}

/// A number of bytes, with `k`, `m` or `g` after it.
fn bytes(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.to_ascii_lowercase() {
        text if text.ends_with('k') => (text[..text.len() - 1].to_owned(), 10),
        text if text.ends_with('m') => (text[..text.len() - 1].to_owned(), 20),
        text if text.ends_with('g') => (text[..text.len() - 1].to_owned(), 30),
        text => (text, 0),
    };
    let number = digits.parse::<u64>().ok().filter(|n| *n > 0 && *n <= u64::MAX >> shift);
    number.map(|n| n << shift).ok_or_else(|| format!("{text:?} is no number of bytes"))
}

/// Sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a command in a sandbox whose root is this host's, read-only, with a private overlay.
    Do(DoArgs),
    /// Create a container from a bundle; `start` runs its program.
    Create(CreateArgs),
    /// Run the program of a created container.
    Start(IdArgs),
    /// Create a container, run its program and wait for it.
    Run(RunArgs),
    /// Run a further process in a container.
    Exec(ExecArgs),
    /// Print the state of a container.
    State(IdArgs),
    /// Send a signal to a container's first process.
    Kill(KillArgs),
    /// Remove a container that has stopped.
    Delete(DeleteArgs),
    /// List the containers.
    List(ListArgs),
    /// List the processes of a container.
    Ps(PsArgs),
    /// Wait for the end of a container's first process, or of one that `exec` started.
    Wait(WaitArgs),
    /// Let no process of a container run.
    Pause(IdArgs),
    /// Let the processes of a paused container go on.
    Resume(IdArgs),
    /// Print what a container uses.
    Events(EventsArgs),
    /// Change the limits of a container.
    Update(UpdateArgs),
    /// Look into a sandbox that runs.
    Debug(DebugArgs),
    /// Let connections to a port of the host lead to one of a container.
    PortForward(PortForwardArgs),
    /// Print what memory a container uses, and for what, as JSON.
    Usage(UsageArgs),
    /// Print what a container uses, in Prometheus' format.
    ExportMetrics(IdArgs),
    /// Serve what all containers use to Prometheus, over HTTP.
    MetricServer(MetricServerArgs),
    /// Add this runtime to Docker's or containerd's configuration.
    Install(InstallArgs),
    /// Take this runtime out of Docker's or containerd's configuration.
    Uninstall(RuntimeEntry),
    /// Write files of a container as a tar archive.
    Tar(TarArgs),
    /// Write a default config.json.
    Spec(SpecArgs),
    /// Print what this runtime can do.
    Features,
    /// Print what this kernel has of each system call of Linux.
    Syscalls(SyscallsArgs),
}

/// Commands that need no more than a container.
#[derive(Debug, Args)]
pub struct IdArgs {
    /// Name of the container.
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

/// What `create` and `run` have in common.
#[derive(Debug, Args)]
pub struct BundleArgs {
    /// Directory with config.json.
    #[arg(long, short = 'b', value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Configuration to use instead of the bundle's config.json.
    #[arg(long, short = 'f', value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Write the sandbox's process id to this file.
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Unix socket to which the master of the container's terminal is sent.
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Pass this many descriptors on, from 3 on.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// Pass a descriptor on: `FD`, or `FD:FD-IN-CONTAINER`. Repeatable.
    #[arg(long, value_name = "FD[:FD]", value_parser = pass_fd)]
    pub pass_fd: Vec<(i32, i32)>,
    /// Let a port of the host lead into the sandbox (with --network=user). Repeatable.
    #[arg(long, short = 'p', value_name = "[IP:]HOST:GUEST[/udp]")]
    pub publish: Vec<Publish>,
    /// For compatibility with runc: nothing here pivots on the host.
    #[arg(long, hide = true)]
    pub no_pivot: bool,
    /// For compatibility with runc: the sandbox has a session of its own anyway.
    #[arg(long, hide = true)]
    pub no_new_keyring: bool,
    /// Name of the container.
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

fn pass_fd(text: &str) -> Result<(i32, i32), String> {
    let (host, guest) = text.split_once(':').unwrap_or((text, text));
    match (host.parse(), guest.parse()) {
        (Ok(host), Ok(guest)) if host >= 0 && guest >= 0 => Ok((host, guest)),
        _ => Err("expected FD or FD:FD".into()),
    }
}

/// `runsc create`
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Flags shared with `run`.
    #[command(flatten)]
    pub bundle: BundleArgs,
}

/// `runsc run`
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Flags shared with `create`.
    #[command(flatten)]
    pub bundle: BundleArgs,
    /// Do not wait for it.
    #[arg(long, short = 'd')]
    pub detach: bool,
    /// Do not delete the container when its program has ended.
    #[arg(long)]
    pub keep: bool,
}

/// `runsc exec`
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// Working directory (default: that of config.json).
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// Set a variable (`NAME=VALUE`). Repeatable.
    #[arg(long, short = 'e', value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// User: `UID[:GID]`, or names from the container's /etc/passwd and /etc/group.
    #[arg(long, short = 'u', value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Further groups, by number. Repeatable.
    #[arg(long, short = 'g', value_name = "GID")]
    pub additional_gids: Vec<u32>,
    /// Give the process a terminal.
    #[arg(long, short = 't')]
    pub tty: bool,
    /// Do not wait for it.
    #[arg(long, short = 'd')]
    pub detach: bool,
    /// Write the id of the host process that stands for it to this file.
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Write its process id in the container to this file.
    #[arg(long, value_name = "FILE")]
    pub internal_pid_file: Option<PathBuf>,
    /// With --detach: write its exit status to this file when it has ended.
    #[arg(long, value_name = "FILE", hide = true)]
    pub exit_file: Option<PathBuf>,
    /// Unix socket to which the master of its terminal is sent.
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// JSON file that describes the process, as `process` of config.json.
    #[arg(long, short = 'p', value_name = "FILE")]
    pub process: Option<PathBuf>,
    /// Add a capability (CAP_NET_RAW). Repeatable.
    #[arg(long, short = 'c', value_name = "CAP")]
    pub cap: Vec<String>,
    /// Set PR_SET_NO_NEW_PRIVS.
    #[arg(long)]
    pub no_new_privs: bool,
    /// Control group of the container's (a path below its root) that the process starts in.
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<String>,
    /// In a container that is paused, let the process wait until that ends, instead of failing.
    #[arg(long)]
    pub ignore_paused: bool,
    /// Pass this many descriptors on, from 3 on.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// Pass a descriptor on: `FD`, or `FD:FD-IN-CONTAINER`. Repeatable.
    #[arg(long, value_name = "FD[:FD]", value_parser = pass_fd)]
    pub pass_fd: Vec<(i32, i32)>,
    /// Name of the container.
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
    /// Command and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `runsc kill`
#[derive(Debug, Args)]
pub struct KillArgs {
    /// Send it to every process of the container.
    #[arg(long, short = 'a')]
    pub all: bool,
    /// Send it to the process with this id in the container.
    #[arg(long, value_name = "PID")]
    pub pid: Option<i32>,
    /// Send it to every process of the process group with this id in the container.
    #[arg(long, value_name = "PGID")]
    pub pgid: Option<i32>,
    /// Name of the container.
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
    /// Name or number of the signal.
    #[arg(value_name = "SIGNAL", default_value = "TERM")]
    pub signal: String,
}

/// `runsc wait`
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Wait for the process with this id in the container, which `exec` started.
    #[arg(long, value_name = "PID")]
    pub pid: Option<i32>,
    /// The same: the sandbox has no other numbers for it.
    #[arg(long, hide = true, value_name = "PID", conflicts_with = "pid")]
    pub rootpid: Option<i32>,
    /// Name of the container.
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

/// `runsc delete`
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Kill it first if it runs; a container that does not exist is no error.
    #[arg(long, short = 'f')]
    pub force: bool,
    /// Names of the containers.
    #[arg(value_name = "CONTAINER-ID", required = true)]
    pub ids: Vec<String>,
}

/// How `list` and `ps` print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// For people.
    #[value(alias = "text")]
    Table,
    /// For programs.
    Json,
}

/// `runsc list`
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Print names only.
    #[arg(long, short = 'q')]
    pub quiet: bool,
    /// Leave out containers that share another's sandbox.
    #[arg(long)]
    pub sandbox: bool,
    /// How to print.
    #[arg(long, short = 'f', value_enum, default_value_t = ListFormat::Table)]
    pub format: ListFormat,
}

/// `runsc ps`
#[derive(Debug, Args)]
pub struct PsArgs {
    /// How to print: a table of the processes inside, or a JSON list of the host's processes.
    #[arg(long, short = 'f', value_enum, default_value_t = ListFormat::Table)]
    pub format: ListFormat,
    /// Name of the container.
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
    /// Options for ps(1), which have no effect.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub options: Vec<String>,
}

/// `runsc events`
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Print once, then end.
    #[arg(long)]
    pub stats: bool,
    /// Seconds between two lines.
    #[arg(long, value_name = "SECONDS", default_value = "5s", value_parser = seconds)]
    pub interval: u64,
    /// Name of the container.
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

fn seconds(text: &str) -> Result<u64, String> {
    match text.strip_suffix('s').unwrap_or(text).parse() {
        Ok(0) | Err(_) => Err("expected a number of seconds, at least 1".into()),
        Ok(seconds) => Ok(seconds),
    }
}

/// A number of bytes; K, M, G and T stand for powers of 1024.
fn signed_bytes(text: &str) -> Result<i64, String> {
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let units = [('k', 10), ('m', 20), ('g', 30), ('t', 40)];
    let unit = units.into_iter().find_map(|(unit, bits)| Some((lower.strip_suffix(unit)?, bits)));
    let (number, bits) = unit.unwrap_or((lower, 0));
    let number: Option<i64> = number.parse().ok();
    number.and_then(|n| n.checked_mul(1 << bits)).ok_or_else(|| "expected a number of bytes".into())
}

/// `runsc update`
#[derive(Debug, Default, Args)]
pub struct UpdateArgs {
    /// JSON file (or - for standard input) with `linux.resources`.
    #[arg(long, short = 'r', value_name = "FILE")]
    pub resources: Option<PathBuf>,
    /// Bytes of memory.
    #[arg(long, value_name = "BYTES", value_parser = signed_bytes, allow_negative_numbers = true)]
    pub memory: Option<i64>,
    /// Bytes of memory and swap together.
    #[arg(long, value_name = "BYTES", value_parser = signed_bytes, allow_negative_numbers = true)]
    pub memory_swap: Option<i64>,
    /// Bytes of memory that are kept longest.
    #[arg(long, value_name = "BYTES", value_parser = signed_bytes, allow_negative_numbers = true)]
    pub memory_reservation: Option<i64>,
    /// Relative share of CPU time.
    #[arg(long, visible_alias = "cpu-shares", value_name = "N")]
    pub cpu_share: Option<u64>,
    /// Microseconds of CPU time in a period.
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    pub cpu_quota: Option<i64>,
    /// Microseconds of a period.
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_period: Option<u64>,
    /// CPUs to use.
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes to use.
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Relative share of block devices' time, 10 to 1000.
    #[arg(long, value_name = "N")]
    pub blkio_weight: Option<u16>,
    /// Most tasks.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub pids_limit: Option<i64>,
    /// Name of the container.
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

/// `runsc do`
#[derive(Debug, Args)]
pub struct DoArgs {
    /// Directory that becomes `/`, instead of the host's root.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Working directory (default: this one if the root is the host's, else `/`).
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// Set a variable (`NAME=VALUE`), or pass this one's value on (`NAME`). Repeatable.
    #[arg(long, short = 'e', value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Make a host file or directory visible: `SRC[:DST][:ro|rw]` (default `rw`). Repeatable.
    #[arg(long, short = 'v', value_name = "SRC[:DST][:ro|rw]")]
    pub volume: Vec<String>,
    /// User: `UID[:GID]`, or names from the sandbox's /etc/passwd and /etc/group (default: who you
    /// are).
    #[arg(long, short = 'u', value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Network namespace whose interfaces the sandbox takes over, with their addresses and routes; the host
    /// has them no longer.
    #[arg(long, value_name = "FILE")]
    pub net_ns: Option<PathBuf>,
    /// Let a port of the host lead into the sandbox (with --network=user). Repeatable.
    #[arg(long, short = 'p', value_name = "[IP:]HOST:GUEST[/udp]")]
    pub publish: Vec<Publish>,
    /// Command and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}

/// `runsc debug`
#[derive(Debug, Args)]
pub struct DebugArgs {
    /// Print what every thread is doing.
    #[arg(long)]
    pub stacks: bool,
    /// The same as --stacks.
    #[arg(long)]
    pub ps: bool,
    /// Print every system call of the whole sandbox, until interrupted. With a value, change which calls get a line in
    /// the sandbox's debug log: all, off, or names with commas between them.
    #[arg(long, value_name = "CALLS", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub strace: Option<String>,
    /// Print events that matter for security as JSON, until interrupted: of all kinds, or of these (exec, open, connect,
    /// privilege, refused; with commas between them).
    #[arg(long, value_name = "KINDS", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub trace: Option<String>,
    /// Change how much the sandbox says of itself in its debug log.
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub log_level: Option<LogLevelName>,
    /// Send a signal, by number or name, to the process of the host that is the sandbox; one that is not caught
    /// there ends it.
    #[arg(long, value_name = "SIGNAL")]
    pub signal: Option<String>,
    /// Name of the container.
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

/// `runsc port-forward`
#[derive(Debug, Args)]
pub struct PortForwardArgs {
    /// Instead of listening on a port, connect to this Unix socket and forward that connection.
    #[arg(long, value_name = "SOCKET")]
    pub stream: Option<PathBuf>,
    /// Name of the container.
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
    /// Port of the host's loopback interface (the same if it is left out, any free one for 0), and of the container's.
    #[arg(value_name = "[LOCAL:]REMOTE")]
    pub ports: String,
}

/// `runsc tar`
#[derive(Debug, Args)]
pub struct TarArgs {
    /// Which files.
    #[command(subcommand)]
    pub what: TarWhat,
}

/// What `runsc tar` writes.
#[derive(Debug, Subcommand)]
pub enum TarWhat {
    /// What the container has changed of its root: the upper layer of its overlay, with whiteouts (character devices
    /// 0:0) for what it has removed.
    RootfsUpper(RootfsUpperArgs),
}

/// `runsc tar rootfs-upper`
#[derive(Debug, Args)]
pub struct RootfsUpperArgs {
    /// File for the archive (default: standard output).
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Name of the container.
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

/// `runsc usage`
#[derive(Debug, Args)]
pub struct UsageArgs {
    /// Memory by what it is used for, not the sum only.
    #[arg(long)]
    pub full: bool,
    /// Name of the container.
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}

/// `runsc metric-server`
#[derive(Debug, Args)]
pub struct MetricServerArgs {
    /// Address and port to listen on.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9115")]
    pub address: String,
}

/// Which entry of which configuration `install` and `uninstall` change.
#[derive(Debug, Args)]
pub struct RuntimeEntry {
    /// Configuration file: TOML is containerd's, everything else Docker's.
    #[arg(
        long,
        visible_alias = "config_file",
        value_name = "FILE",
        default_value = "/etc/docker/daemon.json"
    )]
    pub config_file: PathBuf,
    /// Name of the runtime there.
    #[arg(long, value_name = "NAME", default_value = "runsc")]
    pub runtime: String,
}

/// `runsc install`
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// What is added.
    #[command(flatten)]
    pub entry: RuntimeEntry,
    /// Replace a runtime of that name.
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", action = clap::ArgAction::Set)]
    pub clobber: bool,
    /// containerd's name of the shim that is to run it, instead of containerd's own for OCI runtimes:
    /// io.containerd.runsc.v1 is this program's, under the name containerd-shim-runsc-v1.
    #[arg(long, value_name = "TYPE")]
    pub runtime_type: Option<String>,
    /// Flags that Docker passes on, after `--`.
    #[arg(last = true, value_name = "FLAG")]
    pub runtime_args: Vec<String>,
}

/// `runsc spec`
#[derive(Debug, Args)]
pub struct SpecArgs {
    /// Directory in which to write config.json.
    #[arg(long, short = 'b', value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Working directory of the process.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub cwd: String,
    /// For a user without privileges: with a user namespace in which he is root, and without a network namespace.
    #[arg(long)]
    pub rootless: bool,
    /// Command and its arguments (default: `sh`).
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// How `syscalls` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SyscallsFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For spreadsheets.
    Csv,
}

/// `runsc syscalls`
#[derive(Debug, Args)]
pub struct SyscallsArgs {
    /// How to print.
    #[arg(long, short = 'o', value_enum, default_value_t = SyscallsFormat::Table)]
    pub format: SyscallsFormat,
}
