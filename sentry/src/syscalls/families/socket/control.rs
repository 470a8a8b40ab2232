//! Control messages (`cmsg(3)`): files and credentials that go with a message.

use crate::errno::{Errno, Result};
use crate::kernel::{CurrentTask, Rlimit};
use crate::mm::UserAddr;
use crate::socket::unix::rights::MAX_FILES;
use crate::socket::{Control, RecvMsg, Rights, SOL_SOCKET, SendMsg, Ucred, flags};

const SCM_RIGHTS: i32 = 1;
const SCM_CREDENTIALS: i32 = 2;
/// Size of `struct cmsghdr`.
const HEADER: usize = 16;
/// Most control data of one message (`net.core.optmem_max`).
const MAX_CONTROL: u64 = 131_072;

const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;
const CAP_SYS_ADMIN: u32 = 21;

fn word(bytes: &[u8], at: usize) -> Option<i32> {
    bytes.get(at..)?.first_chunk().map(|b| i32::from_ne_bytes(*b))
}

/// Reads the control data of a message that is to be sent. `inet`: by an Internet socket, with whose messages neither
/// files nor credentials travel, so that they are not looked at.
pub fn read(
    t: &CurrentTask,
    (addr, len): (UserAddr, u64),
    inet: bool,
    msg: &mut SendMsg,
) -> Result<()> {
    if len == 0 {
        return Ok(());
    }
    if len > MAX_CONTROL {
        return Err(Errno::ENOBUFS);
    }
    let mut control = vec![0; len as usize];
    t.mm().read(addr, &mut control)?;
    let mut rest = control.as_slice();
    let mut files = Vec::new();
    while let Some(header) = rest.first_chunk::<HEADER>() {
        let len = header.first_chunk().map_or(0, |b| u64::from_ne_bytes(*b));
        let (level, kind) = (word(header, 8), word(header, 12));
        let len = usize::try_from(len).ok().filter(|n| (HEADER..=rest.len()).contains(n));
        let len = len.ok_or(Errno::EINVAL)?;
        let data = rest.get(HEADER..len).unwrap_or_default();
        if level == Some(SOL_SOCKET) {
            match kind {
                Some(SCM_RIGHTS | SCM_CREDENTIALS) if inet => {}
                Some(SCM_RIGHTS) => {
                    for fd in data.chunks_exact(4) {
                        if files.len() >= MAX_FILES {
                            return Err(Errno::EINVAL);
                        }
                        files.push(t.files().get_raw(word(fd, 0).unwrap_or(-1))?);
                    }
                }
                Some(SCM_CREDENTIALS) => {
                    if data.len() != 12 {
                        return Err(Errno::EINVAL);
                    }
                    let field = |i| word(data, i).ok_or(Errno::EINVAL);
                    let creds =
                        Ucred { pid: field(0)?, uid: field(4)? as u32, gid: field(8)? as u32 };
                    let creds = creds.named_by(t).ok_or(Errno::EINVAL)?;
                    check_credentials(t, creds)?;
                    let kernel = t.kernel();
                    if kernel.task(creds.pid).is_none() && kernel.thread_group(creds.pid).is_none()
                    {
                        return Err(Errno::ESRCH);
                    }
                    msg.creds = Some(creds);
                    msg.explicit_creds = true;
                }
                _ => return Err(Errno::EINVAL),
            }
        } else if let (Some(level), Some(kind)) = (level, kind) {
            msg.control.push(Control { level, kind, data: data.to_vec() });
        }
        rest = rest.get(len.next_multiple_of(8)..).unwrap_or_default();
    }
    if !files.is_empty() {
        msg.rights = Some(Rights::new(t, files)?);
    }
    Ok(())
}

/// One may only claim to be oneself, or have the capability to become another. `EPERM`.
fn check_credentials(t: &CurrentTask, claim: Ucred) -> Result<()> {
    let c = t.creds();
    let pid = claim.pid == t.tgid() || c.has_in(t.group().pid_ns().user_ns(), CAP_SYS_ADMIN);
    let uid = [c.uid, c.euid, c.suid].contains(&claim.uid) || c.has_own(CAP_SETUID);
    let gid = [c.gid, c.egid, c.sgid].contains(&claim.gid) || c.has_own(CAP_SETGID);
    if pid && uid && gid { Ok(()) } else { Err(Errno::EPERM) }
}

/// Writes control messages to a buffer in guest memory.
struct Writer {
    addr: UserAddr,
    room: usize,
    used: usize,
}

impl Writer {
    /// Stores one message; if it does not fit it is cut off. False if it was.
    fn put(&mut self, t: &CurrentTask, level: i32, kind: i32, data: &[u8]) -> Result<bool> {
        let left = self.room - self.used;
        if left < HEADER {
            return Ok(false);
        }
        let whole = HEADER + data.len();
        let len = whole.min(left);
        let mut out = (len as u64).to_ne_bytes().to_vec();
        out.extend_from_slice(&level.to_ne_bytes());
        out.extend_from_slice(&kind.to_ne_bytes());
        out.extend_from_slice(data.get(..len - HEADER).unwrap_or_default());
        t.mm().write(self.addr.offset(self.used as u64), &out)?;
        self.used = (self.used + len.next_multiple_of(8)).min(self.room);
        Ok(len == whole)
    }
}

/// Stores the control data of a received message, and gives the task the files in it. Returns the
/// length used; sets `MSG_CTRUNC` if something did not fit.
pub fn write(t: &CurrentTask, addr: UserAddr, len: u64, msg: &mut RecvMsg) -> Result<u64> {
    let room = if addr.is_null() { 0 } else { len.min(MAX_CONTROL) as usize };
    let mut writer = Writer { addr, room, used: 0 };
    for c in std::mem::take(&mut msg.control) {
        if !writer.put(t, c.level, c.kind, &c.data)? {
            msg.out_flags |= flags::CTRUNC;
        }
    }
    if let Some(c) = msg.creds.map(|c| c.seen_by(t)) {
        let data = [c.pid.to_ne_bytes(), c.uid.to_ne_bytes(), c.gid.to_ne_bytes()].concat();
        if !writer.put(t, SOL_SOCKET, SCM_CREDENTIALS, &data)? {
            msg.out_flags |= flags::CTRUNC;
        }
    }
    if let Some(rights) = msg.rights.take() {
        let files = rights.into_files();
        let all = files.len();
        let fits = (writer.room - writer.used).saturating_sub(HEADER) / 4;
        let cloexec = msg.flags & flags::CMSG_CLOEXEC != 0;
        let limit = t.limit(Rlimit::Nofile).soft;
        let mut numbers = Vec::new();
        for file in files.into_iter().take(fits) {
            match t.files().insert(file, cloexec, 0, limit) {
                Ok(fd) => numbers.extend_from_slice(&fd.to_ne_bytes()),
                Err(_) => break,
            }
        }
        if numbers.len() / 4 < all {
            msg.out_flags |= flags::CTRUNC;
        }
        if !numbers.is_empty() {
            writer.put(t, SOL_SOCKET, SCM_RIGHTS, &numbers)?;
        }
    }
    Ok(writer.used as u64)
}
