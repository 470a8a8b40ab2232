//! What is mounted below the source of a bind mount (`rbind`): each such mount of the host becomes one of the sandbox, so
//! that it has flags of its own.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Most of them for one bind mount; what is beyond looks as it does through the mount above.
const MAX: usize = 128;

/// File systems that show the host's kernel or manage its mounts: they are seen through the mount above, if at all.
const LEFT_OUT: [&str; 22] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "resctrl",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "sysfs",
    "tracefs",
];

/// A mount below a directory.
#[derive(Debug, PartialEq, Eq)]
pub struct Below {
    /// Where it is on the host.
    pub path: PathBuf,
    /// The same, from the directory.
    pub relative: PathBuf,
    /// Its `MS_*` flags.
    pub flags: u64,
}

impl Below {
    /// Those below `source`, from the top down. A source that is no directory has none.
    pub fn of(source: &Path) -> Vec<Below> {
        let Ok(source) = source.canonicalize() else { return Vec::new() };
        if !source.is_dir() {
            return Vec::new();
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let visible = |path: &Path, device: u64| path.metadata().is_ok_and(|m| m.dev() == device);
        parse(&mounts, &source, visible)
    }
}

fn parse(mounts: &str, source: &Path, visible: impl Fn(&Path, u64) -> bool) -> Vec<Below> {
    let mut found: Vec<Below> = Vec::new();
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let left: Vec<&str> = left.split(' ').collect();
        let [_, _, device, _, path, options, ..] = left[..] else { continue };
        let path = PathBuf::from(unescape(path));
        let Ok(relative) = path.strip_prefix(source) else { continue };
        let kind = right.split(' ').next().unwrap_or_default();
        if relative.as_os_str().is_empty() || LEFT_OUT.contains(&kind) {
            continue;
        }
        // One that another covers is not seen.
        if !number(device).is_some_and(|device| visible(&path, device)) {
            continue;
        }
        let relative = relative.to_path_buf();
        found.retain(|below| below.path != path);
        found.push(Below { path, relative, flags: flags(options) });
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found.truncate(MAX);
    found
}

/// `st_dev` of `major:minor`.
fn number(device: &str) -> Option<u64> {
    let (major, minor) = device.split_once(':')?;
    Some(libc::makedev(major.parse().ok()?, minor.parse().ok()?))
}

/// `MS_*` of the options of a line.
fn flags(options: &str) -> u64 {
    let flag = |option| match option {
        "ro" => libc::MS_RDONLY,
        "nosuid" => libc::MS_NOSUID,
        "nodev" => libc::MS_NODEV,
        "noexec" => libc::MS_NOEXEC,
        "noatime" => libc::MS_NOATIME,
        "nodiratime" => libc::MS_NODIRATIME,
        "relatime" => libc::MS_RELATIME,
        _ => 0,
    };
    options.split(',').map(flag).fold(0, |all, one| all | one)
}

/// A path as the kernel writes it: blanks, tabs, line breaks and backslashes as octal numbers.
fn unescape(path: &str) -> String {
    let mut text = path.to_string();
    for (escaped, plain) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        text = text.replace(escaped, plain);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_a_directory() {
        let text = "\
20 1 0:5 / / rw,relatime - ext4 /dev/sda rw
21 20 0:7 / /a/deep/x rw,nosuid,nodev - tmpfs t rw
22 20 0:6 / /a/b\\040c ro,noexec shared:3 - tmpfs t rw
23 20 0:8 / /a/proc rw - proc proc rw
24 20 0:9 / /a/hidden rw - tmpfs t rw
25 20 0:9 / /ab rw - tmpfs t rw
";
        let found = parse(text, Path::new("/a"), |path, _| !path.ends_with("hidden"));
        let paths: Vec<_> = found.iter().map(|b| b.relative.to_str().unwrap()).collect();
        assert_eq!(paths, ["b c", "deep/x"]);
        assert_eq!(found[0].flags, libc::MS_RDONLY | libc::MS_NOEXEC);
    }
}
