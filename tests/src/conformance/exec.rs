//! Running the guest, natively or in a sandbox, as long as it makes progress.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

/// Where a run takes place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On this machine's kernel, with scratch directories below the given one.
    Native(PathBuf),
    /// In a sandbox of this platform; with a volume, the scratch directories lie on a directory of the host made below
    /// the given one.
    Sandbox(String, Option<PathBuf>),
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
    /// Runs `conformance run FILTERS…` at a place; ends it when it writes nothing for `limit`.
    pub fn run(&self, place: &Place, filters: &[String], limit: Duration) -> Outcome {
        let mut args: Vec<OsString> = vec![self.guest.clone().into(), "run".into()];
        args.extend(filters.iter().map(OsString::from));
        match place {
            Place::Native(tmp) => run(&args, Some(tmp), limit),
            Place::Sandbox(platform, below) => {
                let volume = match below.as_deref().map(Volume::new).transpose() {
                    Ok(volume) => volume,
                    Err(e) => return Outcome::not_run(format!("cannot make a volume: {e}")),
                };
                let mut all: Vec<OsString> = vec![self.runsc.clone().into()];
                all.push(format!("--platform={platform}").into());
                all.extend(["--allow-suid", "do"].map(OsString::from));
                if let Some(Volume(dir)) = &volume {
                    all.extend(["--volume".into(), format!("{}:/tmp", dir.display()).into()]);
                }
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

impl Outcome {
    fn not_run(why: String) -> Self {
        Self { stdout: String::new(), stderr: String::new(), failure: Some(why) }
    }
}

/// A directory of the host that a sandbox sees as `/tmp`; removed when it is dropped.
struct Volume(PathBuf);

impl Volume {
    fn new(below: &Path) -> io::Result<Self> {
        static SERIAL: AtomicUsize = AtomicUsize::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let dir = below.join(format!("conformance-volume-{}-{serial}", std::process::id()));
        fs::create_dir(&dir)?;
        let volume = Self(dir);
        fs::set_permissions(&volume.0, fs::Permissions::from_mode(0o1777))?;
        Ok(volume)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.0) {
            eprintln!("conformance: cannot remove {}: {e}", self.0.display());
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
        Err(e) => Outcome::not_run(format!("cannot run {}: {e}", program.to_string_lossy())),
    }
}

/// How long the pipes of a killed run may stay open.
const AFTER_KILL: Duration = Duration::from_secs(3);

/// What a reader of one of the pipes reports.
#[derive(PartialEq, Eq)]
enum Progress {
    /// More output arrived.
    Output,
    /// The pipe was closed: every process of the run that had it has ended.
    End,
}

/// The output of one pipe so far.
type Shared = Arc<Mutex<Vec<u8>>>;

/// Reads the output of a command until it ends, or until nothing has been written for `limit`.
fn collect(mut child: Child, limit: Duration) -> Outcome {
    let (report, progress) = mpsc::channel();
    let out = child.stdout.take().map(|pipe| drain(pipe, report.clone()));
    let err = child.stderr.take().map(|pipe| drain(pipe, report));
    let mut open = [&out, &err].into_iter().flatten().count();
    let mut read_until_silent = |limit: Duration| {
        while open > 0 {
            match progress.recv_timeout(limit) {
                Ok(Progress::Output) => {}
                Ok(Progress::End) => open -= 1,
                Err(_) => return false,
            }
        }
        true
    };
    let late = !read_until_silent(limit);
    if late {
        // The process group is this run's own; nobody else is in it.
        let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
    }
    let status = child.wait();
    // What a killed sandbox left behind, if it left anything, must not hold up the suite.
    let left_behind = late && !read_until_silent(AFTER_KILL);
    let text = |shared: Option<Shared>| {
        let bytes = shared.map(|s| s.lock().map_or_else(|e| e.into_inner().clone(), |b| b.clone()));
        String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
    };
    let (stdout, stderr) = (text(out), tail(&text(err)));
    let failure = match status {
        _ if left_behind => Some("killed, and left processes behind".to_string()),
        _ if late => Some(format!("killed after {} s without output", limit.as_secs())),
        Ok(status) if status.success() => None,
        Ok(status) => Some(status.to_string()),
        Err(e) => Some(format!("cannot wait: {e}")),
    };
    Outcome { stdout, stderr, failure }
}

/// Reads a pipe to its end on a thread of its own.
fn drain(mut pipe: impl Read + Send + 'static, report: mpsc::Sender<Progress>) -> Shared {
    let shared = Shared::default();
    let sink = shared.clone();
    thread::spawn(move || {
        let mut part = [0; 4096];
        // A read error ends the output like its end does; the exit status tells the rest. Nobody
        // listens any more after the time is up, but the output is still wanted.
        while let Some(new) =
            pipe.read(&mut part).ok().filter(|&n| n > 0).and_then(|n| part.get(..n))
        {
            sink.lock().unwrap_or_else(|e| e.into_inner()).extend_from_slice(new);
            let _ = report.send(Progress::Output);
        }
        let _ = report.send(Progress::End);
    });
    shared
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
        assert!(o.failure.is_some_and(|f| f.contains("without output")));
    }
}
