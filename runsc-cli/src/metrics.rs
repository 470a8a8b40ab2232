//! What containers use, in Prometheus' text format.

use crate::cgroup;
use crate::container::{Container, Phase};
use sentry::boot::protocol::{Reply, Request};
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;

/// Name, type and meaning of each metric.
const METRICS: [(&str, &str, &str); 6] = [
    ("runsc_container_running", "gauge", "1 while the container is created, runs or is paused."),
    ("runsc_cpu_usage_seconds_total", "counter", "CPU time, with the sandbox's own."),
    ("runsc_memory_usage_bytes", "gauge", "Memory, with the sandbox's own."),
    ("runsc_guest_memory_bytes", "gauge", "Memory of the guest's programs and files."),
    ("runsc_processes", "gauge", "Processes in the container."),
    ("runsc_threads", "gauge", "Threads in the container."),
];

/// The metrics of these containers. Those that are gone, or cannot be asked, are left out.
pub fn text(root: &Path, ids: &[String]) -> String {
    let samples: Vec<_> = ids.iter().filter_map(|id| Some((id, sample(root, id)?))).collect();
    let mut text = String::new();
    for (index, (name, kind, help)) in METRICS.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (id, values) in &samples {
            if let Some(Some(value)) = values.get(index) {
                // Ids have no character that would have to be escaped.
                let _ = writeln!(text, "{name}{{container=\"{id}\"}} {value}");
            }
        }
    }
    text
}

/// The values of one container, in the order of [`METRICS`].
fn sample(root: &Path, id: &str) -> Option<[Option<f64>; 6]> {
    let container = Container::look(root, id).ok()?;
    if container.phase() == Phase::Stopped {
        return Some([Some(0.0), None, None, None, None, None]);
    }
    let control = container.running().ok()?;
    let Ok(Reply::Stats(inside)) = control.ask(&Request::Stats, &[]) else { return None };
    let group = container.state().ok()?.cgroup.clone();
    let stats = cgroup::stats(group.as_ref(), &inside);
    let number = |path: &str| stats.pointer(path).and_then(Value::as_f64);
    Some([
        Some(1.0),
        number("/cpu/usage/total").map(|nanos| nanos / 1e9),
        number("/memory/usage/usage"),
        Some(inside.memory as f64),
        Some(inside.processes as f64),
        Some(inside.threads as f64),
    ])
}
