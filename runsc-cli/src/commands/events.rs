//! `runsc events`: what a container uses.

use crate::cgroup;
use crate::cli::{EventsArgs, Global};
use crate::container::Container;
use anyhow::bail;
use sentry::boot::protocol::{Reply, Request};
use serde_json::json;
use std::time::Duration;

/// Prints one line, or one in every interval until the container ends.
pub fn run(global: &Global, args: &EventsArgs) -> anyhow::Result<u8> {
    let container = Container::look(&global.state_root(), &args.id)?;
    let control = container.running()?;
    let group = container.state()?.cgroup.clone();
    loop {
        let inside = match control.ask(&Request::Stats, &[]) {
            Ok(Reply::Stats(stats)) => stats,
            Ok(_) => bail!("the sandbox does not answer the question"),
            // It has ended while we watched.
            Err(_) if !args.stats => return Ok(0),
            Err(e) => return Err(e),
        };
        let data = cgroup::stats(group.as_ref(), &inside);
        println!("{}", json!({ "type": "stats", "id": args.id, "data": data }));
        if args.stats {
            return Ok(0);
        }
        std::thread::sleep(Duration::from_secs(args.interval));
    }
}
