//! Who the sentry is on the host: its user namespace.
//!
//! In its namespace the sentry is user 0, which owns nothing there; on the host it is `nobody` when
//! runsc is root's, and the user who called runsc otherwise (`user_namespaces(7)`).

use anyhow::Context;
use nix::unistd::{Pid, getegid, geteuid};
use std::fs;

/// Host user and group `nobody`.
const NOBODY: u32 = 65534;

/// Writes the id maps of a process that has just been made in a new user namespace.
pub fn write_maps(pid: Pid) -> anyhow::Result<()> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    // Root of a user namespace with few users may have no `nobody` to give.
    if geteuid().is_root() && map(pid, NOBODY, NOBODY).is_ok() {
        return Ok(());
    }
    if !geteuid().is_root() {
        // Without it the kernel lets no ordinary user map a group.
        write(pid, "setgroups", "deny")?;
    }
    map(pid, uid, gid)
}

fn map(pid: Pid, uid: u32, gid: u32) -> anyhow::Result<()> {
    write(pid, "gid_map", &format!("0 {gid} 1"))?;
    write(pid, "uid_map", &format!("0 {uid} 1"))
}

fn write(pid: Pid, file: &str, text: &str) -> anyhow::Result<()> {
    let path = format!("/proc/{pid}/{file}");
    fs::write(&path, text).with_context(|| {
        format!(
            "cannot write {path}: does this host allow user namespaces (user.max_user_namespaces)?"
        )
    })
}
