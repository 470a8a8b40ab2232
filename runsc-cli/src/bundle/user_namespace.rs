//! A user namespace of the host that a container is to join: its users are those of the container.
//!
//! Namespaces of the sandbox's processes are their own all the same; what others can see of the joined one is whose
//! files the container reads and makes.

use anyhow::{Context, bail};
use gofer::process::{IdMap, Users};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The users and groups of the namespace at `path`, in the caller's numbers; `None` for the caller's own.
///
/// The kernel tells the maps of processes, so there has to be one in it.
pub fn users(path: &Path) -> anyhow::Result<Option<Users>> {
    let what = || format!("the user namespace {}", path.display());
    let wanted = fs::metadata(path).with_context(what)?;
    let same = |found: &Metadata| (found.dev(), found.ino()) == (wanted.dev(), wanted.ino());
    if fs::metadata("/proc/self/ns/user").is_ok_and(|own| same(&own)) {
        return Ok(None);
    }
    for process in fs::read_dir("/proc").with_context(what)?.flatten() {
        let dir = process.path();
        if !fs::metadata(dir.join("ns/user")).is_ok_and(|found| same(&found)) {
            continue;
        }
        let read = |name| fs::read_to_string(dir.join(name));
        // It may end meanwhile; another one may be there.
        let (Ok(uids), Ok(gids)) = (read("uid_map"), read("gid_map")) else { continue };
        let users = Users { uids: parse(&uids), gids: parse(&gids) };
        let has_root = |map: &[IdMap]| map.iter().any(|m| m.inside == 0 && m.count > 0);
        if !has_root(&users.uids) || !has_root(&users.gids) {
            bail!("{} has no user or group 0: the files of the image need an owner", what());
        }
        return Ok(Some(users));
    }
    bail!("{} has no process, which is where its users are told", what())
}

/// What `uid_map` and `gid_map` say (`user_namespaces(7)`).
fn parse(text: &str) -> Vec<IdMap> {
    let line = |line: &str| {
        let numbers: Vec<u32> =
            line.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        match numbers[..] {
            [inside, outside, count] => Some(IdMap { inside, outside, count }),
            _ => None,
        }
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps() {
        let map = parse("         0     100000      65536\n     70000          5          1\n");
        let second = IdMap { inside: 70000, outside: 5, count: 1 };
        assert_eq!(map, [IdMap { inside: 0, outside: 100_000, count: 65536 }, second]);
        assert_eq!(users(Path::new("/proc/self/ns/user")).unwrap(), None);
        assert!(users(Path::new("/nowhere")).is_err());
    }
}
