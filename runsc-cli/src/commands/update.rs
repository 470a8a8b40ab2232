//! `runsc update`: changes the limits of a container.

use crate::bundle::linux::limits;
use crate::cli::{Global, UpdateArgs};
use crate::container::Container;
use crate::log;
use anyhow::Context;
use oci_spec::runtime::LinuxResources;
use sentry::boot::protocol::Request;
use serde_json::{Map, Value, json};
use std::path::Path;

/// Changes them.
pub fn run(global: &Global, args: &UpdateArgs) -> anyhow::Result<u8> {
    let resources = resources(args)?;
    let container = Container::open(&global.state_root(), &args.id)?;
    let control = container.running()?;
    match &container.state()?.cgroup {
        Some(group) => group.limit(&resources)?,
        None => log::warn(&format!(
            "container {:?} has no cgroup of its own, so that its limits change inside only",
            args.id
        )),
    }
    control.ask(&Request::Limit(limits(Some(&resources))), &[])?;
    Ok(0)
}

fn resources(args: &UpdateArgs) -> anyhow::Result<LinuxResources> {
    if let Some(path) = &args.resources {
        let text = if path == Path::new("-") {
            std::io::read_to_string(std::io::stdin())
        } else {
            std::fs::read_to_string(path)
        };
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        return serde_json::from_str(&text)
            .with_context(|| format!("{} is not a valid \"linux.resources\"", path.display()));
    }
    // `null` is what a flag that was not given becomes, and is left out.
    let part = |values: &[(&str, Value)]| {
        let given = values.iter().filter(|(_, value)| !value.is_null());
        given.map(|(name, value)| (name.to_string(), value.clone())).collect::<Map<_, _>>()
    };
    let memory = part(&[
        ("limit", json!(args.memory)),
        ("swap", json!(args.memory_swap)),
        ("reservation", json!(args.memory_reservation)),
    ]);
    let cpu = part(&[
        ("shares", json!(args.cpu_share)),
        ("quota", json!(args.cpu_quota)),
        ("period", json!(args.cpu_period)),
        ("cpus", json!(args.cpuset_cpus)),
        ("mems", json!(args.cpuset_mems)),
    ]);
    let mut all = Map::new();
    all.insert("memory".into(), memory.into());
    all.insert("cpu".into(), cpu.into());
    if let Some(weight) = args.blkio_weight {
        all.insert("blockIO".into(), json!({ "weight": weight }));
    }
    if let Some(limit) = args.pids_limit {
        all.insert("pids".into(), json!({ "limit": limit }));
    }
    serde_json::from_value(all.into()).context("cannot use these limits")
}
