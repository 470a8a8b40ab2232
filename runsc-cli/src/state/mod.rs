//! The state of containers, under `--root`.
//!
//! A directory for each container, named by its id and open to its owner only:
//!
//! * `state.json`: a [`State`]; replaced as a whole, by renaming.
//! * `exit`: the exit status of its first process, once it has ended;
//! * `control.sock`: where the sandbox answers the control protocol.
//!
//! Whoever changes a container holds a lock on its directory (`flock(2)`), which ends with the process that
//! holds it. Whether a container runs is never read from the file: its processes and its sandbox are asked.
//! So a command that is killed at any point leaves something that `delete --force` removes.

pub mod process;
pub mod time;

use crate::cgroup::Cgroup;
use crate::failure::Failure;
use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use oci_spec::runtime::{Hooks, Process};
use process::ProcessId;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Version of the OCI runtime specification that states name.
pub const OCI_VERSION: &str = "1.2.0";

const STATE: &str = "state.json";
/// Name of the file with the exit status.
const EXIT: &str = "exit";
/// Name of the control socket in a container's directory.
pub const SOCKET: &str = "control.sock";

/// What is kept about a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// Its id.
    pub id: String,
    /// Directory of its bundle.
    pub bundle: PathBuf,
    /// Host directory of its root file system.
    pub rootfs: PathBuf,
    /// When it was created.
    pub created: String,
    /// User who created it.
    pub owner: String,
    /// It was set up completely.
    pub complete: bool,
    /// The sentry, or what stands for the container in another's sandbox, once there is one.
    pub sandbox: Option<ProcessId>,
    /// The gofer, once there is one.
    pub gofer: Option<ProcessId>,
    /// Annotations of its configuration.
    pub annotations: HashMap<String, String>,
    /// Its first process, which those of `exec` resemble.
    pub process: Option<Process>,
    /// Hooks that are still to be run.
    pub hooks: Option<Hooks>,
    /// The container whose sandbox it shares.
    #[serde(default)]
    pub pod: Option<String>,
    /// `personality(2)` of its processes.
    #[serde(default)]
    pub personality: u32,
    /// What is in its network namespace when it is started is for it.
    #[serde(default)]
    pub network_later: bool,
    /// Its cgroup, if it has one.
    pub cgroup: Option<Cgroup>,
}

/// A container's directory.
pub struct Entry {
    dir: PathBuf,
    /// The lock; ends when this is dropped.
    _lock: Option<Flock<File>>,
}

/// The default for `--root`.
pub fn default_root() -> PathBuf {
    if nix::unistd::geteuid().is_root()
        && !std::env::var_os("XDG_RUNTIME_DIR").is_some_and(|_| in_user_namespace())
    {
        return PathBuf::from("/var/run/runsc");
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) => Path::new(&dir).join("runsc"),
        None => PathBuf::from(format!("/tmp/runsc-{}", nix::unistd::getuid())),
    }
}

/// True for root of a user namespace that is not the host's.
fn in_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"]
}

/// Container ids name directories: the characters are runc's.
pub fn check_id(id: &str) -> anyhow::Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if id.is_empty() || id.len() > 1024 || id.starts_with('.') || !id.chars().all(good) {
        bail!(
            "invalid container id {id:?}: use letters, digits and _+-. only, not starting with a dot \
             (invalid container ID format)"
        );
    }
    Ok(())
}

fn not_there(id: &str) -> Failure {
    Failure { message: format!("container {id:?} does not exist"), status: 1 }
}

impl Entry {
    /// A new container; locked.
    pub fn create(root: &Path, id: &str) -> anyhow::Result<Entry> {
        check_id(id)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)
            .with_context(|| format!("cannot make the state directory {}", root.display()))?;
        let meta = fs::metadata(root)
            .with_context(|| format!("cannot use the state directory {}", root.display()))?;
        if meta.uid() != nix::unistd::geteuid().as_raw() {
            bail!(
                "the state directory {} belongs to user {}: name one of your own with --root",
                root.display(),
                meta.uid()
            );
        }
        let dir = root.join(id);
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::AlreadyExists => bail!(
                "container {id:?} exists: container with given ID already exists; delete it first or choose \
                 another id"
            ),
            Err(e) => {
                return Err(e)
                    .with_context(|| format!("cannot make the state directory {}", dir.display()));
            }
        }
        let entry = Self::lock(dir, id)?;
        Ok(entry)
    }

    /// An existing container, locked: for commands that change it.
    pub fn open(root: &Path, id: &str) -> anyhow::Result<Entry> {
        check_id(id)?;
        Self::lock(root.join(id), id)
    }

    /// An existing container, for commands that only look.
    pub fn look(root: &Path, id: &str) -> anyhow::Result<Entry> {
        check_id(id)?;
        let dir = root.join(id);
        if !dir.is_dir() {
            return Err(not_there(id).into());
        }
        Ok(Entry { dir, _lock: None })
    }

    fn lock(dir: PathBuf, id: &str) -> anyhow::Result<Entry> {
        let file = match File::open(&dir) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Err(not_there(id).into()),
            Err(e) => {
                return Err(e).with_context(|| format!("cannot open {}", dir.display()));
            }
        };
        let lock = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, e)| e)
            .with_context(|| format!("cannot lock {}", dir.display()))?;
        // It may have been deleted while we waited, and made again.
        let ours = lock.metadata().context("cannot look at a locked directory")?;
        match fs::metadata(&dir) {
            Ok(now) if now.ino() == ours.ino() && now.dev() == ours.dev() => {
                Ok(Entry { dir, _lock: Some(lock) })
            }
            _ => Err(not_there(id).into()),
        }
    }

    /// True while another command changes it.
    pub fn is_busy(&self) -> bool {
        if self._lock.is_some() {
            return false;
        }
        let Ok(file) = File::open(&self.dir) else { return false };
        matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK)))
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What is known about it; `None` when whoever created it was stopped before it had begun.
    pub fn load(&self) -> anyhow::Result<Option<State>> {
        let path = self.dir.join(STATE);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).with_context(|| {
                format!("{} is damaged: delete the container with --force", path.display())
            }),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Makes the file for the exit status of its first process.
    pub fn exit_file(&self) -> anyhow::Result<OwnedFd> {
        let path = self.dir.join(EXIT);
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&path);
        Ok(file.with_context(|| format!("cannot make {}", path.display()))?.into())
    }

    /// The exit status of its first process; `None` if that has not ended by itself.
    pub fn exit_status(&self) -> Option<u8> {
        fs::read_to_string(self.dir.join(EXIT)).ok()?.parse().ok()
    }

    /// Replaces what is known about it.
    pub fn save(&self, state: &State) -> anyhow::Result<()> {
        let (path, new) = (self.dir.join(STATE), self.dir.join("state.json.new"));
        let write = || -> anyhow::Result<()> {
            let mut file =
                File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&serde_json::to_vec(state)?)?;
            fs::rename(&new, &path)?;
            Ok(())
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// Removes the directory.
    pub fn remove(self) -> anyhow::Result<()> {
        match fs::remove_dir_all(&self.dir) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e).with_context(|| format!("cannot remove {}", self.dir.display())),
        }
    }
}

/// Ids of all containers, sorted.
pub fn list(root: &Path) -> anyhow::Result<Vec<String>> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", root.display())),
    };
    let mut ids: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|id| check_id(id).is_ok() && root.join(id).is_dir())
        .collect();
    ids.sort();
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn life_of_an_entry() {
        let root = std::env::temp_dir().join(format!("runsc-state-test-{}", std::process::id()));
        let entry = Entry::create(&root, "a").unwrap();
        assert!(entry.load().unwrap().is_none());
        assert!(Entry::create(&root, "a").err().unwrap().to_string().contains("already exists"));
        assert_eq!(fs::metadata(entry.dir()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(list(&root).unwrap(), ["a"]);
        fs::write(entry.dir().join(STATE), "{").unwrap();
        assert!(entry.load().is_err());
        entry.remove().unwrap();
        let gone = Entry::open(&root, "a").err().unwrap().to_string();
        assert_eq!(gone, "container \"a\" does not exist");
        fs::remove_dir(&root).unwrap();
    }

    #[test]
    fn ids() {
        for bad in ["", ".", "..", "a/b", ".a", "a b", "é"] {
            assert!(check_id(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "A-b_c+d.9"] {
            assert!(check_id(good).is_ok(), "{good:?}");
        }
    }
}
