//! The processes below the calling one, read from `/proc`. Shared with the benchmark.

use std::fs;

use anyhow::{Context, Result};
use nix::unistd::Pid;

/// All living processes below this one, with their names; zombies do not count.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn descendants() -> Result<Vec<(Pid, String)>> {
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc").context("listing /proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // pid (name) state ppid …; the name may contain anything, also parentheses.
        let (Some(open), Some(close)) = (stat.find('('), stat.rfind(") ")) else { continue };
        let name = stat.get(open.saturating_add(1)..close).unwrap_or("").to_owned();
        let mut rest = stat.get(close.saturating_add(2)..).unwrap_or("").split(' ');
        let (Some(state), Some(Ok(parent))) = (rest.next(), rest.next().map(str::parse::<i32>))
        else {
            continue;
        };
        processes.push((pid, parent, state != "Z", name));
    }
    let mut ours = vec![nix::unistd::getpid().as_raw()];
    let mut next = 0;
    while let Some(parent) = ours.get(next).copied() {
        ours.extend(processes.iter().filter(|p| p.1 == parent).map(|p| p.0));
        next = next.saturating_add(1);
    }
    let living = processes.into_iter().filter(|p| p.2 && ours.iter().skip(1).any(|o| *o == p.0));
    Ok(living.map(|(pid, _, _, name)| (Pid::from_raw(pid), name)).collect())
}
