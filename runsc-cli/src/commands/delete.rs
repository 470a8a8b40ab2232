//! `runsc delete`: removes containers.

use crate::cli::{DeleteArgs, Global};
use crate::container::Container;
use crate::failure::Failure;

/// Removes them, in order, up to the first failure.
pub fn run(global: &Global, args: &DeleteArgs) -> anyhow::Result<u8> {
    for id in &args.ids {
        let container = match Container::open(&global.state_root(), id) {
            Ok(container) => container,
            // Idempotent: what is gone need not be removed.
            Err(e) if args.force && e.is::<Failure>() => continue,
            Err(_) if args.force => Container::damaged(&global.state_root(), id)?,
            Err(e) => return Err(e),
        };
        container.delete(args.force)?;
    }
    Ok(0)
}
