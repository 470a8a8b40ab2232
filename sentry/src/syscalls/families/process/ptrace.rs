//! `ptrace(2)`.

use super::may_inspect;
use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::kernel::ptrace::request::{self, nr};
use crate::kernel::ptrace::{Options, attach};
use crate::syscalls::SysResult;

/// `ptrace(2)`; the raw call stores what the `PEEK` requests read where `data` points.
pub fn ptrace(t: &mut CurrentTask, request: u64, pid: i32, addr: u64, data: u64) -> SysResult {
    if request == nr::TRACEME {
        attach::trace_me(t)?;
        return Ok(0);
    }
    let task = t.find_task(pid)?;
    match request {
        nr::ATTACH | nr::SEIZE => {
            let seize = request == nr::SEIZE;
            let options = if seize { seize_options(t, addr, data)? } else { Options::empty() };
            if task.tgid() == t.tgid() || !may_inspect(t, &task) {
                return Err(Errno::EPERM);
            }
            attach::attach(t, &task, seize, options)?;
            Ok(0)
        }
        _ => request::request(t, &task, request, addr, data),
    }
}

fn seize_options(t: &CurrentTask, addr: u64, data: u64) -> Result<Options> {
    if addr != 0 {
        return Err(Errno::EIO);
    }
    match request::options(t, data) {
        Err(Errno::EINVAL) => Err(Errno::EIO),
        other => other,
    }
}
