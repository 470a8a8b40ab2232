//! `runsc state`: prints the state of a container.

use crate::cli::Global;
use crate::container::Container;
use anyhow::Context;

/// Prints it as JSON.
pub fn run(global: &Global, id: &str) -> anyhow::Result<u8> {
    let container = Container::look(&global.state_root(), id)?;
    let state = container.describe(container.phase());
    let text = serde_json::to_string_pretty(&state).context("cannot write the state")?;
    println!("{text}");
    Ok(0)
}
