//! `runsc wait`: waits for the end of a container's first process.

use crate::cli::Global;
use crate::container::Container;
use anyhow::bail;
use sentry::boot::protocol::{Reply, Request};

/// Waits, then prints how it ended.
pub fn run(global: &Global, id: &str) -> anyhow::Result<u8> {
    let container = Container::look(&global.state_root(), id)?;
    let control = container.running()?;
    let Reply::Exited { status } = control.ask(&Request::Wait(1), &[])? else {
        bail!("the sandbox does not answer the question");
    };
    println!("{}", serde_json::json!({ "id": id, "exitStatus": exit_status(status) }));
    Ok(0)
}

/// A wait status as a shell reports it.
pub fn exit_status(status: i32) -> u8 {
    let shell = match status & 0x7f {
        0 => status >> 8 & 0xff,
        signal => 128 + signal,
    };
    u8::try_from(shell).unwrap_or(u8::MAX)
}
