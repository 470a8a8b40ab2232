//! Calls that belong to the x86-64 architecture.

use crate::errno::Errno;
use crate::kernel::CurrentTask;
use crate::mm::UserAddr;
use crate::syscalls::SysResult;

const ARCH_SET_GS: i32 = 0x1001;
const ARCH_SET_FS: i32 = 0x1002;
const ARCH_GET_FS: i32 = 0x1003;
const ARCH_GET_GS: i32 = 0x1004;
const ARCH_GET_CPUID: i32 = 0x1011;
const ARCH_SET_CPUID: i32 = 0x1012;
const ARCH_GET_XCOMP_SUPP: i32 = 0x1021;
const ARCH_GET_XCOMP_PERM: i32 = 0x1022;

/// `arch_prctl(2)`
pub fn arch_prctl(t: &mut CurrentTask, op: i32, addr: u64) -> SysResult {
    match op {
        ARCH_SET_FS | ARCH_SET_GS => {
            if addr >= t.mm().task_size() {
                return Err(Errno::EPERM);
            }
            if op == ARCH_SET_FS {
                t.regs.fs_base = addr;
            } else {
                t.regs.gs_base = addr;
            }
            Ok(0)
        }
        ARCH_GET_FS | ARCH_GET_GS => {
            let base = if op == ARCH_GET_FS { t.regs.fs_base } else { t.regs.gs_base };
            t.mm().write_obj(UserAddr(addr), &base)?;
            Ok(0)
        }
        ARCH_GET_CPUID => Ok(1),
        // As on a CPU that cannot make CPUID fault.
        ARCH_SET_CPUID => Err(Errno::ENODEV),
        ARCH_GET_XCOMP_SUPP | ARCH_GET_XCOMP_PERM => {
            t.mm().write_obj(UserAddr(addr), &platform::XState::features())?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}
