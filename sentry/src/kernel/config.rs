//! What a sandbox is configured with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Where `--strace` and other diagnostic lines go.
pub trait LogSink: Send + Sync {
    /// Writes one line; `line` has no line end.
    fn line(&self, line: &str);
}

/// What a sandbox is configured with. Plain data, but for the log.
#[derive(Clone)]
pub struct KernelConfig {
    /// Name of the container that the sandbox is started with.
    pub container: String,
    /// `uname(2)`'s nodename.
    pub hostname: Vec<u8>,
    /// `uname(2)`'s domainname.
    pub domainname: Vec<u8>,
    /// CPUs that programs are told of.
    pub cpus: u32,
    /// Most tasks that a sandbox may ever have at a time; see [`SandboxLimits`].
    pub max_tasks: usize,
    /// Memory of the host, in bytes: the most that programs are told of.
    pub memory_total: u64,
    /// The debug log.
    pub log: Option<Arc<dyn LogSink>>,
    /// As on Linux, signals from inside without a handler do nothing to the first process; false lets `kill` end it.
    /// Ctrl-C and `runsc kill` always do.
    pub init_immune: bool,
    /// `execve(2)` honours set-user-ID and set-group-ID bits and file capabilities.
    pub setuid_exec: bool,
}

impl Default for KernelConfig {
    fn default() -> Self {
        let cpus = platform::host::thread::affinity(0).map_or(1, |set| set.cpus().count());
        KernelConfig {
            container: String::new(),
            hostname: b"runsc".to_vec(),
            domainname: b"(none)".to_vec(),
            cpus: u32::try_from(cpus).unwrap_or(1),
            max_tasks: 32_000,
            memory_total: 4 << 30,
            log: None,
            init_immune: false,
            setuid_exec: true,
        }
    }
}

/// What a sandbox may use. Can be changed while it runs (`runsc update`).
#[derive(Debug)]
pub struct SandboxLimits {
    most_tasks: usize,
    most_memory: u64,
    tasks: AtomicUsize,
    memory: AtomicU64,
}

impl SandboxLimits {
    /// As much as the configuration allows.
    pub fn new(config: &KernelConfig) -> Self {
        Self {
            most_tasks: config.max_tasks,
            most_memory: config.memory_total,
            tasks: AtomicUsize::new(config.max_tasks),
            memory: AtomicU64::new(config.memory_total),
        }
    }

    /// Changes what is given; never to more than the configuration allows.
    pub fn set(&self, tasks: Option<u64>, memory: Option<u64>) {
        if let Some(tasks) = tasks {
            let tasks = usize::try_from(tasks).unwrap_or(usize::MAX).min(self.most_tasks);
            self.tasks.store(tasks, Ordering::Relaxed);
        }
        if let Some(memory) = memory {
            self.memory.store(memory.min(self.most_memory), Ordering::Relaxed);
        }
    }

    /// Most tasks that may exist at a time; `clone(2)` fails with `EAGAIN` beyond.
    pub fn tasks(&self) -> usize {
        self.tasks.load(Ordering::Relaxed)
    }

    /// Memory that programs are told of, in bytes.
    pub fn memory(&self) -> u64 {
        self.memory.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for KernelConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelConfig")
            .field("cpus", &self.cpus)
            .field("max_tasks", &self.max_tasks)
            .field("log", &self.log.is_some())
            .finish_non_exhaustive()
    }
}
