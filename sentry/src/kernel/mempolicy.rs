//! NUMA policy of a task (`set_mempolicy(2)`) or an area (`mbind(2)`), on a machine with one node: it has no effect, but is checked, kept, inherited
//! and shown as Linux does.

use crate::errno::{Errno, Result};

/// `MPOL_F_STATIC_NODES`, `MPOL_F_RELATIVE_NODES`, `MPOL_F_NUMA_BALANCING`.
const STATIC: u32 = 1 << 15;
const RELATIVE: u32 = 1 << 14;
const BALANCING: u32 = 1 << 13;
/// Flags that come with the mode.
const FLAGS: u32 = STATIC | RELATIVE | BALANCING;

/// `MPOL_*`
const DEFAULT: u32 = 0;
const PREFERRED: u32 = 1;
const BIND: u32 = 2;
const INTERLEAVE: u32 = 3;
const LOCAL: u32 = 4;
const PREFERRED_MANY: u32 = 5;
const WEIGHTED_INTERLEAVE: u32 = 6;

/// Beside the mode in [`MemPolicy::raw`]: node 0 is in its nodes.
const NODE0: u32 = 1 << 16;

/// A policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemPolicy(u32);

impl MemPolicy {
    /// A mode with its flags, and whether node 0, the only one there is, is among its nodes. `EINVAL` for what Linux does
    /// not take (`mpol_new`, `sanitize_mpol_flags`).
    pub fn new(mode: i32, node0: bool) -> Result<MemPolicy> {
        let given = mode as u32;
        let (mode, flags) = (given & !FLAGS, given & FLAGS);
        let both = flags & (STATIC | RELATIVE) == STATIC | RELATIVE;
        let balanced = flags & BALANCING == 0 || matches!(mode, BIND | PREFERRED_MANY);
        if both || !balanced {
            return Err(Errno::EINVAL);
        }
        match mode {
            DEFAULT if !node0 => Ok(MemPolicy(DEFAULT)),
            LOCAL if !node0 && flags == 0 => Ok(MemPolicy(LOCAL)),
            // Without nodes: the local one.
            PREFERRED if !node0 && flags & (STATIC | RELATIVE) == 0 => Ok(MemPolicy(LOCAL)),
            PREFERRED | BIND | INTERLEAVE | PREFERRED_MANY | WEIGHTED_INTERLEAVE if node0 => {
                Ok(MemPolicy(given | NODE0))
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// As a number, for an atomic.
    pub fn raw(self) -> u32 {
        self.0
    }

    /// Back from [`MemPolicy::raw`].
    pub fn from_raw(raw: u32) -> MemPolicy {
        MemPolicy(raw)
    }

    /// Mode and flags, as `get_mempolicy(2)` gives them.
    pub fn mode(self) -> i32 {
        (self.0 & !NODE0) as i32
    }

    /// True if pages are spread over nodes, one after the other.
    pub fn interleaves(self) -> bool {
        matches!(self.0 & !(FLAGS | NODE0), INTERLEAVE | WEIGHTED_INTERLEAVE)
    }

    /// Whether one of its nodes can be preferred (`set_mempolicy_home_node(2)`).
    pub fn has_home(self) -> bool {
        matches!(self.0 & !(FLAGS | NODE0), BIND | PREFERRED_MANY)
    }

    /// Its nodes, a bit each.
    pub fn nodes(self) -> u64 {
        u64::from(self.0 & NODE0 != 0)
    }

    /// As `/proc/PID/numa_maps` shows it (`mpol_to_str`).
    pub fn text(self) -> String {
        let mut text = match self.0 & !(FLAGS | NODE0) {
            PREFERRED => "prefer",
            BIND => "bind",
            INTERLEAVE => "interleave",
            LOCAL => "local",
            PREFERRED_MANY => "prefer (many)",
            WEIGHTED_INTERLEAVE => "weighted interleave",
            _ => "default",
        }
        .to_owned();
        let names = [(STATIC, "static"), (RELATIVE, "relative"), (BALANCING, "balancing")];
        let set: Vec<_> =
            names.iter().filter(|(flag, _)| self.0 & flag != 0).map(|(_, name)| *name).collect();
        if !set.is_empty() {
            text = format!("{text}={}", set.join("|"));
        }
        if self.nodes() != 0 {
            text.push_str(":0");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_takes() {
        let of = |mode: u32, node0| MemPolicy::new(mode as i32, node0).map(MemPolicy::text);
        assert_eq!(of(DEFAULT, false).unwrap(), "default");
        assert_eq!(of(PREFERRED, false).unwrap(), "local");
        assert_eq!(of(PREFERRED | RELATIVE, true).unwrap(), "prefer=relative:0");
        assert_eq!(of(BIND | STATIC | BALANCING, true).unwrap(), "bind=static|balancing:0");
        assert_eq!(of(INTERLEAVE, true).unwrap(), "interleave:0");
        for (mode, node0) in [
            (DEFAULT, true),
            (LOCAL, true),
            (BIND, false),
            (BIND | STATIC | RELATIVE, true),
            (INTERLEAVE | BALANCING, true),
            (PREFERRED | STATIC, false),
            (7, true),
            (u32::MAX, true),
        ] {
            assert_eq!(of(mode, node0), Err(Errno::EINVAL), "{mode:x}");
        }
        let kept = MemPolicy::from_raw(MemPolicy::new(INTERLEAVE as i32, true).unwrap().raw());
        assert_eq!((kept.mode(), kept.nodes(), kept.interleaves()), (3, 1, true));
    }
}
