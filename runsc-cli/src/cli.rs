//! The command line. Names of commands and flags are gVisor's `runsc`'s where it has them.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Runs untrusted Linux programs on a kernel of their own.
#[derive(Debug, Parser)]
#[command(name = "runsc", version, about, disable_help_subcommand = true)]
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
    /// Directory for the state of containers.
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Write a line for every system call of the guest to the debug log.
    #[arg(long)]
    pub strace: bool,
    /// File for the debug log (default: standard error).
    #[arg(long, value_name = "FILE")]
    pub debug_log: Option<PathBuf>,
    /// Network of the sandbox; only `none` is there yet.
    #[arg(long, value_enum, default_value_t = NetworkName::None)]
    pub network: NetworkName,
}

/// Values of `--platform`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlatformName {
    /// The fastest one that works on this host.
    Auto,
    /// `PTRACE_SYSEMU`: works everywhere, needs nothing.
    Ptrace,
    /// Seccomp notifications: half the price of a system call; needs Linux 5.19.
    Systrap,
}

/// Values of `--network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NetworkName {
    /// No network: a kernel without `AF_INET`.
    None,
}

/// Sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a command in a sandbox whose root is this host's, read-only, with a private overlay.
    Do(DoArgs),
    /// Run an OCI bundle and wait for it.
    Run(RunArgs),
    /// Write a default config.json.
    Spec(SpecArgs),
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
    /// Command and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}

/// `runsc run`
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Directory with config.json.
    #[arg(long, short = 'b', value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Name of the container.
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
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
    /// Command and its arguments (default: `sh`).
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}
