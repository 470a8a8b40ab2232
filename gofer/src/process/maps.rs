//! Which users a gofer's user namespace has: the same ones as its starter's, under the same
//! numbers, or at least its own.

use std::fmt::Write as _;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::CapabilitySet;

/// Gives the namespaces of `child` their users and groups.
pub(super) fn write(child: Pid) -> Result<(), Errno> {
    let privileged = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SETUID | CapabilitySet::SETGID));
    if privileged
        && let (Ok(users), Ok(groups)) =
            (identity("/proc/self/uid_map"), identity("/proc/self/gid_map"))
        && write_file(child, "uid_map", &users).is_ok()
    {
        return write_file(child, "gid_map", &groups);
    }
    // An unprivileged user may map itself only, and has to give up setgroups(2) for its group.
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    write_file(child, "setgroups", "deny")?;
    write_file(child, "gid_map", &format!("{group} {group} 1"))?;
    write_file(child, "uid_map", &format!("{user} {user} 1"))
}

/// A map of this namespace's users onto themselves, from the map onto its parent's.
fn identity(path: &str) -> Result<String, Errno> {
    let text = std::fs::read_to_string(path).map_err(|_| Errno::IO)?;
    let mut map = String::new();
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        let (Some(inside), Some(_), Some(count)) = (fields.next(), fields.next(), fields.next())
        else {
            return Err(Errno::INVAL);
        };
        // Writing to a string cannot fail.
        let _ = writeln!(map, "{inside} {inside} {count}");
    }
    Ok(map)
}

fn write_file(child: Pid, name: &str, text: &str) -> Result<(), Errno> {
    let path = format!("/proc/{}/{name}", child.as_raw_nonzero());
    let file = rustix::fs::openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    // One write: the host takes a map as a whole or not at all.
    let written = rustix::io::write(&file, text.as_bytes())?;
    if written == text.len() { Ok(()) } else { Err(Errno::IO) }
}
