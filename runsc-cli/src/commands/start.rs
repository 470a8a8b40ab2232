//! `runsc start`: runs the program of a created container.

use crate::cli::Global;
use crate::container::Container;

/// Starts it.
pub fn run(global: &Global, id: &str) -> anyhow::Result<u8> {
    Container::open(&global.state_root(), id)?.start(global.host_seccomp)?;
    Ok(0)
}
