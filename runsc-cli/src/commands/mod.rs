//! The sub-commands.

mod r#do;
mod run;
mod spec;

use crate::cli::{Cli, Command};

/// Writes of a guest to its root are kept in memory; no more than this, in bytes.
pub const OVERLAY_SIZE: u64 = 8 << 30;

/// Runs the command; the result is runsc's exit status.
pub fn dispatch(cli: Cli) -> anyhow::Result<u8> {
    match cli.command {
        Command::Do(args) => r#do::run(&cli.global, args),
        Command::Run(args) => run::run(&cli.global, args),
        Command::Spec(args) => spec::run(args),
    }
}
