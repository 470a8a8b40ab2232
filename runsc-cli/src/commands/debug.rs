//! `runsc debug`: looks into a sandbox that runs.

use super::ps::table;
use crate::cli::{DebugArgs, Global, LogLevelName, event_kind};
use crate::container::Container;
use crate::sandbox::supervise;
use anyhow::{Context, anyhow, bail};
use sentry::boot::protocol::{Reply, Request, ThreadInfo};
use sentry::boot::{EventKinds, LogLevel};
use std::os::fd::AsFd;

/// Prints what the flags ask for.
pub fn run(global: &Global, args: &DebugArgs) -> anyhow::Result<u8> {
    let looks = args.stacks || args.ps || args.strace.is_some() || args.trace.is_some();
    if !looks && args.signal.is_none() && args.log_level.is_none() {
        bail!("nothing to do: say --stacks, --ps, --strace, --trace, --log-level or --signal");
    }
    let kinds = args.trace.as_deref().map(kinds).transpose()?;
    let calls = match args.strace.as_deref() {
        None | Some("") => None,
        Some(text) => Some(calls(text)?),
    };
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
    if let Some(level) = args.log_level {
        let level = match level {
            LogLevelName::Warning => LogLevel::Warning,
            LogLevelName::Info => LogLevel::Info,
            LogLevelName::Debug => LogLevel::Debug,
        };
        control.ask(&Request::LogLevel(level), &[])?;
    }
    let prints = args.strace.is_some() && calls.is_none();
    if let Some(calls) = calls {
        control.ask(&Request::LogCalls(calls), &[])?;
    }
    if prints || kinds.is_some() {
        supervise::block_signals()?;
        let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
        if prints {
            control.ask(&Request::Strace, &[stdout.as_fd()])?;
        }
        if let Some(kinds) = kinds {
            // With both, each has a stream of its own.
            let file = if prints { stderr.as_fd() } else { stdout.as_fd() };
            control.ask(&Request::Trace(kinds.bits()), &[file])?;
        }
        supervise::wait_for_signal(control.as_fd())?;
    }
    Ok(0)
}

/// The kinds of events of a list; all of them without one.
fn kinds(list: &str) -> anyhow::Result<EventKinds> {
    if list.is_empty() {
        return Ok(EventKinds::all());
    }
    let kinds: Result<Vec<_>, _> = list.split(',').map(event_kind).collect();
    Ok(kinds.map_err(|e| anyhow!("--trace={list}: {e}"))?.into_iter().collect())
}

/// The system calls of a list: none of them for `off`, no names for `all`.
fn calls(list: &str) -> anyhow::Result<Option<Vec<String>>> {
    match list {
        "all" => return Ok(Some(Vec::new())),
        "off" => return Ok(None),
        _ => {}
    }
    let names: Vec<String> = list.split(',').map(str::to_owned).collect();
    for name in &names {
        if sentry::syscalls::table::number_of(name).is_none() {
            bail!("--strace={list}: there is no call {name:?}");
        }
    }
    Ok(Some(names))
}

fn row(thread: ThreadInfo) -> [String; 5] {
    let call = thread.call.unwrap_or_else(|| "its own code".into());
    [thread.pid.to_string(), thread.tid.to_string(), thread.state.into(), thread.name, call]
}
