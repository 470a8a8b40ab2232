//! The debug log: what the sentry has to say about itself, and the lines of `--strace`.

use crate::kernel::LogSink;
use platform::host::io;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, fmt, reload};

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object in each.
    Json,
}

/// How much the sentry says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogLevel {
    /// What went wrong, and may go wrong.
    Warning,
    /// What happens.
    Info,
    /// Everything.
    Debug,
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> LevelFilter {
        match level {
            LogLevel::Warning => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
        }
    }
}

/// Changes what is said.
static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

/// The debug log: one write for each line, so that lines of several threads do not mix.
#[derive(Clone)]
pub(super) struct Log(Arc<OwnedFd>, LogFormat);

impl Log {
    /// Writes to a file.
    pub(super) fn new(file: OwnedFd, format: LogFormat) -> Self {
        Log(Arc::new(file), format)
    }

    /// From now on all that the sentry has to say, from `level` on, comes here. Only the first call in a process has an effect.
    pub(super) fn install(&self, level: LevelFilter) {
        let (filter, handle) = reload::Layer::new(level);
        let log = self.clone();
        let lines = fmt::layer().with_ansi(false).with_writer(move || log.clone());
        let lines: Box<dyn tracing_subscriber::Layer<_> + Send + Sync> = match self.1 {
            LogFormat::Text => Box::new(lines),
            LogFormat::Json => Box::new(lines.json().flatten_event(true)),
        };
        let subscriber = tracing_subscriber::registry().with(filter).with(lines);
        if tracing::subscriber::set_global_default(subscriber).is_ok() {
            let _ = LEVEL.set(handle);
        }
    }
}

/// Changes from what level on something is said. False without a debug log.
pub fn set_level(level: LevelFilter) -> bool {
    LEVEL.get().is_some_and(|handle| handle.reload(level).is_ok())
}

impl std::io::Write for Log {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        // A log that cannot be written must not stop the program.
        let _ = io::write(self.0.as_fd(), line, None);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl LogSink for Log {
    fn line(&self, line: &str) {
        match self.1 {
            LogFormat::Text => {
                let _ = io::write(self.0.as_fd(), format!("{line}\n").as_bytes(), None);
            }
            LogFormat::Json => tracing::info!(target: "strace", "{line}"),
        }
    }
}
