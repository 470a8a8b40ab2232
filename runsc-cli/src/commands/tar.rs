//! `runsc tar`: files of a container as an archive.

use crate::cli::{Global, RootfsUpperArgs, TarWhat};
use crate::container::Container;
use anyhow::{Context, bail};
use sentry::boot::protocol::Request;
use std::fs::File;
use std::io::{IsTerminal, stdout};
use std::os::fd::AsFd;

/// Writes what is asked for.
pub fn run(global: &Global, what: &TarWhat) -> anyhow::Result<u8> {
    match what {
        TarWhat::RootfsUpper(args) => rootfs_upper(global, args),
    }
}

/// Writes what a container has changed of its root.
fn rootfs_upper(global: &Global, args: &RootfsUpperArgs) -> anyhow::Result<u8> {
    let container = Container::look(&global.state_root(), &args.id)?;
    let control = container.running()?;
    let Some(path) = &args.file else {
        if stdout().is_terminal() {
            bail!("an archive is not written to a terminal: name a file with --file");
        }
        control.ask(&Request::RootfsUpper, &[stdout().as_fd()])?;
        return Ok(0);
    };
    let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    control.ask(&Request::RootfsUpper, &[file.as_fd()])?;
    Ok(0)
}
