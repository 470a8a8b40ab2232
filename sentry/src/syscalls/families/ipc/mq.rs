//! POSIX message queues (`mq_overview(7)`).

use super::install;
use crate::errno::{Errno, Result};
use crate::fs::mqueue::{
    COOKIE_LEN, How, PRIO_MAX, QueueFile, QueueInode, Received, Registration, Sent,
};
use crate::kernel::ipc::msg::Message;
use crate::kernel::{CurrentTask, Signal, Wake};
use crate::mm::UserAddr;
use crate::socket::{self, netlink};
use crate::syscalls::SysResult;
use crate::syscalls::arg::{Fd, Flags, Mode, PathPtr};
use crate::time::{ClockId, Timespec};
use crate::vfs::permission::{self, Access};
use crate::vfs::walk::WalkContext;
use crate::vfs::{File, FileType, Inode, OpenFlags, namei, open};
use crate::wait::Waker;
use std::sync::Arc;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct mq_attr`
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct MqAttr {
    flags: i64,
    maxmsg: i64,
    msgsize: i64,
    curmsgs: i64,
    reserved: [i64; 4],
}

/// The name of a queue: one component. `ENOENT`, `EACCES`, `ENAMETOOLONG`.
fn name(t: &CurrentTask, name: PathPtr) -> Result<Vec<u8>> {
    let name = name.read(t.mm())?;
    match name.as_slice() {
        b"" => Err(Errno::ENOENT),
        b"." | b".." => Err(Errno::EACCES),
        name if name.contains(&b'/') => Err(Errno::EACCES),
        name if name.len() > 255 => Err(Errno::ENAMETOOLONG),
        _ => Ok(name),
    }
}

/// `mq_open(2)`.
pub fn mq_open(
    t: &mut CurrentTask,
    u_name: PathPtr,
    oflag: Flags,
    mode: Mode,
    u_attr: UserAddr,
) -> SysResult {
    let wanted = match u_attr.is_null() {
        true => None,
        false => Some(t.mm().read_obj::<MqAttr>(u_attr)?),
    };
    let name = name(t, u_name)?;
    let flags = OpenFlags::from_bits_truncate(oflag.0) - OpenFlags::PATH;
    let namespaces = t.namespaces();
    let mqueue = &namespaces.ipc.mqueue;
    let dir = mqueue.mount().root_path();
    let ctx = WalkContext::of(t);
    let mode = FileType::Regular as u32 | mode.0 & 0o7777;
    let make = |mode, owner| -> Result<Arc<dyn Inode>> {
        let size = wanted.map(|attr| (attr.maxmsg, attr.msgsize));
        Ok(mqueue.root().create_queue(t, &name, mode, owner, size)?)
    };
    let (dentry, new) = match flags.contains(OpenFlags::CREAT) {
        true => open::create_with(&ctx, &dir, &name, mode, make)?,
        false => (dir.dentry.lookup(&name, b"")?, false),
    };
    if !new {
        if flags.contains(OpenFlags::CREAT | OpenFlags::EXCL) {
            return Err(Errno::EEXIST);
        }
        let want = match (flags & (OpenFlags::WRONLY | OpenFlags::RDWR)).bits() {
            0 => Access::READ,
            1 => Access::WRITE,
            2 => Access::READ | Access::WRITE,
            _ => return Err(Errno::EINVAL),
        };
        permission::check(&**dentry.inode(), t.creds(), want)?;
    }
    let path = crate::vfs::Path { mount: dir.mount, dentry };
    let ops = path.inode().clone().open(&path, flags)?;
    install(t, File::new(ops, Some(path), flags), true)
}

/// `mq_unlink(2)`.
pub fn mq_unlink(t: &mut CurrentTask, u_name: PathPtr) -> SysResult {
    let name = name(t, u_name)?;
    let namespaces = t.namespaces();
    let dir = namespaces.ipc.mqueue.mount().root_path();
    namei::unlink(&WalkContext::of(t), dir, &name)?;
    Ok(0)
}

/// The queue behind a descriptor. `EBADF` if it is none.
fn queue_of(file: &File) -> Result<&Arc<QueueInode>> {
    file.ops_as::<QueueFile>().map(QueueFile::inode).ok_or(Errno::EBADF)
}

/// The time in memory until which a call may wait, in nanoseconds of `CLOCK_MONOTONIC`. `EINVAL`.
fn deadline(t: &CurrentTask, at: UserAddr) -> Result<Option<u64>> {
    if at.is_null() {
        return Ok(None);
    }
    let nanos = t.mm().read_obj::<Timespec>(at)?.to_nanos()?;
    t.kernel().time.monotonic_deadline(ClockId::Realtime, nanos).map(Some)
}

fn waker(t: &CurrentTask, file: &File) -> Option<Arc<dyn Waker>> {
    (!file.nonblocking()).then(|| t.waker())
}

/// Sleeps until `done` gives something. `ETIMEDOUT`, `ERESTARTSYS`.
fn sleep<T>(
    t: &mut CurrentTask,
    deadline: Option<u64>,
    mut done: impl FnMut() -> Option<T>,
) -> Result<T> {
    loop {
        if let Some(result) = done() {
            return Ok(result);
        }
        match t.block(deadline) {
            Wake::Event => {}
            Wake::Timeout => return Err(Errno::ETIMEDOUT),
            Wake::Interrupted => return Err(Errno::ERESTARTSYS),
        }
    }
}

/// `mq_timedsend(2)`.
pub fn mq_timedsend(
    t: &mut CurrentTask,
    mqdes: Fd,
    msg_ptr: UserAddr,
    msg_len: u64,
    msg_prio: u32,
    abs_timeout: UserAddr,
) -> SysResult {
    let deadline = deadline(t, abs_timeout)?;
    if msg_prio >= PRIO_MAX {
        return Err(Errno::EINVAL);
    }
    let file = t.file(mqdes.0)?;
    let inode = queue_of(&file)?;
    if !file.flags().writable() {
        return Err(Errno::EBADF);
    }
    let queue = &inode.queue;
    if msg_len > queue.size.bytes {
        return Err(Errno::EMSGSIZE);
    }
    let mut text = vec![0; msg_len as usize];
    t.mm().read(msg_ptr, &mut text)?;
    let message = Message::new(msg_prio.into(), text)?;
    if let Sent::Waits(sleeper) = queue.send(t, message, waker(t, &file))? {
        let slept = sleep(t, deadline, || queue.is_sent(&sleeper).then_some(()));
        queue.give_up(&sleeper);
        if !queue.is_sent(&sleeper) {
            slept?;
        }
    }
    inode.touch(true);
    Ok(0)
}

/// `mq_timedreceive(2)`.
pub fn mq_timedreceive(
    t: &mut CurrentTask,
    mqdes: Fd,
    msg_ptr: UserAddr,
    msg_len: u64,
    msg_prio: UserAddr,
    abs_timeout: UserAddr,
) -> SysResult {
    let deadline = deadline(t, abs_timeout)?;
    let file = t.file(mqdes.0)?;
    let inode = queue_of(&file)?;
    if !file.flags().readable() {
        return Err(Errno::EBADF);
    }
    let queue = &inode.queue;
    if msg_len < queue.size.bytes {
        return Err(Errno::EMSGSIZE);
    }
    let message = match queue.receive(waker(t, &file))? {
        Received::Message(message) => message,
        Received::Waits(sleeper) => {
            let slept = sleep(t, deadline, || queue.handed(&sleeper));
            queue.give_up(&sleeper);
            match (slept, queue.handed(&sleeper)) {
                (Ok(message), _) | (Err(_), Some(message)) => message,
                (Err(e), None) => return Err(e),
            }
        }
    };
    inode.touch(true);
    if !msg_prio.is_null() {
        t.mm().write_obj(msg_prio, &(message.kind as u32))?;
    }
    t.mm().write(msg_ptr, &message.text)?;
    Ok(message.text.len() as u64)
}

const SIGEV_SIGNAL: i32 = 0;
const SIGEV_NONE: i32 = 1;
const SIGEV_THREAD: i32 = 2;

/// How `struct sigevent` wants the process to be told.
fn how(t: &CurrentTask, event: UserAddr) -> Result<How> {
    let [value, rest]: [u64; 2] = t.mm().read_obj(event)?;
    let (number, notify) = (rest as i32, (rest >> 32) as i32);
    match notify {
        SIGEV_NONE => Ok(How::Nothing),
        SIGEV_SIGNAL if number == 0 => Ok(How::Signal(None, value)),
        SIGEV_SIGNAL => Ok(How::Signal(Some(Signal::new(number).ok_or(Errno::EINVAL)?), value)),
        SIGEV_THREAD => {
            let cookie: [u8; COOKIE_LEN] = t.mm().read_obj(UserAddr(value))?;
            let file = t.file(number)?;
            let socket = socket::of(&file)?;
            if socket.family() != netlink::AF_NETLINK {
                return Err(Errno::EINVAL);
            }
            Ok(How::Thread(Arc::downgrade(socket), cookie))
        }
        _ => Err(Errno::EINVAL),
    }
}

/// `mq_notify(2)`.
pub fn mq_notify(t: &mut CurrentTask, mqdes: Fd, notification: UserAddr) -> SysResult {
    let how = match notification.is_null() {
        true => None,
        false => Some(how(t, notification)?),
    };
    let file = t.file(mqdes.0)?;
    let inode = queue_of(&file)?;
    match how {
        None => inode.queue.unregister(t.group()),
        Some(how) => inode.queue.register(Registration::new(t, how))?,
    }
    inode.touch(false);
    Ok(0)
}

/// `mq_getsetattr(2)`.
pub fn mq_getsetattr(
    t: &mut CurrentTask,
    mqdes: Fd,
    new_attr: UserAddr,
    old_attr: UserAddr,
) -> SysResult {
    let nonblock = i64::from(OpenFlags::NONBLOCK.bits());
    let new = match new_attr.is_null() {
        true => None,
        false => Some(t.mm().read_obj::<MqAttr>(new_attr)?.flags),
    };
    if new.is_some_and(|flags| flags & !nonblock != 0) {
        return Err(Errno::EINVAL);
    }
    let file = t.file(mqdes.0)?;
    let inode = queue_of(&file)?;
    let size = inode.queue.size;
    let old = MqAttr {
        flags: if file.nonblocking() { nonblock } else { 0 },
        maxmsg: size.messages as i64,
        msgsize: size.bytes as i64,
        curmsgs: inode.queue.count() as i64,
        reserved: [0; 4],
    };
    if let Some(flags) = new {
        file.set_flags(OpenFlags::NONBLOCK, OpenFlags::from_bits_truncate(flags as u32));
        inode.touch(false);
    }
    if !old_attr.is_null() {
        t.mm().write_obj(old_attr, &old)?;
    }
    Ok(0)
}
