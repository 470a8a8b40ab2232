//! `msgget(2)`, `msgsnd(2)`, `msgrcv(2)`, `msgctl(2)`.

use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::kernel::ipc::limits::Limits;
use crate::kernel::ipc::msg::{self, Description, IPC_NOWAIT, Message, Queue, Want};
use crate::kernel::ipc::{IPC_64, IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, ids::Object};
use crate::mm::UserAddr;
use crate::syscalls::SysResult;
use crate::syscalls::arg::Flags;

const MSG_STAT: i32 = 11;
const MSG_INFO: i32 = 12;
const MSG_STAT_ANY: i32 = 13;

/// `msgget(2)`.
pub fn msgget(t: &mut CurrentTask, key: i32, msgflg: Flags) -> SysResult {
    Ok(msg::get(t, key, msgflg.0)? as u64)
}

/// `msgsnd(2)`.
pub fn msgsnd(
    t: &mut CurrentTask,
    msqid: i32,
    msgp: UserAddr,
    msgsz: u64,
    msgflg: Flags,
) -> SysResult {
    let kind: i64 = t.mm().read_obj(msgp)?;
    let size = usize::try_from(msgsz).map_err(|_| Errno::EINVAL)?;
    let longest = Limits::count(&t.namespaces().ipc.limits.msgmax);
    if size > longest || msqid < 0 || kind < 1 {
        return Err(Errno::EINVAL);
    }
    let mut text = vec![0; size];
    t.mm().read(UserAddr(msgp.0.wrapping_add(8)), &mut text)?;
    msg::send(t, msqid, Message::new(kind, text)?, msgflg.0 & IPC_NOWAIT != 0)?;
    Ok(0)
}

/// `msgrcv(2)`.
pub fn msgrcv(
    t: &mut CurrentTask,
    msqid: i32,
    msgp: UserAddr,
    msgsz: u64,
    msgtyp: i64,
    msgflg: Flags,
) -> SysResult {
    let flags = msgflg.0;
    if msqid < 0 || msgsz > i64::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    let size = usize::try_from(msgsz).unwrap_or(usize::MAX);
    let longest = (flags & msg::MSG_NOERROR == 0).then_some(size);
    let nowait = flags & IPC_NOWAIT != 0;
    let message = if flags & msg::MSG_COPY != 0 {
        if flags & msg::MSG_EXCEPT != 0 || !nowait {
            return Err(Errno::EINVAL);
        }
        msg::readable(t, msqid)?.copy(msgtyp, longest)?
    } else {
        msg::receive(t, msqid, Want::decode(msgtyp, flags), longest, nowait)?
    };
    t.mm().write_obj(msgp, &message.kind)?;
    let text = message.text.get(..size).unwrap_or(&message.text);
    t.mm().write(UserAddr(msgp.0.wrapping_add(8)), text)?;
    Ok(text.len() as u64)
}

/// `struct msqid64_ds`.
fn description(t: &CurrentTask, queue: &Queue) -> Vec<u8> {
    let Description { perm, times, sizes, pids } = queue.describe();
    let mut out = perm.bytes();
    out.extend(times.iter().flat_map(|n| n.to_ne_bytes()));
    out.extend(sizes.iter().flat_map(|n| n.to_ne_bytes()));
    let pid_ns = t.group().pid_ns();
    out.extend(pids.iter().flat_map(|pid| pid_ns.local(*pid).to_ne_bytes()));
    out.extend_from_slice(&[0; 16]);
    out
}

/// `struct msginfo`.
fn information(t: &CurrentTask, buf: UserAddr, usage: bool) -> SysResult {
    let (all, highest) = t.namespaces().ipc.msg.all();
    let namespaces = t.namespaces();
    let limits = &namespaces.ipc.limits;
    let [mni, mnb, max] =
        [&limits.msgmni, &limits.msgmnb, &limits.msgmax].map(|n| Limits::count(n) as i32);
    let (pool, map, total) = match usage {
        true => {
            let sizes = || all.iter().map(|(_, queue)| queue.describe().sizes);
            let messages: u64 = sizes().map(|[_, messages, _]| messages).sum();
            let bytes: u64 = sizes().map(|[bytes, ..]| bytes).sum();
            (all.len() as i32, messages as i32, bytes as i32)
        }
        false => (mni.saturating_mul(mnb / 1024), mnb, mnb),
    };
    let fields = [pool, map, max, mnb, mni, 16, total, 0xffff];
    t.mm().write_obj(buf, &fields)?;
    Ok(highest as u64)
}

/// `msgctl(2)`.
pub fn msgctl(t: &mut CurrentTask, msqid: i32, cmd: i32, buf: UserAddr) -> SysResult {
    if msqid < 0 {
        return Err(Errno::EINVAL);
    }
    let namespaces = t.namespaces();
    let ns = &*namespaces.ipc;
    let may_read = |queue: &Queue| -> Result<()> { queue.permissions().check(ns, t.creds(), 4) };
    match cmd & !IPC_64 {
        IPC_INFO => information(t, buf, false),
        MSG_INFO => information(t, buf, true),
        IPC_STAT => {
            let queue = ns.msg.find(msqid)?;
            may_read(&queue)?;
            t.mm().write(buf, &description(t, &queue))?;
            Ok(0)
        }
        stat @ (MSG_STAT | MSG_STAT_ANY) => {
            let (id, queue) = ns.msg.at(msqid)?;
            if stat == MSG_STAT {
                may_read(&queue)?;
            }
            t.mm().write(buf, &description(t, &queue))?;
            Ok(id as u64)
        }
        IPC_RMID => msg::remove(ns, t.creds(), msqid).map(|()| 0),
        IPC_SET => {
            // The permissions fill the first six words, `msg_qbytes` is the twelfth.
            let [key_uid, gid_cuid, cgid_mode, _, _, _, _, _, _, _, _, bytes, ..]: [u64; 15] =
                t.mm().read_obj(buf)?;
            let owner = ((key_uid >> 32) as u32, gid_cuid as u32, (cgid_mode >> 32) as u32);
            let queue = ns.msg.find(msqid)?;
            queue.permissions().check_owner(ns, t.creds())?;
            queue.set(ns, t.creds(), owner, bytes)?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}
