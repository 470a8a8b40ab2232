//! The controllers of the hierarchy, and how `cgroup.subtree_control` names them.

use crate::errno::{Errno, Result};

bitflags::bitflags! {
    /// A set of controllers.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Controllers: u8 {
        /// Bandwidth of the CPUs.
        const CPU = 1;
        /// Memory.
        const MEMORY = 2;
        /// Number of tasks.
        const PIDS = 4;
        /// Which CPUs.
        const CPUSET = 8;
        /// Reading and writing of files.
        const IO = 16;
    }
}

const NAMES: [(&str, Controllers); 5] = [
    ("cpuset", Controllers::CPUSET),
    ("cpu", Controllers::CPU),
    ("io", Controllers::IO),
    ("memory", Controllers::MEMORY),
    ("pids", Controllers::PIDS),
];

impl Controllers {
    /// The names, in Linux's order, as one line.
    pub fn line(self) -> String {
        let names = NAMES.iter().filter(|(_, one)| self.contains(*one)).map(|(name, _)| *name);
        format!("{}\n", names.collect::<Vec<_>>().join(" "))
    }

    /// What `+cpu -memory` switches on and off. `EINVAL` for anything else; the last word about a
    /// controller counts.
    pub fn parse_changes(text: &str) -> Result<(Controllers, Controllers)> {
        let (mut on, mut off) = (Controllers::empty(), Controllers::empty());
        for word in text.split_ascii_whitespace() {
            let (sign, name) = word.split_at_checked(1).ok_or(Errno::EINVAL)?;
            let one = NAMES.iter().find(|(n, _)| *n == name).ok_or(Errno::EINVAL)?.1;
            let (to, from) = match sign {
                "+" => (&mut on, &mut off),
                "-" => (&mut off, &mut on),
                _ => return Err(Errno::EINVAL),
            };
            to.insert(one);
            from.remove(one);
        }
        Ok((on, off))
    }
}

#[cfg(test)]
mod tests {
    use super::Controllers;
    use crate::errno::Errno;

    #[test]
    fn the_last_word_counts() {
        let (on, off) = Controllers::parse_changes("+cpu -pids\t-cpu\n").unwrap();
        assert_eq!((on, off), (Controllers::empty(), Controllers::CPU | Controllers::PIDS));
        assert_eq!(Controllers::parse_changes("+net"), Err(Errno::EINVAL));
        assert_eq!(Controllers::parse_changes("cpu"), Err(Errno::EINVAL));
        assert_eq!(Controllers::all().line(), "cpuset cpu io memory pids\n");
    }
}
