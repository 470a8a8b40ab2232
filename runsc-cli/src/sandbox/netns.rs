//! Network namespaces that were made by somebody else.

use anyhow::Context;
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::path::Path;

/// This process in another network namespace, until dropped: processes made meanwhile stay there.
pub struct Joined {
    own: File,
}

impl Joined {
    /// Joins the namespace at `path`.
    pub fn join(path: &Path) -> anyhow::Result<Joined> {
        let open = |path: &Path| {
            File::open(path)
                .with_context(|| format!("cannot open the network namespace {}", path.display()))
        };
        let own = open(Path::new("/proc/self/ns/net"))?;
        setns(open(path)?, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("cannot join the network namespace {}", path.display()))?;
        Ok(Joined { own })
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        // It worked on the way there. This process uses no network itself.
        let _ = setns(&self.own, CloneFlags::CLONE_NEWNET);
    }
}
