//! `runsc pause` and `runsc resume`.

use crate::cli::Global;
use crate::container::{Container, Phase};
use anyhow::bail;
use sentry::boot::protocol::Request;

/// Pauses a container, or lets it go on.
pub fn run(global: &Global, id: &str, pause: bool) -> anyhow::Result<u8> {
    let container = Container::open(&global.state_root(), id)?;
    match (container.phase(), pause) {
        (Phase::Running, true) => container.connect()?.ask(&Request::Pause, &[])?,
        (Phase::Paused, false) => container.connect()?.ask(&Request::Resume, &[])?,
        (Phase::Paused, true) => bail!("container paused: {id:?} is paused already"),
        (Phase::Running, false) => bail!("container not paused: {id:?} runs"),
        (phase, _) => bail!("container not running: {id:?} is {}", phase.name()),
    };
    Ok(0)
}
