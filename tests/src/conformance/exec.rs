//! Running the guest, natively or in a sandbox, under a time limit.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Where a run takes place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On this machine's kernel, with scratch directories below the given one.
    Native(PathBuf),
    /// In a sandbox of this platform.
    Sandbox(String),
}

/// The programs of the suite.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The guest program.
    pub guest: PathBuf,
    /// The `runsc` under test.
    pub runsc: PathBuf,
}

/// What a run left behind.
#[derive(Debug)]
pub struct Outcome {
    /// Standard output.
    pub stdout: String,
    /// The last lines of standard error, for diagnosis.
    pub stderr: String,
    /// How the command ended, in words; `None` when it ended with success.
    pub failure: Option<String>,
}

impl Programs {
    /// Runs `conformance run FILTERS…` at a place.
    pub fn run(&self, place: &Place, filters: &[String], limit: Duration) -> Outcome {
        let mut args: Vec<OsString> = vec![self.guest.clone().into(), "run".into()];
        args.extend(filters.iter().map(OsString::from));
        match place {
            Place::Native(tmp) => run(&args, Some(tmp), limit),
            Place::Sandbox(platform) => {
                let mut all: Vec<OsString> = vec![self.runsc.clone().into(), "do".into()];
                all.push(format!("--platform={platform}").into());
                all.push("--".into());
                all.extend(args);
                run(&all, None, limit)
            }
        }
    }

    /// The names of all cases, in order.
    pub fn list(&self) -> Result<Vec<String>, String> {
        let args = [self.guest.clone().into(), "list".into()];
        let outcome = run(&args, None, Duration::from_secs(10));
        match outcome.failure {
            None => Ok(outcome.stdout.lines().map(String::from).collect()),
            Some(why) => Err(format!("{} list: {why}", self.guest.display())),
        }
    }
}

/// Runs a command in its own process group and with an environment that is always the same.
fn run(args: &[OsString], tmp: Option<&Path>, limit: Duration) -> Outcome {
    let (program, rest) =
        args.split_first().map_or((OsString::new(), &[][..]), |(p, r)| (p.clone(), r));
    let mut command = Command::new(&program);
    command.args(rest).env_clear().envs([("PATH", "/usr/bin:/bin"), ("HOME", "/root")]);
    if let Some(tmp) = tmp {
        command.env("CONFORMANCE_TMP", tmp);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    match command.spawn() {
        Ok(child) => collect(child, limit),
        Err(e) => Outcome {
            stdout: String::new(),
            stderr: String::new(),
            failure: Some(format!("cannot run {}: {e}", program.to_string_lossy())),
        },
    }
}

/// Reads the output of a command until it ends or the time is up.
fn collect(mut child: Child, limit: Duration) -> Outcome {
    let (done, ended) = mpsc::channel();
    let out = child.stdout.take().map(|pipe| drain(pipe, done.clone()));
    let err = child.stderr.take().map(|pipe| drain(pipe, done));
    // Both pipes are closed when every process of the run has ended. A channel whose senders are
    // gone reports the same.
    let late = (0..2).any(|_| ended.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout));
    if late {
        // The process group is this run's own; nobody else is in it.
        let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
    }
    let status = child.wait();
    let text = |handle: Option<thread::JoinHandle<Vec<u8>>>| {
        let bytes = handle.and_then(|h| h.join().ok()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (stdout, stderr) = (text(out), tail(&text(err)));
    let failure = match status {
        _ if late => Some(format!("took more than {} s", limit.as_secs())),
        Ok(status) if status.success() => None,
        Ok(status) => Some(status.to_string()),
        Err(e) => Some(format!("cannot wait: {e}")),
    };
    Outcome { stdout, stderr, failure }
}

fn drain(
    mut pipe: impl Read + Send + 'static,
    done: mpsc::Sender<()>,
) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // A read error ends the output like its end does; the exit status tells the rest.
        let _ = pipe.read_to_end(&mut bytes);
        let _ = done.send(());
        bytes
    })
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration) -> Outcome {
        run(&["/bin/sh".into(), "-c".into(), script.into()], None, limit)
    }

    #[test]
    fn collects_output_and_status() {
        let o = sh("echo out; echo err >&2; exit 3", Duration::from_secs(10));
        assert_eq!((o.stdout.as_str(), o.stderr.as_str()), ("out\n", "err"));
        assert!(o.failure.is_some_and(|f| f.contains('3')));
    }

    #[test]
    fn ends_what_takes_too_long() {
        let o = sh("echo begun; sleep 100 & sleep 100", Duration::from_millis(300));
        assert_eq!(o.stdout, "begun\n");
        assert!(o.failure.is_some_and(|f| f.starts_with("took more than")));
    }
}
