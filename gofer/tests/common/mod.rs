//! A gofer over a temporary directory.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(dead_code, reason = "each test file uses its own part")]

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

    pub fn read_only(dir: TempDir) -> Self {
        Self::over(dir, |path| vec![Export::new(path, true)])
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
        let (root, _) = client.attach(0).unwrap();
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
            assert!(status.exited() && status.exit_status() == Some(0), "gofer: {status:?}");
        }
    }
}

/// Splits a path into names.
pub fn names(path: &str) -> Vec<&[u8]> {
    path.split('/').filter(|name| !name.is_empty()).map(str::as_bytes).collect()
}

/// A small generator of pseudo-random numbers (splitmix64), so that failures can be repeated.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}
