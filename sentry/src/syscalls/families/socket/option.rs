//! `getsockopt(2)` and `setsockopt(2)`.

use super::socket_file;
use crate::errno::Errno;
use crate::kernel::CurrentTask;
use crate::mm::UserAddr;
use crate::socket::options::so;
use crate::socket::{self, SOL_SOCKET, xtables};
use crate::syscalls::SysResult;
use crate::syscalls::arg::Fd;

/// Longest option value that is looked at.
const MAX_VALUE: usize = 4096;

/// `setsockopt(2)`.
pub fn setsockopt(
    t: &mut CurrentTask,
    sockfd: Fd,
    level: i32,
    optname: i32,
    optval: UserAddr,
    optlen: i32,
) -> SysResult {
    let len = usize::try_from(optlen).map_err(|_| Errno::EINVAL)?;
    let file = socket_file(t, sockfd.0)?;
    let socket = socket::of(&file)?;
    if let Some(done) = xtables::setsockopt(t, &**socket, (level, optname), (optval, len)) {
        return done.map(|()| 0);
    }
    let mut value = vec![0; len.min(MAX_VALUE)];
    t.mm().read(optval, &mut value)?;
    socket.set_option(t, level, optname, &value)?;
    Ok(0)
}

/// `getsockopt(2)`.
pub fn getsockopt(
    t: &mut CurrentTask,
    sockfd: Fd,
    level: i32,
    optname: i32,
    optval: UserAddr,
    optlen: UserAddr,
) -> SysResult {
    let file = socket_file(t, sockfd.0)?;
    let room: i32 = t.mm().read_obj(optlen)?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    let socket = socket::of(&file)?;
    if let Some(found) = xtables::getsockopt(t, &**socket, (level, optname), (optval, room)) {
        let (value, result) = found?;
        t.mm().write(optval, &value)?;
        let len = if value.is_empty() { room } else { value.len() };
        t.mm().write_obj(optlen, &(len as u32))?;
        return Ok(result);
    }
    let mm = t.mm().clone();
    let mut given = || if room < 4 { Err(Errno::EINVAL) } else { mm.read_obj(optval) };
    let value = socket.answer_option(t, (level, optname), &mut given)?.bytes();
    if level == SOL_SOCKET && optname == so::PEERGROUPS && room < value.len() {
        t.mm().write_obj(optlen, &(value.len() as u32))?;
        return Err(Errno::ERANGE);
    }
    let value = value.get(..room).unwrap_or(&value);
    t.mm().write(optval, value)?;
    t.mm().write_obj(optlen, &(value.len() as u32))?;
    Ok(0)
}
