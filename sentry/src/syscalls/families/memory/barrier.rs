//! `membarrier(2)`.

use crate::errno::Errno;
use crate::kernel::CurrentTask;
use crate::syscalls::SysResult;
use crate::syscalls::arg::Flags;

const GLOBAL: i32 = 1;
const GLOBAL_EXPEDITED: i32 = 1 << 1;
const REGISTER_GLOBAL_EXPEDITED: i32 = 1 << 2;
const PRIVATE_EXPEDITED: i32 = 1 << 3;
const REGISTER_PRIVATE_EXPEDITED: i32 = 1 << 4;
const GET_REGISTRATIONS: i32 = 1 << 9;

/// `membarrier(2)`
pub fn membarrier(t: &mut CurrentTask, cmd: i32, flags: Flags, _cpu: i32) -> SysResult {
    if flags.0 != 0 {
        return Err(Errno::EINVAL);
    }
    match cmd {
        0 => Ok((GLOBAL
            | GLOBAL_EXPEDITED
            | REGISTER_GLOBAL_EXPEDITED
            | PRIVATE_EXPEDITED
            | REGISTER_PRIVATE_EXPEDITED
            | GET_REGISTRATIONS) as u64),
        GLOBAL | GLOBAL_EXPEDITED => {
            for group in t.kernel().thread_groups() {
                t.pass_barrier(&group.tasks());
            }
            Ok(0)
        }
        REGISTER_GLOBAL_EXPEDITED | REGISTER_PRIVATE_EXPEDITED => {
            t.mm().register_membarrier(cmd as u64);
            Ok(0)
        }
        PRIVATE_EXPEDITED => {
            if t.mm().membarrier_registrations() & REGISTER_PRIVATE_EXPEDITED as u64 == 0 {
                return Err(Errno::EPERM);
            }
            let tasks = t.group().tasks();
            t.pass_barrier(&tasks);
            Ok(0)
        }
        GET_REGISTRATIONS => Ok(t.mm().membarrier_registrations()),
        _ => Err(Errno::EINVAL),
    }
}
