//! The machine: its kernel's log (`syslog(2)`) and its end (`reboot(2)`).

use crate::errno::Errno;
use crate::kernel::credentials::{CAP_SYS_BOOT, CAP_SYSLOG};
use crate::kernel::log::BUFFER_SIZE;
use crate::kernel::{CurrentTask, Signal, Wake, exit};
use crate::mm::UserAddr;
use crate::syscalls::SysResult;

const ACTION_CLOSE: i32 = 0;
const ACTION_OPEN: i32 = 1;
const ACTION_READ: i32 = 2;
const ACTION_READ_ALL: i32 = 3;
const ACTION_READ_CLEAR: i32 = 4;
const ACTION_CLEAR: i32 = 5;
const ACTION_CONSOLE_OFF: i32 = 6;
const ACTION_CONSOLE_ON: i32 = 7;
const ACTION_CONSOLE_LEVEL: i32 = 8;
const ACTION_SIZE_UNREAD: i32 = 9;
const ACTION_SIZE_BUFFER: i32 = 10;

/// `syslog(2)`: with `kernel.dmesg_restrict`, everything needs `CAP_SYSLOG`.
pub fn syslog(t: &mut CurrentTask, action: i32, buf: UserAddr, len: i32) -> SysResult {
    if !t.creds().has(CAP_SYSLOG) {
        return Err(Errno::EPERM);
    }
    let kernel = t.kernel().clone();
    let log = &kernel.log;
    match action {
        ACTION_CLOSE | ACTION_OPEN => Ok(0),
        ACTION_READ | ACTION_READ_ALL | ACTION_READ_CLEAR => {
            let len = usize::try_from(len).ok().filter(|_| !buf.is_null()).ok_or(Errno::EINVAL)?;
            if len == 0 {
                return Ok(0);
            }
            t.mm().check_buffer(buf, len as u64)?;
            let text = match action {
                ACTION_READ => read(t, len)?,
                _ => log.read_all(len, action == ACTION_READ_CLEAR).to_vec(),
            };
            t.mm().write(buf, &text)?;
            Ok(text.len() as u64)
        }
        ACTION_CLEAR => {
            log.clear();
            Ok(0)
        }
        ACTION_CONSOLE_OFF | ACTION_CONSOLE_ON => {
            log.switch_console(action == ACTION_CONSOLE_ON);
            Ok(0)
        }
        ACTION_CONSOLE_LEVEL if (1..=8).contains(&len) => {
            log.set_console(len);
            Ok(0)
        }
        ACTION_SIZE_UNREAD => Ok(log.unread() as u64),
        ACTION_SIZE_BUFFER => Ok(BUFFER_SIZE),
        _ => Err(Errno::EINVAL),
    }
}

const MAGIC1: u32 = 0xfee1_dead;
const MAGIC2: [u32; 4] = [672_274_793, 85_072_278, 369_367_448, 537_993_216];
const CMD_RESTART: u32 = 0x0123_4567;
const CMD_RESTART2: u32 = 0xa1b2_c3d4;
const CMD_HALT: u32 = 0xcdef_0123;
const CMD_POWER_OFF: u32 = 0x4321_fedc;
const CMD_CAD_ON: u32 = 0x89ab_cdef;
const CMD_CAD_OFF: u32 = 0;

/// `reboot(2)`: as in a pid namespace of Linux, the end of the machine is that of its first process, which
/// `SIGHUP` (a restart) or `SIGINT` seems to have killed. Of Ctrl-Alt-Del nothing ever comes.
pub fn reboot(
    t: &mut CurrentTask,
    magic1: u32,
    magic2: u32,
    command: u32,
    _arg: UserAddr,
) -> SysResult {
    let space = t.group().pid_ns().clone();
    if !t.creds().has_in(space.user_ns(), CAP_SYS_BOOT) {
        return Err(Errno::EPERM);
    }
    if magic1 != MAGIC1 || !MAGIC2.contains(&magic2) {
        return Err(Errno::EINVAL);
    }
    let signal = match command {
        CMD_CAD_ON | CMD_CAD_OFF if space.is_root() => return Ok(0),
        CMD_RESTART | CMD_RESTART2 => Signal::SIGHUP,
        CMD_HALT | CMD_POWER_OFF => Signal::SIGINT,
        _ => return Err(Errno::EINVAL),
    };
    let first = t.kernel().thread_group(space.global(1)).ok_or(Errno::ESRCH)?;
    exit::kill(&first, signal);
    if first.tgid() != t.tgid() {
        exit::begin_task_exit(t, 0);
    }
    Ok(0)
}

/// The next part of the log that has not been read; waits for it.
fn read(t: &mut CurrentTask, len: usize) -> Result<Vec<u8>, Errno> {
    loop {
        if let Some(text) = t.kernel().log.read(len) {
            return Ok(text.to_vec());
        }
        // Nothing more is ever said: only a signal ends this.
        if t.block(None) == Wake::Interrupted {
            return Err(Errno::ERESTARTSYS);
        }
    }
}
