//! `shmget(2)`, `shmat(2)`, `shmdt(2)`, `shmctl(2)`.

use crate::errno::Errno;
use crate::kernel::credentials::CAP_IPC_LOCK;
use crate::kernel::ipc::{IPC_64, IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, shm};
use crate::kernel::{CurrentTask, Rlimit};
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::Flags;
use std::sync::atomic::Ordering;

const SHM_LOCK: i32 = 11;
const SHM_UNLOCK: i32 = 12;
const SHM_STAT: i32 = 13;
const SHM_INFO: i32 = 14;
const SHM_STAT_ANY: i32 = 15;

/// `shmget(2)`.
pub fn shmget(t: &mut CurrentTask, key: i32, size: u64, shmflg: Flags) -> SysResult {
    Ok(shm::get(t, key, size, shmflg.0)? as u64)
}

/// `shmat(2)`.
pub fn shmat(t: &mut CurrentTask, shmid: i32, shmaddr: UserAddr, shmflg: Flags) -> SysResult {
    Ok(shm::attach(t, shmid, shmaddr, shmflg.0)?.0)
}

/// `shmdt(2)`.
pub fn shmdt(t: &mut CurrentTask, shmaddr: UserAddr) -> SysResult {
    shm::detach(t, shmaddr)?;
    Ok(0)
}

/// `struct shmid64_ds`.
fn description(segment: &shm::Segment) -> Vec<u8> {
    let mut out = segment.perm.bytes();
    out.extend_from_slice(&segment.size.to_ne_bytes());
    for time in segment.times {
        out.extend_from_slice(&time.to_ne_bytes());
    }
    for pid in segment.pids {
        out.extend_from_slice(&pid.to_ne_bytes());
    }
    out.extend_from_slice(&segment.attached().to_ne_bytes());
    out.extend_from_slice(&[0; 16]);
    out
}

/// `shmctl(2)`.
pub fn shmctl(t: &mut CurrentTask, shmid: i32, cmd: i32, buf: UserAddr) -> SysResult {
    if shmid < 0 {
        return Err(Errno::EINVAL);
    }
    let ns = &*t.namespaces().ipc;
    match cmd & !IPC_64 {
        IPC_RMID => shm::remove(ns, t.creds(), shmid).map(|()| 0),
        IPC_SET => {
            let bytes: [u8; 48] = t.mm().read_obj(buf)?;
            let word = |i: usize| {
                bytes.get(i..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_ne_bytes(*b))
            };
            shm::set(ns, t.creds(), shmid, word(4), word(8), word(20)).map(|()| 0)
        }
        IPC_STAT => {
            let segment = shm::find(ns, shmid)?;
            segment.perm.check(ns, t.creds(), 4)?;
            t.mm().write(buf, &description(&segment))?;
            Ok(0)
        }
        stat @ (SHM_STAT | SHM_STAT_ANY) => {
            let id = shm::id_at(ns, shmid)?;
            let segment = shm::find(ns, id)?;
            if stat == SHM_STAT {
                segment.perm.check(ns, t.creds(), 4)?;
            }
            t.mm().write(buf, &description(&segment))?;
            Ok(id as u64)
        }
        IPC_INFO => {
            let highest = shm::usage(ns).highest;
            let (max, n) = (
                ns.limits.shmmax.load(Ordering::Relaxed),
                ns.limits.shmmni.load(Ordering::Relaxed),
            );
            let info = [max, 1, n, n, ns.limits.shmall.load(Ordering::Relaxed)];
            let mut out: Vec<u8> = info.iter().flat_map(|w| w.to_ne_bytes()).collect();
            out.resize(72, 0);
            t.mm().write(buf, &out)?;
            Ok(highest as u64)
        }
        SHM_INFO => {
            let used = shm::usage(ns);
            let info = [used.segments as u64, used.pages, used.resident, 0, 0, 0];
            let out: Vec<u8> = info.iter().flat_map(|w| w.to_ne_bytes()).collect();
            t.mm().write(buf, &out)?;
            Ok(used.highest as u64)
        }
        lock @ (SHM_LOCK | SHM_UNLOCK) => {
            let segment = shm::find(ns, shmid)?;
            if !t.creds().has_in(ns.user_ns(), CAP_IPC_LOCK) {
                let owner = [segment.perm.uid, segment.perm.cuid].contains(&t.creds().euid);
                if !owner || lock == SHM_LOCK && t.limit(Rlimit::Memlock).soft == 0 {
                    return Err(Errno::EPERM);
                }
            }
            shm::set_locked(ns, shmid, lock == SHM_LOCK);
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}
