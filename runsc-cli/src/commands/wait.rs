//! `runsc wait`: waits for the end of a container's first process, or of one that `exec` started.

use crate::cli::{Global, WaitArgs};
use crate::container::{Container, Phase};
use anyhow::bail;
use sentry::boot::protocol::{Reply, Request};

/// Exit status of a process that ended with its sandbox, as by `SIGKILL`.
const KILLED: u8 = 137;

/// Waits, then prints how it ended.
pub fn run(global: &Global, args: &WaitArgs) -> anyhow::Result<u8> {
    let id = &args.id;
    let container = Container::look(&global.state_root(), id)?;
    let status = wait(&container, args.pid.or(args.rootpid).unwrap_or(1))?;
    println!("{}", serde_json::json!({ "id": id, "exitStatus": status }));
    Ok(0)
}

fn wait(container: &Container, pid: i32) -> anyhow::Result<u8> {
    let ended = || container.exit_status().unwrap_or(KILLED);
    if container.phase() == Phase::Stopped {
        return Ok(ended());
    }
    match container.running().and_then(|control| control.ask(&Request::Wait(pid), &[])) {
        Ok(Reply::Exited { status }) => Ok(exit_status(status)),
        Ok(_) => bail!("the sandbox does not answer the question"),
        // It has ended in this moment.
        Err(_) if container.phase() == Phase::Stopped => Ok(ended()),
        Err(e) => Err(e),
    }
}

/// A wait status as a shell reports it.
pub fn exit_status(status: i32) -> u8 {
    let shell = match status & 0x7f {
        0 => status >> 8 & 0xff,
        signal => 128 + signal,
    };
    u8::try_from(shell).unwrap_or(u8::MAX)
}
