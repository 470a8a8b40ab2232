//! The runtime's own log (`--log`, `--log-format`): container managers read errors from it.

use anyhow::Context;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// `time="…" level=error msg="…"`
    Text,
    /// `{"level":"error","msg":"…","time":"…"}`
    #[value(alias = "json-k8s")]
    Json,
}

struct Log {
    file: File,
    format: Format,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Opens the log file.
pub fn open(path: &Path, format: Format) -> anyhow::Result<()> {
    let file = File::options().create(true).append(true).open(path).with_context(|| {
        format!("cannot open the log {}: is its directory there and writable?", path.display())
    })?;
    let _ = LOG.set(Log { file, format });
    Ok(())
}

/// The command by which a sandbox is started.
fn command() -> String {
    let known = |word: &String| ["do", "run", "create"].contains(&word.as_str());
    std::env::args().skip(1).find(known).unwrap_or_else(|| "boot".into())
}

/// True if `--debug-command` says that this command has a debug log.
pub fn is_debugged(commands: &str) -> bool {
    let (listed, all_but) = match commands.strip_prefix('!') {
        Some(listed) => (listed, true),
        None => (commands, false),
    };
    let command = command();
    // gVisor's process for the sandbox is a command of its own.
    let named = listed.split(',').any(|name| name == command || name == "boot");
    listed.is_empty() || named != all_but
}

/// The file that a pattern of `--debug-log` means for a container.
pub fn file_name(pattern: &Path, id: &str) -> PathBuf {
    let Some(text) = pattern.to_str() else { return pattern.to_path_buf() };
    let text = match text.ends_with('/') {
        true => format!("{text}runsc.log.%TIMESTAMP%.%COMMAND%"),
        false => text.to_string(),
    };
    let command = command();
    let time = crate::state::time::now();
    text.replace("%ID%", id).replace("%COMMAND%", &command).replace("%TIMESTAMP%", &time).into()
}

/// An error that ends the command: to the log, if there is one, and to standard error.
pub fn error(message: &str) {
    write("error", message);
    eprintln!("runsc: error: {message}");
}

/// Something that the user should know and that stops nothing.
pub fn warn(message: &str) {
    write("warning", message);
    if LOG.get().is_none() {
        eprintln!("runsc: warning: {message}");
    }
}

/// Something that happened in a sandbox, with fields of its own: to the log, or else to standard error.
pub fn event(message: &str, fields: &[(&str, String)]) {
    let time = crate::state::time::now();
    let json = LOG.get().is_some_and(|log| matches!(log.format, Format::Json));
    let mut line = if json {
        let mut map = serde_json::Map::new();
        let known = [("level", "warning"), ("msg", message), ("time", &time)];
        let known = known.into_iter().map(|(name, value)| (name, value.to_owned()));
        for (name, value) in known.chain(fields.iter().cloned()) {
            map.insert(name.to_owned(), value.into());
        }
        serde_json::Value::Object(map).to_string()
    } else {
        let mut line = format!("time={time:?} level=warning msg={message:?}");
        for (name, value) in fields {
            line.push_str(&format!(" {name}={value:?}"));
        }
        line
    };
    line.push('\n');
    // Nothing more can be done where neither can be written.
    let _ = match LOG.get() {
        Some(log) => (&log.file).write_all(line.as_bytes()),
        None => std::io::stderr().write_all(line.as_bytes()),
    };
}

/// The descriptor of the log file, for a process that closes all others.
pub fn descriptor() -> Option<BorrowedFd<'static>> {
    LOG.get().map(|log| log.file.as_fd())
}

fn write(level: &str, message: &str) {
    let Some(log) = LOG.get() else { return };
    let time = crate::state::time::now();
    let mut line = match log.format {
        Format::Json => {
            serde_json::json!({ "level": level, "msg": message, "time": time }).to_string()
        }
        Format::Text => format!("time={time:?} level={level} msg={message:?}"),
    };
    line.push('\n');
    // A log that cannot be written must not hide the error itself.
    let _ = (&log.file).write_all(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::file_name;
    use std::path::Path;

    #[test]
    fn patterns() {
        let name = |pattern: &str| file_name(Path::new(pattern), "c1").display().to_string();
        assert_eq!(name("/a/plain"), "/a/plain");
        assert_eq!(name("/a/%ID%.%COMMAND%"), "/a/c1.boot");
        assert!(name("/a/").starts_with("/a/runsc.log.20") && name("/a/").ends_with(".boot"));
    }
}
