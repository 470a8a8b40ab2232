//! The host's cgroups: the limits that hold for a whole sandbox from outside (`cgroups(7)`).
//!
//! Version 1 has a hierarchy for each controller, version 2 one for all. On hybrid hosts the controllers of
//! version 1 are used. A sandbox's processes enter before the guest starts; the group is removed with the
//! container.

mod block_io;
mod devices;
mod kills;
mod limits;
mod mounts;
mod stats;
mod systemd;

pub use kills::Kills;
pub use stats::stats;

use crate::log;
use anyhow::{Context, bail};
use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;
use systemd::{Scope, UnitPath};

/// The cgroup of a sandbox: a directory in each hierarchy.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Cgroup {
    dirs: Vec<Dir>,
    /// systemd's unit for it.
    #[serde(default)]
    scope: Option<Scope>,
}

/// A directory of a hierarchy.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Dir {
    /// Controllers of version 1; empty for version 2.
    controllers: Vec<String>,
    path: PathBuf,
}

/// How often and how long to wait for the last process of a group to leave it.
const REMOVE_TRIES: u32 = 100;
const REMOVE_PAUSE: Duration = Duration::from_millis(5);

impl Cgroup {
    /// The group that `cgroupsPath` names, or one for the container's id below the caller's; not made yet.
    pub fn plan(wanted: Option<&Path>, id: &str) -> anyhow::Result<Cgroup> {
        let relative = relative(wanted, id)?;
        let hierarchies = mounts::hierarchies().context("cannot find the cgroup file systems")?;
        let dirs: Vec<Dir> = hierarchies
            .iter()
            .map(|hierarchy| Dir {
                controllers: hierarchy.controllers.clone(),
                path: hierarchy.directory(&relative),
            })
            .collect();
        if dirs.is_empty() {
            bail!("this host has no cgroup file system mounted");
        }
        Ok(Cgroup { dirs, scope: None })
    }

    fn make(&self) -> anyhow::Result<()> {
        for (made, dir) in self.dirs.iter().enumerate() {
            if let Err(e) = make(&dir.path, dir.controllers.is_empty()) {
                for dir in self.dirs.iter().take(made) {
                    let _ = remove(&dir.path);
                }
                return Err(e)
                    .with_context(|| format!("cannot make the cgroup {}", dir.path.display()));
            }
        }
        Ok(())
    }

    /// Sets the limits.
    pub fn limit(&self, resources: &LinuxResources) -> anyhow::Result<()> {
        for (file, value) in limits::files(self, resources) {
            fs::write(&file, &value)
                .with_context(|| format!("cannot write {value:?} to {}", file.display()))?;
        }
        if let Some(scope) = &self.scope
            && let Err(e) = scope.update(resources, self.is_v2())
        {
            log::warn(&format!("{e:#}: systemd may set the limits back"));
        }
        Ok(())
    }

    /// Has systemd know of it, if that is to manage it, with its first processes.
    pub fn adopt(&mut self, pids: &[i32], resources: Option<&LinuxResources>) {
        let Some(scope) = &mut self.scope else { return };
        if let Err(e) = scope.start(pids) {
            log::warn(&format!(
                "{e:#}: systemd does not manage the cgroup, which is made without it"
            ));
            self.scope = None;
            return;
        }
        // It has set what it knows of, and perhaps set back the rest.
        if let Some(resources) = resources {
            self.try_limit(resources);
        }
    }

    fn try_limit(&self, resources: &LinuxResources) {
        if let Err(e) = self.limit(resources) {
            log::warn(&format!("{e:#}: this limit does not hold for the sandbox as a whole"));
        }
    }

    /// Moves a process into it.
    pub fn enter(&self, pid: i32) -> anyhow::Result<()> {
        for dir in &self.dirs {
            let file = dir.path.join("cgroup.procs");
            fs::write(&file, pid.to_string()).with_context(|| {
                format!("cannot move process {pid} into {}", dir.path.display())
            })?;
        }
        Ok(())
    }

    /// True where it is one group of version 2.
    fn is_v2(&self) -> bool {
        self.dirs.iter().any(|dir| dir.controllers.is_empty())
    }

    /// The directory with a controller of version 1, or the one of version 2.
    fn dir(&self, controller: &str) -> Option<(&Path, bool)> {
        self.dirs
            .iter()
            .find(|d| d.controllers.is_empty() || d.controllers.iter().any(|c| c == controller))
            .map(|d| (&*d.path, d.controllers.is_empty()))
    }

    /// Removes it. Groups that are gone are no error; the last processes may be on their way out.
    pub fn remove(&self) -> anyhow::Result<()> {
        if let Some(scope) = &self.scope
            && let Err(e) = scope.stop()
        {
            log::warn(&format!("{e:#}: systemd may still have the cgroup's unit"));
        }
        for dir in &self.dirs {
            remove(&dir.path)
                .with_context(|| format!("cannot remove the cgroup {}", dir.path.display()))?;
        }
        Ok(())
    }
}

/// The file that says that a process is frozen (version 1); `None` if it is not.
fn frozen_by(pid: i32) -> Option<PathBuf> {
    let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let hierarchies = mounts::hierarchies_of(&own).ok()?;
    let freezer = hierarchies.iter().find(|h| h.controllers.iter().any(|c| c == "freezer"))?;
    let file = freezer.own_directory().join("freezer.state");
    let state = fs::read_to_string(&file).ok()?;
    (state.trim() != "THAWED").then_some(file)
}

/// True for a process that somebody has frozen: it answers nothing.
pub fn is_frozen(pid: i32) -> bool {
    frozen_by(pid).is_some()
}

/// Lets a process go on that somebody has frozen: it does not die before, not even of `SIGKILL`.
pub fn thaw(pid: i32) {
    if let Some(file) = frozen_by(pid) {
        // Refused, it stays frozen, which whoever waits for its end will say.
        let _ = fs::write(&file, "THAWED");
    }
}

/// The path below a hierarchy's root or, if it is relative, below the caller's group.
fn relative(wanted: Option<&Path>, id: &str) -> anyhow::Result<PathBuf> {
    let Some(path) = wanted.filter(|p| !p.as_os_str().is_empty()) else {
        return Ok(PathBuf::from(id));
    };
    // The form for systemd: the names that systemd gives.
    if let Some(unit) = UnitPath::parse(path) {
        return unit.directory();
    }
    if path.components().any(|c| c == Component::ParentDir) {
        bail!("cgroupsPath {} must not contain \"..\"", path.display());
    }
    Ok(path.to_path_buf())
}

fn make(path: &Path, v2: bool) -> std::io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|p| !p.exists()).collect();
    for dir in missing.into_iter().rev() {
        if v2 && let Some(parent) = dir.parent() {
            delegate(parent);
        }
        match fs::create_dir(dir) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e),
            _ => limits::inherit_cpuset(dir),
        }
    }
    Ok(())
}

/// Lets the children of a group of version 2 have its controllers. What is refused is noticed when a limit is
/// set.
fn delegate(parent: &Path) {
    let Ok(controllers) = fs::read_to_string(parent.join("cgroup.controllers")) else { return };
    for controller in controllers.split_whitespace() {
        let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    for _ in 0..REMOVE_TRIES {
        match fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => std::thread::sleep(REMOVE_PAUSE),
            Err(e) => return Err(e),
        }
    }
    fs::remove_dir(path)
}

/// The group that a container is to have, for its state, which has to say where it is before it is made: whoever makes
/// it may be killed at any moment. Without cgroups, says so.
pub fn plan(wanted: Option<&Path>, id: &str) -> Option<Cgroup> {
    Cgroup::plan(wanted, id).map_err(|e| without(&e)).ok()
}

/// Makes and limits the group of a container; without the right to, says so and goes on. `systemd` is to manage it, if
/// its path has the form for that.
pub fn set_up(
    mut group: Cgroup,
    wanted: Option<&Path>,
    id: &str,
    resources: Option<&LinuxResources>,
    systemd: bool,
) -> Option<Cgroup> {
    group.make().map_err(|e| without(&e)).ok()?;
    if let Some(resources) = resources {
        group.try_limit(resources);
    }
    let unit = wanted.filter(|_| systemd).and_then(UnitPath::parse);
    group.scope = unit.map(|unit| Scope::new(&unit, id, resources, group.is_v2()));
    Some(group)
}

fn without(e: &anyhow::Error) {
    log::warn(&format!(
        "{e:#}: the sandbox runs without a cgroup of its own, so that its limits hold inside only"
    ));
}

#[cfg(test)]
mod tests {
    use super::relative;
    use std::path::{Path, PathBuf};

    #[test]
    fn paths() {
        let of = |text: &str| relative(Some(Path::new(text)), "id").unwrap();
        assert_eq!(relative(None, "id").unwrap(), PathBuf::from("id"));
        assert_eq!(of("/docker/x"), PathBuf::from("/docker/x"));
        assert_eq!(of("user.slice:libpod:abc"), PathBuf::from("/user.slice/libpod-abc.scope"));
        assert_eq!(of(":p:n"), PathBuf::from("/system.slice/p-n.scope"));
        assert!(relative(Some(Path::new("/a/../b")), "id").is_err());
    }
}
