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
    let root = geteuid().is_root();
    let (uid, gid) = if root { (NOBODY, NOBODY) } else { (geteuid().as_raw(), getegid().as_raw()) };
    let write = |file: &str, text: String| {
        let path = format!("/proc/{pid}/{file}");
        fs::write(&path, text).with_context(|| {
            format!("cannot write {path}: does this host allow user namespaces (user.max_user_namespaces)?")
        })
    };
    if !root {
        // Without it the kernel lets no ordinary user map a group.
        write("setgroups", "deny".into())?;
    }
    write("uid_map", format!("0 {uid} 1"))?;
    write("gid_map", format!("0 {gid} 1"))
}
