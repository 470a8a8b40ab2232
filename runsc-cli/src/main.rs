//! The `runsc` command: sandboxes a command or an OCI bundle.
//!
//! One file per sub-command in [`commands`]; [`bundle`] reads OCI's configuration; [`state`] keeps what is
//! known of containers; [`container`] is one from create to delete; [`sandbox`] starts, watches and ends the
//! processes of a sandbox; [`cgroup`] limits them. Under another name it is containerd's [`shim`].

mod bundle;
mod cgroup;
mod cli;
mod commands;
mod container;
mod failure;
mod log;
mod metrics;
mod sandbox;
mod shim;
mod state;

use clap::Parser;
use std::process::ExitCode;

/// Exit status for failures of runsc itself, as `runc` and gVisor use it.
const EXIT_INTERNAL: u8 = 128;

fn main() -> ExitCode {
    if std::env::args_os().next().is_some_and(|name| shim::is_wanted(&name)) {
        return match shim::main() {
            Ok(status) => ExitCode::from(status),
            Err(e) => {
                log::error(&format!("{e:#}"));
                ExitCode::FAILURE
            }
        };
    }
    let normal = match cli::arguments::normalise(std::env::args_os()) {
        Ok(normal) => normal,
        Err(e) => {
            log::error(&e);
            return ExitCode::from(EXIT_INTERNAL);
        }
    };
    let cli = match cli::Cli::try_parse_from(normal.words) {
        Ok(mut cli) => {
            cli.global.resolve();
            cli
        }
        Err(e) => {
            let _ = e.print();
            return if e.use_stderr() { ExitCode::from(EXIT_INTERNAL) } else { ExitCode::SUCCESS };
        }
    };
    let opened =
        cli.global.log.as_deref().map_or(Ok(()), |path| log::open(path, cli.global.log_format));
    if opened.is_ok() {
        normal.warnings.iter().for_each(|warning| log::warn(warning));
    }
    match opened.and_then(|()| commands::dispatch(cli)) {
        Ok(status) => ExitCode::from(status),
        Err(e) => {
            log::error(&format!("{e:#}"));
            let failure = e.downcast_ref::<failure::Failure>();
            ExitCode::from(failure.map_or(EXIT_INTERNAL, |failure| failure.status))
        }
    }
}
