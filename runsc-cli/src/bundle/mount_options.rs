//! Options of mounts in a config.json: those of `mount(8)`, and with an `r` in front those for everything below as well
//! (`mount_setattr(2)` with `AT_RECURSIVE`).

/// `MS_NOSYMFOLLOW`
const MS_NOSYMFOLLOW: u64 = 256;

/// Flags: name, what it sets and what it clears.
const FLAGS: [(&str, u64, u64); 18] = [
    ("ro", libc::MS_RDONLY, 0),
    ("rw", 0, libc::MS_RDONLY),
    ("nosuid", libc::MS_NOSUID, 0),
    ("suid", 0, libc::MS_NOSUID),
    ("nodev", libc::MS_NODEV, 0),
    ("dev", 0, libc::MS_NODEV),
    ("noexec", libc::MS_NOEXEC, 0),
    ("exec", 0, libc::MS_NOEXEC),
    ("nodiratime", libc::MS_NODIRATIME, 0),
    ("diratime", 0, libc::MS_NODIRATIME),
    ("noatime", libc::MS_NOATIME, libc::MS_STRICTATIME | libc::MS_RELATIME),
    ("atime", 0, libc::MS_NOATIME),
    ("relatime", libc::MS_RELATIME, libc::MS_STRICTATIME | libc::MS_NOATIME),
    ("norelatime", 0, libc::MS_RELATIME),
    ("strictatime", libc::MS_STRICTATIME, libc::MS_NOATIME | libc::MS_RELATIME),
    ("nostrictatime", 0, libc::MS_STRICTATIME),
    ("nosymfollow", MS_NOSYMFOLLOW, 0),
    ("symfollow", 0, MS_NOSYMFOLLOW),
];

/// How mounts propagate; with an `r` in front, those below as well. It is about mounts of the sandbox: nothing propagates
/// to the host or from it.
const PROPAGATION: [(&str, u64); 4] = [
    ("private", libc::MS_PRIVATE),
    ("shared", libc::MS_SHARED),
    ("slave", libc::MS_SLAVE),
    ("unbindable", libc::MS_UNBINDABLE),
];

/// What is accepted and changes nothing in a sandbox: when the host writes, and labels.
const ACCEPTED: [&str; 22] = [
    "sync",
    "async",
    "dirsync",
    "defaults",
    "remount",
    "mand",
    "nomand",
    "iversion",
    "noiversion",
    "lazytime",
    "nolazytime",
    "silent",
    "loud",
    "acl",
    "noacl",
    "copy",
    "nocopy",
    "z",
    "Z",
    "U",
    "nofail",
    "_netdev",
];

/// Options, taken apart.
#[derive(Debug, Default)]
pub struct Options {
    /// `MS_*` of the mount itself.
    pub flags: u64,
    /// Flags that are set below it.
    pub set_below: u64,
    /// Flags that are cleared below it.
    pub clear_below: u64,
    /// `MS_*` of how it propagates; 0 where nothing is said.
    pub propagation: u64,
    /// It is a bind mount.
    pub bind: bool,
    /// What is mounted below its source comes along.
    pub recursive: bool,
    /// `tmpcopyup`
    pub copy_up: bool,
    /// Everything else, which is the file system's.
    pub data: String,
}

impl Options {
    /// Takes a list apart; later ones win.
    pub fn parse(options: &[String]) -> Self {
        let mut parsed = Self::default();
        for option in options {
            parsed.take(option);
        }
        parsed
    }

    fn take(&mut self, option: &str) {
        let find = |name: &str| FLAGS.into_iter().find(|(known, _, _)| *known == name);
        if let Some((_, set, clear)) = find(option) {
            self.flags = self.flags & !clear | set;
        } else if let Some((_, set, clear)) = option.strip_prefix('r').and_then(find) {
            self.flags = self.flags & !clear | set;
            self.set_below = self.set_below & !clear | set;
            self.clear_below = self.clear_below & !set | clear;
        } else if let Some(flags) = propagation(option) {
            self.propagation = flags;
        } else if option == "bind" || option == "rbind" {
            self.bind = true;
            self.recursive = option == "rbind";
        } else if option == "tmpcopyup" {
            self.copy_up = true;
        } else if !ACCEPTED.contains(&option) {
            if !self.data.is_empty() {
                self.data.push(',');
            }
            self.data.push_str(option);
        }
    }
}

/// `MS_*` for a way to propagate, or `None` if there is none of that name.
pub fn propagation(name: &str) -> Option<u64> {
    let find = |name: &str| PROPAGATION.iter().find(|(known, _)| *known == name).map(|(_, f)| *f);
    find(name).or_else(|| Some(find(name.strip_prefix('r')?)? | libc::MS_REC))
}

/// Every option that acts or is accepted, sorted, for `runsc features`.
pub fn names() -> Vec<String> {
    let flags = FLAGS.iter().flat_map(|(name, _, _)| [name.to_string(), format!("r{name}")]);
    let others = ["bind", "rbind", "tmpcopyup"].into_iter().chain(ACCEPTED).map(String::from);
    let ways = PROPAGATION.iter().flat_map(|(name, _)| [name.to_string(), format!("r{name}")]);
    let mut names: Vec<String> = flags.chain(ways).chain(others).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::{Options, names};

    fn of(list: &[&str]) -> Options {
        Options::parse(&list.iter().map(|o| o.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_taken_apart() {
        let options = of(&["nosuid", "ro", "rw", "size=64k", "mode=755", "rbind", "rslave"]);
        assert_eq!(options.flags, libc::MS_NOSUID);
        assert_eq!(options.data, "size=64k,mode=755");
        assert!(options.bind && options.recursive);
        assert_eq!(options.propagation, libc::MS_SLAVE | libc::MS_REC);
        assert!(!of(&["bind"]).recursive);
    }

    #[test]
    fn recursive_ones_reach_below() {
        let options = of(&["rbind", "ro", "rnodev", "rexec"]);
        assert_eq!(options.flags, libc::MS_RDONLY | libc::MS_NODEV);
        assert_eq!((options.set_below, options.clear_below), (libc::MS_NODEV, libc::MS_NOEXEC));
        let options = of(&["rro", "rrw"]);
        assert_eq!((options.flags, options.set_below), (0, 0));
        assert_eq!(options.clear_below, libc::MS_RDONLY);
        assert!(names().iter().any(|name| name == "rnosymfollow"));
    }
}
