//! `getsockopt(2)` and `setsockopt(2)`.

use super::socket_file;
use crate::errno::Errno;
use crate::kernel::CurrentTask;
use crate::mm::UserAddr;
use crate::socket::options::so;
use crate::socket::{self, SOL_SOCKET};
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
    let mut value = vec![0; len.min(MAX_VALUE)];
    t.mm().read(optval, &mut value)?;
    socket::of(&file)?.set_option(t, level, optname, &value)?;
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
    let value = socket::of(&file)?.get_option(t, level, optname)?.bytes();
    if level == SOL_SOCKET && optname == so::PEERGROUPS && room < value.len() {
        t.mm().write_obj(optlen, &(value.len() as u32))?;
        return Err(Errno::ERANGE);
    }
    let value = value.get(..room).unwrap_or(&value);
    t.mm().write(optval, value)?;
    t.mm().write_obj(optlen, &(value.len() as u32))?;
    Ok(0)
}
