//! The sub-commands.

mod create;
mod debug;
mod delete;
mod r#do;
mod events;
mod exec;
mod features;
mod install;
mod kill;
mod list;
mod metrics;
pub mod pause;
mod port_forward;
mod ps;
mod run;
mod spec;
mod start;
mod state;
mod syscalls;
mod tar;
pub mod update;
mod usage;
pub mod wait;

use crate::cli::{Cli, Command};

/// Writes of a guest to its root are kept in memory; no more than this, in bytes.
pub const OVERLAY_SIZE: u64 = 8 << 30;

/// Runs the command; the result is runsc's exit status.
pub fn dispatch(cli: Cli) -> anyhow::Result<u8> {
    let global = &cli.global;
    match cli.command {
        Command::Do(args) => r#do::run(global, args),
        Command::Create(args) => create::run(global, &args.bundle),
        Command::Start(args) => start::run(global, &args.id),
        Command::Run(args) => run::run(global, &args),
        Command::Exec(args) => exec::run(global, &args),
        Command::State(args) => state::run(global, &args.id),
        Command::Kill(args) => kill::run(global, &args),
        Command::Delete(args) => delete::run(global, &args),
        Command::List(args) => list::run(global, &args),
        Command::Ps(args) => ps::run(global, &args),
        Command::Wait(args) => wait::run(global, &args),
        Command::Pause(args) => pause::run(global, &args.id, true),
        Command::Resume(args) => pause::run(global, &args.id, false),
        Command::Events(args) => events::run(global, &args),
        Command::Update(args) => update::run(global, &args),
        Command::Debug(args) => debug::run(global, &args),
        Command::PortForward(args) => port_forward::run(global, &args),
        Command::Tar(args) => tar::run(global, &args.what),
        Command::Usage(args) => usage::run(global, &args),
        Command::ExportMetrics(args) => metrics::export(global, &args.id),
        Command::MetricServer(args) => metrics::serve(global, &args),
        Command::Install(args) => install::install(&args),
        Command::Uninstall(args) => install::uninstall(&args),
        Command::Spec(args) => spec::run(args),
        Command::Features => features::run(),
        Command::Syscalls(args) => Ok(syscalls::run(&args)),
    }
}
