//! The system as a whole (`uname(2)`, `sysinfo(2)`, `getrandom(2)`), and `rseq`.

use crate::errno::Errno;
use crate::kernel::CurrentTask;
use crate::kernel::credentials::{CAP_SYS_ADMIN, CAP_SYS_TTY_CONFIG};
use crate::kernel::version::UTS;
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::time::ClockId;
use std::sync::atomic::Ordering;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Length of a field of `struct new_utsname`, with the NUL.
const UTS_LEN: usize = 65;
/// The part of a personality that says what system it is.
const PER_MASK: u32 = 0xff;
/// A 32-bit one.
const PER_LINUX32: u32 = 8;

/// `uname(2)`
pub fn uname(t: &mut CurrentTask, at: UserAddr) -> SysResult {
    let names = t.namespaces().uts.names.read().clone();
    let machine = match t.personality.load(Ordering::Relaxed) & PER_MASK {
        PER_LINUX32 => "i686",
        _ => UTS.machine,
    };
    let fields: [&[u8]; 6] = [
        UTS.sysname.as_bytes(),
        &names.host,
        UTS.release.as_bytes(),
        UTS.version.as_bytes(),
        machine.as_bytes(),
        &names.domain,
    ];
    let mut out = [0_u8; 6 * UTS_LEN];
    for (place, text) in out.chunks_exact_mut(UTS_LEN).zip(fields) {
        for (to, from) in place.iter_mut().take(UTS_LEN - 1).zip(text) {
            *to = *from;
        }
    }
    t.mm().write(at, &out)?;
    Ok(0)
}

fn read_name(t: &CurrentTask, at: UserAddr, len: i32) -> Result<Vec<u8>, Errno> {
    if !t.creds().has_in(t.namespaces().uts.user_ns(), CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let len = usize::try_from(len).ok().filter(|n| *n < UTS_LEN).ok_or(Errno::EINVAL)?;
    let mut name = vec![0; len];
    t.mm().read(at, &mut name)?;
    Ok(name)
}

/// `sethostname(2)`
pub fn sethostname(t: &mut CurrentTask, name: UserAddr, len: i32) -> SysResult {
    let name = read_name(t, name, len)?;
    t.namespaces().uts.names.write().host = name;
    Ok(0)
}

/// `setdomainname(2)`
pub fn setdomainname(t: &mut CurrentTask, name: UserAddr, len: i32) -> SysResult {
    let name = read_name(t, name, len)?;
    t.namespaces().uts.names.write().domain = name;
    Ok(0)
}

#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SysInfo {
    uptime: i64,
    loads: [u64; 3],
    totalram: u64,
    freeram: u64,
    sharedram: u64,
    bufferram: u64,
    totalswap: u64,
    freeswap: u64,
    procs: u16,
    pad: u16,
    pad2: u32,
    totalhigh: u64,
    freehigh: u64,
    mem_unit: u32,
    pad3: u32,
}

/// Binary places of the load averages (`SI_LOAD_SHIFT`).
const LOAD_SHIFT: u32 = 16;

/// `sysinfo(2)`
pub fn sysinfo(t: &mut CurrentTask, at: UserAddr) -> SysResult {
    let kernel = t.kernel();
    let (total, used) = crate::fs::proc::system::memory::usage(kernel);
    let loads = crate::fs::proc::system::cpu::load(kernel);
    let uptime = t.namespaces().time.shown(ClockId::Boottime, kernel.time.boottime());
    let info = SysInfo {
        uptime: uptime.div_ceil(crate::time::NANOS) as i64,
        loads: loads.map(|load| (load * f64::from(1 << LOAD_SHIFT)) as u64),
        totalram: total,
        freeram: total.saturating_sub(used),
        procs: u16::try_from(kernel.task_count()).unwrap_or(u16::MAX),
        mem_unit: 1,
        ..SysInfo::default()
    };
    t.mm().write_obj(at, &info)?;
    Ok(0)
}

const GRND_NONBLOCK: u32 = 1;
const GRND_RANDOM: u32 = 2;
const GRND_INSECURE: u32 = 4;
/// Most bytes of one call (`INT_MAX >> 6` rounded to what Linux returns at once).
const RANDOM_MAX: u64 = 33_554_431;

/// `getrandom(2)`
pub fn getrandom(t: &mut CurrentTask, buf: UserAddr, len: u64, flags: u32) -> SysResult {
    if flags & !(GRND_NONBLOCK | GRND_RANDOM | GRND_INSECURE) != 0
        || flags & (GRND_RANDOM | GRND_INSECURE) == GRND_RANDOM | GRND_INSECURE
    {
        return Err(Errno::EINVAL);
    }
    let len = len.min(RANDOM_MAX);
    let mut chunk = [0_u8; 4096];
    let mut done = 0;
    while done < len {
        let n = (len - done).min(chunk.len() as u64);
        let part = chunk.get_mut(..n as usize).unwrap_or_default();
        platform::host::random::fill(part).map_err(|_| Errno::EAGAIN)?;
        if let Err(e) = t.mm().write(buf.offset(done), part) {
            return if done == 0 { Err(e) } else { Ok(done) };
        }
        done += n;
        // A long request of a task that is to die ends.
        if t.interrupted() {
            break;
        }
    }
    Ok(done)
}

/// `getcpu(2)`
pub fn getcpu(t: &mut CurrentTask, cpu: UserAddr, node: UserAddr) -> SysResult {
    let current = current_cpu(t);
    if !cpu.is_null() {
        t.mm().write_obj(cpu, &current)?;
    }
    if !node.is_null() {
        t.mm().write_obj(node, &0_u32)?;
    }
    Ok(0)
}

/// The CPU the task is said to run on: the lowest that its affinity allows. Where the host runs it is not
/// the guest's to know, and changes all the time.
fn current_cpu(t: &CurrentTask) -> u32 {
    let affinity = t.affinity();
    let first = affinity.iter().enumerate().find(|(_, word)| **word != 0);
    first.map_or(0, |(i, word)| i as u32 * 64 + word.trailing_zeros())
}

/// `vhangup(2)`: hangs the caller's terminal up. `EPERM` without `CAP_SYS_TTY_CONFIG`.
pub fn vhangup(t: &mut CurrentTask) -> SysResult {
    if !t.creds().has(CAP_SYS_TTY_CONFIG) {
        return Err(Errno::EPERM);
    }
    if let Some(tty) = crate::fs::tty::job::controlling(t) {
        tty.hang_up();
    }
    Ok(0)
}
