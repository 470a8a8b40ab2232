//! `runsc run`: runs an OCI bundle in the foreground.

use crate::bundle;
use crate::cli::{Global, RunArgs};
use crate::sandbox::{Sandbox, open_log};
use anyhow::bail;

/// Runs the bundle to its end; the result is the exit status of its process.
pub fn run(global: &Global, args: RunArgs) -> anyhow::Result<u8> {
    check_id(&args.id)?;
    let (spec, exports) = bundle::load(&args.bundle, &args.id)?;
    Sandbox { spec, exports, log: open_log(global)?, strace: global.strace }.run(global)
}

/// Container ids name directories later: the characters are runc's.
fn check_id(id: &str) -> anyhow::Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if id.is_empty() || id.len() > 1024 || id.starts_with('.') || !id.chars().all(good) {
        bail!(
            "invalid container id {id:?}: use letters, digits and _+-. only, not starting with a dot"
        );
    }
    Ok(())
}
