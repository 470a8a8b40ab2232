//! Network namespaces that were made by somebody else.

use anyhow::Context;
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
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

    /// False when this process was in it all along: it may be the machine's own.
    pub fn is_another(&self) -> anyhow::Result<bool> {
        let what = "cannot tell network namespaces apart";
        let before = self.own.metadata().context(what)?;
        let now = std::fs::metadata("/proc/self/ns/net").context(what)?;
        Ok((before.dev(), before.ino()) != (now.dev(), now.ino()))
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        // It worked on the way there. This process uses no network itself.
        let _ = setns(&self.own, CloneFlags::CLONE_NEWNET);
    }
}
