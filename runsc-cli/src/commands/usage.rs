//! `runsc usage`: memory of a container, in gVisor's form.

use crate::cli::{Global, UsageArgs};
use crate::container::Container;
use anyhow::bail;
use sentry::boot::protocol::{Reply, Request};
use serde_json::json;

/// Prints it.
pub fn run(global: &Global, args: &UsageArgs) -> anyhow::Result<u8> {
    let control = Container::look(&global.state_root(), &args.id)?.running()?;
    let Reply::Usage(usage) = control.ask(&Request::Usage, &[])? else {
        bail!("the sandbox does not answer the question");
    };
    let value = match args.full {
        true => json!({
            "Anonymous": usage.anonymous,
            "Mapped": usage.file,
            "Shared": usage.shared,
            "Unmapped": usage.unmapped,
            "Total": usage.total,
        }),
        false => json!({ "Total": usage.total }),
    };
    println!("{value:#}");
    Ok(0)
}
