//! `semget(2)`, `semop(2)`, `semtimedop(2)`, `semctl(2)`.

use super::wait::Timeout;
use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::kernel::ipc::sem::{self, Description, Op, Question, SEMVMX, Set};
use crate::kernel::ipc::{
    IPC_64, IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, ids::Object, limits::Limits,
};
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::Flags;

const GETPID: i32 = 11;
const GETVAL: i32 = 12;
const GETALL: i32 = 13;
const GETNCNT: i32 = 14;
const GETZCNT: i32 = 15;
const SETVAL: i32 = 16;
const SETALL: i32 = 17;
const SEM_STAT: i32 = 18;
const SEM_INFO: i32 = 19;
const SEM_STAT_ANY: i32 = 20;

/// `semget(2)`.
pub fn semget(t: &mut CurrentTask, key: i32, nsems: i32, semflg: Flags) -> SysResult {
    Ok(sem::get(t, key, nsems, semflg.0)? as u64)
}

/// `semop(2)`.
pub fn semop(t: &mut CurrentTask, semid: i32, sops: UserAddr, nsops: u32) -> SysResult {
    semtimedop(t, semid, sops, nsops, UserAddr(0))
}

/// `semtimedop(2)`.
pub fn semtimedop(
    t: &mut CurrentTask,
    semid: i32,
    sops: UserAddr,
    nsops: u32,
    timeout: UserAddr,
) -> SysResult {
    if !timeout.is_null() {
        let _: [i64; 2] = t.mm().read_obj(timeout)?;
    }
    let count = nsops as usize;
    if count > Limits::count(&t.namespaces().ipc.limits.sem[2]) {
        return Err(Errno::E2BIG);
    }
    if count == 0 {
        return Err(Errno::EINVAL);
    }
    let mut bytes = vec![0; count * 6];
    t.mm().read(sops, &mut bytes)?;
    if semid < 0 {
        return Err(Errno::EINVAL);
    }
    let timeout = Timeout::read_timespec(t, timeout)?;
    let (ops, _) = bytes.as_chunks::<6>();
    let ops = ops.iter().map(|&[n0, n1, b0, b1, f0, f1]| Op {
        num: u16::from_ne_bytes([n0, n1]),
        by: i16::from_ne_bytes([b0, b1]),
        flags: u16::from_ne_bytes([f0, f1]),
    });
    sem::operate(t, semid, ops.collect(), timeout.deadline())?;
    Ok(0)
}

/// `struct semid64_ds`.
fn description(set: &Set) -> Vec<u8> {
    let Description { perm, otime, ctime, count } = set.describe();
    let mut out = perm.bytes();
    for word in [otime, 0, ctime, 0, count as i64, 0, 0] {
        out.extend_from_slice(&word.to_ne_bytes());
    }
    out
}

/// `struct seminfo`.
fn information(t: &CurrentTask, buf: UserAddr, usage: bool) -> SysResult {
    let (all, highest) = t.namespaces().ipc.sem.all();
    let (sets, semaphores) = match usage {
        true => (all.len(), all.iter().map(|(_, set)| set.describe().count).sum()),
        // `SEMUSZ` and `SEMAEM`.
        false => (20, SEMVMX as usize),
    };
    let [msl, mns, opm, mni] = t.namespaces().ipc.limits.sem.each_ref().map(Limits::count);
    let fields = [mns, mni, mns, mns, msl, opm, opm, sets];
    let mut out: Vec<u8> = fields.iter().flat_map(|n| (*n as i32).to_ne_bytes()).collect();
    out.extend_from_slice(&SEMVMX.to_ne_bytes());
    out.extend_from_slice(&(semaphores as i32).to_ne_bytes());
    t.mm().write(buf, &out)?;
    Ok(highest as u64)
}

fn value_in_range(value: i32) -> Result<i32> {
    if (0..=SEMVMX).contains(&value) { Ok(value) } else { Err(Errno::ERANGE) }
}

/// `semctl(2)`.
pub fn semctl(t: &mut CurrentTask, semid: i32, semnum: i32, cmd: i32, arg: u64) -> SysResult {
    if semid < 0 {
        return Err(Errno::EINVAL);
    }
    let namespaces = t.namespaces();
    let ns = &*namespaces.ipc;
    let may = |set: &Set, want: u32| set.permissions().check(ns, t.creds(), want);
    let pid = t.tgid();
    let buf = UserAddr(arg);
    match cmd & !IPC_64 {
        IPC_INFO => information(t, buf, false),
        SEM_INFO => information(t, buf, true),
        IPC_STAT => {
            let set = ns.sem.find(semid)?;
            may(&set, 4)?;
            t.mm().write(buf, &description(&set))?;
            Ok(0)
        }
        stat @ (SEM_STAT | SEM_STAT_ANY) => {
            let (id, set) = ns.sem.at(semid)?;
            if stat == SEM_STAT {
                may(&set, 4)?;
            }
            t.mm().write(buf, &description(&set))?;
            Ok(id as u64)
        }
        GETALL => {
            let set = ns.sem.find(semid)?;
            may(&set, 4)?;
            let bytes: Vec<u8> = set.values().iter().flat_map(|v| v.to_ne_bytes()).collect();
            t.mm().write(buf, &bytes)?;
            Ok(0)
        }
        ask @ (GETVAL | GETPID | GETNCNT | GETZCNT) => {
            let set = ns.sem.find(semid)?;
            may(&set, 4)?;
            let answer = match ask {
                GETVAL => set.ask(semnum, Question::Value)?,
                GETPID => t.group().pid_ns().local(set.ask(semnum, Question::Pid)?),
                GETNCNT => set.ask(semnum, Question::Growing)?,
                _ => set.ask(semnum, Question::Zero)?,
            };
            Ok(answer as u64)
        }
        SETVAL => {
            let value = value_in_range(arg as i32)?;
            let set = ns.sem.find(semid)?;
            set.ask(semnum, Question::Value)?;
            may(&set, 2)?;
            set.set_value(semnum, value, pid)?;
            Ok(0)
        }
        SETALL => {
            let set = ns.sem.find(semid)?;
            may(&set, 2)?;
            let mut bytes = vec![0; set.describe().count * 2];
            t.mm().read(buf, &mut bytes)?;
            let (values, _) = bytes.as_chunks::<2>();
            let values: Vec<u16> = values.iter().map(|b| u16::from_ne_bytes(*b)).collect();
            for value in &values {
                value_in_range(i32::from(*value))?;
            }
            set.set_values(&values, pid)?;
            Ok(0)
        }
        IPC_RMID => sem::remove(ns, t.creds(), semid).map(|()| 0),
        IPC_SET => {
            let [_, uid, gid, _, _, mode, ..]: [u32; 26] = t.mm().read_obj(buf)?;
            let set = ns.sem.find(semid)?;
            set.permissions().check_owner(ns, t.creds())?;
            set.set_permissions(uid, gid, mode);
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}
