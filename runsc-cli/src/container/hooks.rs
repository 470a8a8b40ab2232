//! Hooks: programs that run at points of a container's life (OCI runtime specification, POSIX-platform hooks).

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use oci_spec::runtime::{Hook, Hooks};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Runs the hooks of one point in order; each gets the container's state on standard input. The first failure
/// ends it.
pub fn run(
    point: &str,
    hooks: Option<&Vec<Hook>>,
    state: &Value,
    bundle: &Path,
) -> anyhow::Result<()> {
    for hook in hooks.into_iter().flatten() {
        one(hook, state, bundle)
            .with_context(|| format!("{point} hook {} failed", hook.path().display()))?;
    }
    Ok(())
}

/// True if there are hooks that run before the sandbox goes on.
pub fn any_while_creating(hooks: &Hooks) -> bool {
    let lists = [hooks.prestart(), hooks.create_runtime(), hooks.create_container()];
    lists.into_iter().flatten().any(|list| !list.is_empty())
}

fn one(hook: &Hook, state: &Value, bundle: &Path) -> anyhow::Result<()> {
    if !hook.path().is_absolute() {
        bail!("its path is not absolute");
    }
    let mut command = Command::new(hook.path());
    if let Some((name, rest)) = hook.args().as_deref().and_then(|args| args.split_first()) {
        command.arg0(name).args(rest);
    }
    command.env_clear().current_dir(bundle).stdin(Stdio::piped());
    // What it prints must not mix with what a container manager reads from us.
    command.stdout(Stdio::from(std::io::stderr()));
    for item in hook.env().as_deref().unwrap_or_default() {
        if let Some((name, value)) = item.split_once('=') {
            command.env(name, value);
        }
    }
    let mut child = command.spawn().context("cannot execute it")?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(state.to_string().as_bytes()) {
            // It does not read its input.
            Err(e) if e.kind() == ErrorKind::BrokenPipe => {}
            result => result.context("cannot pass the state to it")?,
        }
    }
    if let Some(seconds) = hook.timeout() {
        let limit = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        if !ended_within(&child, limit)? {
            // It may have ended in this moment.
            let _ = child.kill();
            let _ = child.wait();
            bail!("it did not end within {seconds} s");
        }
    }
    let status = child.wait().context("cannot wait for it")?;
    if !status.success() {
        bail!("{status}");
    }
    Ok(())
}

fn ended_within(child: &Child, limit: Duration) -> anyhow::Result<bool> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("bad process id")?;
    let fd = pidfd_open(pid, PidfdFlags::empty()).context("cannot watch it")?;
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(n) => return Ok(n > 0),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e).context("cannot watch it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::run;
    use oci_spec::runtime::Hook;
    use serde_json::json;
    use std::path::Path;

    fn hook(script: &str, timeout: i64) -> Vec<Hook> {
        let text = json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["A=b"], "timeout": timeout });
        vec![serde_json::from_value(text).unwrap()]
    }

    #[test]
    fn success_failure_and_timeout() {
        let state = json!({ "id": "x" });
        let run = |script: &str, timeout| {
            run("prestart", Some(&hook(script, timeout)), &state, Path::new("/"))
        };
        run("read s; test \"$s$A$HOME\" = '{\"id\":\"x\"}b'", 10).unwrap();
        run("exit 0", 10).unwrap();
        let error = format!("{:#}", run("exit 3", 10).unwrap_err());
        assert!(error.contains("prestart hook /bin/sh failed") && error.contains('3'), "{error}");
        assert!(format!("{:#}", run("exec sleep 60", 0).unwrap_err()).contains("within 0 s"));
    }
}
