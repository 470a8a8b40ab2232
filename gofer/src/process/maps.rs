//! Which users a gofer's user namespace has: those it is given, or the same ones as its starter's, under the same
//! numbers, or at least its own.

use std::fmt::Write as _;
use std::process::{Command, Stdio};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::CapabilitySet;

/// Consecutive users, or groups, that have other numbers inside (`user_namespaces(7)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap {
    /// The first number inside.
    pub inside: u32,
    /// The first number in the starter's namespace.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// The users and groups of a gofer that serves files of theirs. Inside there is a user 0 and a group 0, which the
/// gofer becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Users {
    /// Users.
    pub uids: Vec<IdMap>,
    /// Groups.
    pub gids: Vec<IdMap>,
}

/// Gives the namespaces of `child` their users and groups.
pub(super) fn write(child: Pid, users: Option<&Users>) -> Result<(), Errno> {
    let privileged = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SETUID | CapabilitySet::SETGID));
    if let Some(users) = users {
        return if privileged { write_given(child, users) } else { ask_for(child, users) };
    }
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

fn text(map: &[IdMap]) -> String {
    let lines = map.iter().map(|m| format!("{} {} {}\n", m.inside, m.outside, m.count));
    lines.collect()
}

fn write_given(child: Pid, users: &Users) -> Result<(), Errno> {
    write_file(child, "gid_map", &text(&users.gids))?;
    write_file(child, "uid_map", &text(&users.uids))
}

/// As an unprivileged user: a map of oneself, or what the host's administrator lets one have (`newuidmap(1)`).
fn ask_for(child: Pid, users: &Users) -> Result<(), Errno> {
    let only = |map: &[IdMap], id: u32| matches!(map, [m] if m.count == 1 && m.outside == id);
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    if only(&users.uids, user.as_raw()) && only(&users.gids, group.as_raw()) {
        write_file(child, "setgroups", "deny")?;
        return write_given(child, users);
    }
    for (program, map) in [("newgidmap", &users.gids), ("newuidmap", &users.uids)] {
        let mut command = Command::new(program);
        command.arg(child.as_raw_nonzero().to_string()).stdin(Stdio::null());
        for m in map {
            command.args([m.inside, m.outside, m.count].map(|n| n.to_string()));
        }
        // What it has to say is on standard error.
        match command.status() {
            Ok(status) if status.success() => {}
            Ok(_) => return Err(Errno::PERM),
            Err(_) => return Err(Errno::NOENT),
        }
    }
    Ok(())
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
