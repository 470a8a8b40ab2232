//! `runsc debug`: looks into a sandbox that runs.

use super::ps::table;
use crate::cli::{DebugArgs, Global};
use crate::container::Container;
use crate::sandbox::supervise;
use anyhow::{Context, bail};
use sentry::boot::protocol::{Reply, Request, ThreadInfo};
use std::os::fd::AsFd;

/// Prints what the flags ask for.
pub fn run(global: &Global, args: &DebugArgs) -> anyhow::Result<u8> {
    if !args.stacks && !args.ps && !args.strace && args.signal.is_none() {
        bail!("nothing to do: say --stacks, --ps, --strace or --signal");
    }
    let signal = args.signal.as_deref().map(super::kill::number).transpose()?;
    let container = Container::look(&global.state_root(), &args.id)?;
    let control = container.running()?;
    if args.stacks || args.ps {
        let Reply::Threads(threads) = control.ask(&Request::Threads, &[])? else {
            bail!("the sandbox does not answer the question");
        };
        let mut rows = vec![["PID", "TID", "S", "NAME", "IN"].map(String::from)];
        rows.extend(threads.into_iter().map(row));
        print!("{}", table(&rows));
    }
    if let Some(number) = signal {
        let sandbox = container.state()?.sandbox;
        sandbox.context("there is no process of the sandbox")?.signal(number)?;
    }
    if args.strace {
        supervise::block_signals()?;
        control.ask(&Request::Strace, &[std::io::stdout().as_fd()])?;
        supervise::wait_for_signal(control.as_fd())?;
    }
    Ok(0)
}

fn row(thread: ThreadInfo) -> [String; 5] {
    let call = thread.call.unwrap_or_else(|| "its own code".into());
    [thread.pid.to_string(), thread.tid.to_string(), thread.state.into(), thread.name, call]
}
