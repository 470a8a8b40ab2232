//! The `runsc` command: sandboxes a command or an OCI bundle.
//!
//! One file per sub-command in [`commands`]; [`bundle`] reads OCI's configuration; [`sandbox`] starts,
//! watches and ends the processes of a sandbox.

mod bundle;
mod cli;
mod commands;
mod sandbox;

use clap::Parser;
use std::process::ExitCode;

/// Exit status for failures of runsc itself, as `runc` and gVisor use it.
const EXIT_INTERNAL: u8 = 128;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return if e.use_stderr() { ExitCode::from(EXIT_INTERNAL) } else { ExitCode::SUCCESS };
        }
    };
    match commands::dispatch(cli) {
        Ok(status) => ExitCode::from(status),
        Err(e) => {
            eprintln!("runsc: {e:#}");
            ExitCode::from(EXIT_INTERNAL)
        }
    }
}
