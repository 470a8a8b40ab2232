//! A gofer over a temporary directory.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use gofer::process::{Gofer, Options, spawn};
use gofer::sandbox::Isolation;
use gofer::server::Export;
use gofer::{Client, NodeId};
use rustix::process::{Pid, WaitOptions, WaitStatus, waitpid};

pub struct TempDir(pub PathBuf);

impl TempDir {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("gofer-test-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn file(&self, name: &str, contents: &str) {
        let path = self.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

pub struct Fixture {
    pub dir: TempDir,
    pub client: Arc<Client>,
    pub pid: Pid,
    pub isolation: Isolation,
    pub root: NodeId,
    reaped: bool,
}

impl Fixture {
    pub fn writable() -> Self {
        Self::over(TempDir::new(), |path| vec![Export::new(path, false)])
    }

    pub fn over(dir: TempDir, exports: impl FnOnce(&Path) -> Vec<Export>) -> Self {
        let options = Options::new(exports(dir.path()));
        Self::start(dir, options)
    }

    pub fn start(dir: TempDir, options: Options) -> Self {
        let gofer = spawn(options).unwrap();
        let isolation = gofer.wait_ready().unwrap();
        let Gofer { pid, channels, .. } = gofer;
        let client = Arc::new(Client::connect(channels).unwrap());
        let (root, ..) = client.attach(0).unwrap();
        Self { dir, client, pid, isolation, root, reaped: false }
    }

    /// Waits for the gofer to end.
    pub fn reap(&mut self) -> WaitStatus {
        self.reaped = true;
        waitpid(Some(self.pid), WaitOptions::empty()).unwrap().unwrap().1
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.client.close();
        if !self.reaped {
            let status = self.reap();
            assert!(
                status.exited() && status.exit_status() == Some(0),
                "gofer with {:?}: {status:?}",
                self.isolation
            );
        }
    }
}

/// Splits a path into names.
pub fn names(path: &str) -> Vec<&[u8]> {
    path.split('/').filter(|name| !name.is_empty()).map(str::as_bytes).collect()
}

/// Runs all tests of this program once more as an unprivileged user, if they run as root.
pub fn rerun_unprivileged() {
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = TempDir::new();
    std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    // By this name, because that user may not be able to reach the program by its own.
    let output = std::process::Command::new("/proc/self/exe")
        .env("TMPDIR", dir.path())
        .current_dir(dir.path())
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
