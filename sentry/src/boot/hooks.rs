//! Hooks of the point `startContainer` (OCI runtime specification, POSIX-platform hooks): programs of the container
//! that run in its namespaces, one after the other, before its first process. That process's user, capabilities,
//! limits and filter are theirs, and its standard error takes what they print.

use super::process::{self, Surroundings};
use super::{BootError, HookSpec, HooksSpec, ProcessSpec};
use crate::errno::{Errno, Result};
use crate::fs::pipe;
use crate::io::BufSource;
use crate::kernel::Kernel;
use crate::kernel::signal::{SigInfo, Signal};
use crate::vfs::{FdTable, File, OpenFlags};
use std::sync::Arc;
use std::time::Duration;

/// Runs them. The first one that fails ends it.
pub fn run(
    kernel: &Arc<Kernel>,
    container: &Surroundings,
    first: &ProcessSpec,
    hooks: &HooksSpec,
    output: Option<&Arc<File>>,
) -> Result<(), BootError> {
    for hook in &hooks.list {
        one(kernel, container, first, hook, &hooks.state, output).map_err(|reason| {
            BootError::Hook { path: hook.path.escape_ascii().to_string(), reason }
        })?;
    }
    Ok(())
}

fn one(
    kernel: &Arc<Kernel>,
    container: &Surroundings,
    first: &ProcessSpec,
    hook: &HookSpec,
    state: &[u8],
    output: Option<&Arc<File>>,
) -> Result<(), String> {
    let failed = |e: BootError| e.to_string();
    let spec = ProcessSpec {
        args: if hook.args.is_empty() { vec![hook.path.clone()] } else { hook.args.clone() },
        env: hook.env.clone(),
        terminal: false,
        ..first.clone()
    };
    let files = files(state, output).map_err(|e| format!("cannot pass the state to it: {e}"))?;
    let prepared = process::prepare(kernel, container, files, &spec, false).map_err(failed)?;
    let task = prepared.of_program(&hook.path).start(kernel).map_err(failed)?;
    let limit = hook.timeout.map(Duration::from_secs);
    let status = match kernel.outsiders.wait_for(task.tgid(), limit) {
        Some(status) => status,
        None => {
            task.group().send_signal(kernel, &SigInfo::kernel(Signal::SIGKILL));
            kernel.outsiders.wait(task.tgid());
            return Err(format!("it did not end within {} s", hook.timeout.unwrap_or(0)));
        }
    };
    match (status & 0x7f, status >> 8 & 0xff) {
        (0, 0) => Ok(()),
        (0, code) => Err(format!("exit status {code}")),
        (signal, _) => Err(format!("signal {signal}")),
    }
}

/// Standard input with the state, and where it may write.
fn files(state: &[u8], output: Option<&Arc<File>>) -> Result<Arc<FdTable>> {
    let (input, writer) = pipe::pair(&Default::default(), OpenFlags::empty());
    let pipe = pipe::of(&input).ok_or(Errno::EBADF)?;
    pipe.set_capacity(state.len() as u64, true)?;
    let mut source = BufSource::new(state);
    if !state.is_empty() && writer.ops().write(&writer, &mut source, 0)? != state.len() {
        return Err(Errno::ENOSPC);
    }
    let files = FdTable::new();
    files.insert_at(0, input, false, u64::MAX)?;
    for fd in 1..3 {
        if let Some(file) = output {
            files.insert_at(fd, file.clone(), false, u64::MAX)?;
        }
    }
    Ok(Arc::new(files))
}
