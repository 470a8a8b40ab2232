//! Where the host's hierarchies are mounted, and which group of each the caller is in.

use std::fs;
use std::path::{Path, PathBuf};

/// A hierarchy of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Controllers of version 1; empty for version 2.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    mountpoint: PathBuf,
    /// The group that is visible there.
    root: PathBuf,
    /// The caller's group.
    own: PathBuf,
}

/// Controllers of version 1 that are used: what limits, and what counts.
const USED: [&str; 8] =
    ["cpu", "cpuacct", "cpuset", "memory", "pids", "freezer", "blkio", "devices"];

impl Hierarchy {
    /// True for version 2.
    pub fn is_v2(&self) -> bool {
        self.controllers.is_empty()
    }

    /// The directory of the process's own group.
    pub fn own_directory(&self) -> PathBuf {
        let own = self.own.strip_prefix(&self.root).or_else(|_| self.own.strip_prefix("/"));
        self.mountpoint.join(own.unwrap_or(Path::new("")))
    }

    /// The directory of a group: absolute paths start at the hierarchy's root, others at the caller's group.
    pub fn directory(&self, path: &Path) -> PathBuf {
        if let Ok(path) = path.strip_prefix("/") {
            return self.mountpoint.join(path);
        }
        let own = self.own.strip_prefix(&self.root).unwrap_or(Path::new(""));
        // In version 2 only groups without processes may have children with controllers: a sibling.
        let base = if self.is_v2() { own.parent().unwrap_or(Path::new("")) } else { own };
        self.mountpoint.join(base).join(path)
    }
}

/// All that are used: version 1 if any of its controllers is mounted, else version 2.
pub fn hierarchies() -> std::io::Result<Vec<Hierarchy>> {
    hierarchies_of(&fs::read_to_string("/proc/self/cgroup")?)
}

/// The same, with the groups of another process: `own` is its `/proc/PID/cgroup`.
pub fn hierarchies_of(own: &str) -> std::io::Result<Vec<Hierarchy>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(parse(&mounts, own))
}

fn parse(mounts: &str, own: &str) -> Vec<Hierarchy> {
    let mut v1: Vec<Hierarchy> = Vec::new();
    let mut v2 = None;
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let mut left = left.split(' ').skip(3).map(PathBuf::from);
        let (Some(root), Some(mountpoint)) = (left.next(), left.next()) else { continue };
        let mut right = right.split(' ');
        match (right.next(), right.nth(1)) {
            (Some("cgroup"), Some(options)) => {
                let controllers: Vec<String> =
                    options.split(',').filter(|o| USED.contains(o)).map(String::from).collect();
                if controllers.is_empty() || v1.iter().any(|h| h.controllers == controllers) {
                    continue;
                }
                let own = own_path(own, controllers.first());
                v1.push(Hierarchy { controllers, mountpoint, root, own });
            }
            (Some("cgroup2"), _) if v2.is_none() => {
                let own = own_path(own, None);
                v2 = Some(Hierarchy { controllers: Vec::new(), mountpoint, root, own });
            }
            _ => {}
        }
    }
    if v1.is_empty() { v2.into_iter().collect() } else { v1 }
}

/// The caller's group, from `/proc/self/cgroup`.
fn own_path(text: &str, controller: Option<&String>) -> PathBuf {
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let found = match controller {
            None => controllers.is_empty(),
            Some(wanted) => controllers.split(',').any(|c| c == wanted),
        };
        if found {
            return PathBuf::from(path);
        }
    }
    PathBuf::from("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "\
30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
32 25 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
33 25 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

    #[test]
    fn hybrid_hosts_use_version_1() {
        let found = parse(V1, "4:memory:/a\n3:cpu,cpuacct:/b\n0::/c\n");
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].directory(Path::new("x")), Path::new("/sys/fs/cgroup/memory/a/x"));
        assert_eq!(found[1].directory(Path::new("/y")), Path::new("/sys/fs/cgroup/cpu,cpuacct/y"));
    }

    #[test]
    fn version_2() {
        let found = parse("30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/a/b\n");
        assert!(found[0].is_v2());
        assert_eq!(found[0].directory(Path::new("x")), Path::new("/sys/fs/cgroup/a/x"));
    }
}
