//! Keys (`add_key(2)`, `request_key(2)`, `keyctl(2)`).

use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::kernel::keys::{Keys, Kind, perm};
use crate::mm::UserAddr;
use crate::syscalls::SysResult;

/// Longest name of a type, with the NUL.
const TYPE_MAX: usize = 32;
/// Longest description, with the NUL.
const DESCRIPTION_MAX: usize = 4096;
/// Largest payload that is looked at, in bytes.
const PAYLOAD_MAX: u64 = 1024 * 1024 - 1;

/// A string of less than `max` bytes; `EINVAL` for a longer one.
fn string(t: &CurrentTask, at: UserAddr, max: usize) -> Result<Vec<u8>> {
    let text = t.mm().read_cstr(at, max).map_err(|e| match e {
        Errno::EFAULT => Errno::EFAULT,
        _ => Errno::EINVAL,
    })?;
    if text.len() < max { Ok(text) } else { Err(Errno::EINVAL) }
}

fn type_name(t: &CurrentTask, at: UserAddr) -> Result<Vec<u8>> {
    let name = string(t, at, TYPE_MAX)?;
    match name.first() {
        None => Err(Errno::EINVAL),
        // The kernel's own.
        Some(b'.') => Err(Errno::EPERM),
        Some(_) => Ok(name),
    }
}

fn payload(t: &CurrentTask, at: UserAddr, len: u64, max: u64) -> Result<Vec<u8>> {
    if len > max {
        return Err(Errno::EINVAL);
    }
    let mut bytes = vec![0; len as usize];
    t.mm().read(at, &mut bytes)?;
    Ok(bytes)
}

/// Runs `work` with the table of keys.
fn with_keys<T>(
    t: &mut CurrentTask,
    work: impl FnOnce(&mut CurrentTask, &mut Keys) -> Result<T>,
) -> Result<T> {
    let kernel = t.kernel().clone();
    let mut keys = kernel.keys.lock();
    work(t, &mut keys)
}

/// `add_key(2)`
pub fn add_key(
    t: &mut CurrentTask,
    kind: UserAddr,
    description: UserAddr,
    data: UserAddr,
    len: u64,
    ring: i32,
) -> SysResult {
    if len > PAYLOAD_MAX {
        return Err(Errno::EINVAL);
    }
    let kind = type_name(t, kind)?;
    let mut described = Vec::new();
    if !description.is_null() {
        described = string(t, description, DESCRIPTION_MAX)?;
        if described.first() == Some(&b'.') && kind.starts_with(b"keyring") {
            return Err(Errno::EPERM);
        }
    }
    let data = payload(t, data, len, PAYLOAD_MAX)?;
    with_keys(t, |t, keys| {
        let ring = keys.lookup(t, ring, (true, false), perm::WRITE)?;
        let kind = Kind::named(&kind).ok_or(Errno::ENODEV)?;
        Ok(keys.add(t, ring, (kind, &described), &data)? as u64)
    })
}

/// `request_key(2)`
pub fn request_key(
    t: &mut CurrentTask,
    kind: UserAddr,
    description: UserAddr,
    callout: UserAddr,
    destination: i32,
) -> SysResult {
    let kind = type_name(t, kind)?;
    let description = string(t, description, DESCRIPTION_MAX)?;
    if !callout.is_null() {
        string(t, callout, DESCRIPTION_MAX)?;
    }
    with_keys(t, |t, keys| {
        let destination = match destination {
            0 => None,
            id => Some(keys.lookup(t, id, (true, false), perm::WRITE)?),
        };
        let kind = Kind::named(&kind).ok_or(Errno::ENOKEY)?;
        let make = !callout.is_null();
        Ok(keys.request(t, (kind, &description), make, destination)? as u64)
    })
}

/// Copies a result out as far as there is room; gives its whole length.
fn put(t: &CurrentTask, bytes: &[u8], at: UserAddr, len: u64) -> SysResult {
    if !at.is_null() && len > 0 {
        let n = bytes.len().min(usize::try_from(len).unwrap_or(usize::MAX));
        t.mm().write(at, bytes.get(..n).unwrap_or(bytes))?;
    }
    Ok(bytes.len() as u64)
}

/// `keyctl(2)`
pub fn keyctl(
    t: &mut CurrentTask,
    operation: i32,
    arg2: u64,
    arg3: u64,
    arg4: u64,
    arg5: u64,
) -> SysResult {
    const NO: (bool, bool) = (false, false);
    const CREATE: (bool, bool) = (true, false);
    const PARTIAL: (bool, bool) = (false, true);
    const CREATE_PARTIAL: (bool, bool) = (true, true);
    let id = arg2 as i32;
    match operation {
        // GET_KEYRING_ID
        0 => with_keys(t, |t, keys| {
            Ok(keys.lookup(t, id, (arg3 != 0, false), perm::SEARCH)?.serial as u64)
        }),
        // JOIN_SESSION_KEYRING
        1 => {
            let name = match arg2 {
                0 => None,
                at => Some(string(t, UserAddr(at), DESCRIPTION_MAX)?),
            };
            match name.as_ref().map(|name| name.first()) {
                Some(Some(b'.')) => return Err(Errno::EPERM),
                Some(None) => return Err(Errno::EINVAL),
                _ => {}
            }
            with_keys(t, |t, keys| Ok(keys.join_session(t, name.as_deref())? as u64))
        }
        // UPDATE
        2 => {
            let data = payload(t, UserAddr(arg3), arg4, crate::mm::PAGE_SIZE)?;
            with_keys(t, |t, keys| {
                let key = keys.lookup(t, id, NO, perm::WRITE)?;
                keys.update(key, &data).map(|()| 0)
            })
        }
        // REVOKE
        3 => with_keys(t, |t, keys| {
            let key = match keys.lookup(t, id, NO, perm::WRITE) {
                Err(Errno::EACCES) => keys.lookup(t, id, NO, perm::SETATTR),
                other => other,
            }?;
            keys.revoke(key).map(|()| 0)
        }),
        // CHOWN
        4 => {
            let (uid, gid) = (arg3 as u32, arg4 as u32);
            let ns = t.creds().user_ns.clone();
            let uid = match uid {
                u32::MAX => None,
                uid => Some(ns.uid_to_kernel(uid).ok_or(Errno::EINVAL)?),
            };
            let gid = match gid {
                u32::MAX => None,
                gid => Some(ns.gid_to_kernel(gid).ok_or(Errno::EINVAL)?),
            };
            if uid.is_none() && gid.is_none() {
                return Ok(0);
            }
            with_keys(t, |t, keys| {
                let key = keys.lookup(t, id, CREATE_PARTIAL, perm::SETATTR)?;
                keys.chown(t, key, uid, gid).map(|()| 0)
            })
        }
        // SETPERM
        5 => {
            let wanted = arg3 as u32;
            if wanted & !perm::MASK != 0 {
                return Err(Errno::EINVAL);
            }
            with_keys(t, |t, keys| {
                let key = keys.lookup(t, id, CREATE_PARTIAL, perm::SETATTR)?;
                keys.set_perm(t, key, wanted).map(|()| 0)
            })
        }
        // DESCRIBE
        6 => {
            let mut text = with_keys(t, |t, keys| {
                let key = keys.lookup(t, id, PARTIAL, perm::VIEW)?;
                keys.describe(t, key)
            })?;
            text.push(0);
            // All or nothing.
            let room = if arg4 >= text.len() as u64 { arg4 } else { 0 };
            put(t, &text, UserAddr(arg3), room)
        }
        // CLEAR
        7 => with_keys(t, |t, keys| {
            let ring = keys.lookup(t, id, CREATE, perm::WRITE)?;
            keys.clear_ring(ring).map(|()| 0)
        }),
        // LINK
        8 => with_keys(t, |t, keys| {
            let ring = keys.lookup(t, arg3 as i32, CREATE, perm::WRITE)?;
            let key = keys.lookup(t, id, CREATE, perm::LINK)?;
            keys.link_key(t, key, ring).map(|()| 0)
        }),
        // UNLINK
        9 => with_keys(t, |t, keys| {
            let ring = keys.lookup(t, arg3 as i32, NO, perm::WRITE)?;
            let key = keys.lookup(t, id, PARTIAL, 0)?;
            keys.unlink_key(key, ring).map(|()| 0)
        }),
        // SEARCH
        10 => {
            let kind = type_name(t, UserAddr(arg3))?;
            let description = string(t, UserAddr(arg4), DESCRIPTION_MAX)?;
            with_keys(t, |t, keys| {
                let ring = keys.lookup(t, id, NO, perm::SEARCH)?;
                let destination = match arg5 as i32 {
                    0 => None,
                    id => Some(keys.lookup(t, id, CREATE, perm::WRITE)?),
                };
                let kind = Kind::named(&kind).ok_or(Errno::ENOKEY)?;
                Ok(keys.search_ring(t, ring, (kind, &description), destination)? as u64)
            })
        }
        // READ
        11 => {
            let bytes = with_keys(t, |t, keys| keys.read(t, id))?;
            put(t, &bytes, UserAddr(arg3), arg4)
        }
        // INSTANTIATE, NEGATE, REJECT, INSTANTIATE_IOV: for programs that make keys for others.
        12 | 13 | 19 | 20 => Err(Errno::EPERM),
        14 => set_destination(t, id),
        // SET_TIMEOUT
        15 => with_keys(t, |t, keys| {
            let key = keys.lookup(t, id, CREATE_PARTIAL, perm::SETATTR)?;
            keys.set_timeout(t, key, arg3 as u32).map(|()| 0)
        }),
        // ASSUME_AUTHORITY
        16 => match id {
            0 => Ok(0),
            id if id < 0 => Err(Errno::EINVAL),
            _ => Err(Errno::ENOKEY),
        },
        // GET_SECURITY: there is no label.
        17 => {
            with_keys(t, |t, keys| keys.lookup(t, id, PARTIAL, perm::VIEW))?;
            put(t, &[0], UserAddr(arg3), arg4)
        }
        // SESSION_TO_PARENT
        18 => Err(Errno::EPERM),
        // INVALIDATE
        21 => with_keys(t, |t, keys| {
            let key = keys.lookup(t, id, NO, perm::SEARCH)?;
            keys.invalidate(key).map(|()| 0)
        }),
        // RESTRICT_KEYRING
        29 => {
            if arg3 != 0 {
                type_name(t, UserAddr(arg3))?;
                return Err(Errno::ENOENT);
            }
            if arg4 != 0 {
                return Err(Errno::EINVAL);
            }
            with_keys(t, |t, keys| {
                let ring = keys.lookup(t, id, NO, perm::SETATTR)?;
                keys.restrict(ring).map(|()| 0)
            })
        }
        // MOVE
        30 => {
            if arg5 & !1 != 0 {
                return Err(Errno::EINVAL);
            }
            with_keys(t, |t, keys| {
                let key = keys.lookup(t, id, CREATE, perm::LINK)?;
                let from = keys.lookup(t, arg3 as i32, NO, perm::WRITE)?;
                let to = keys.lookup(t, arg4 as i32, CREATE, perm::WRITE)?;
                keys.move_key(t, key, (from, to), arg5 != 0).map(|()| 0)
            })
        }
        // CAPABILITIES: these, invalidation, restriction, moving.
        31 => put(t, &[0x01 | 0x20 | 0x40 | 0x80, 0], UserAddr(arg2), arg3),
        // Persistent keyrings, public keys, Diffie-Hellman and watches are configured out.
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// `KEYCTL_SET_REQKEY_KEYRING`: where `request_key(2)` puts keys; gives what it was.
fn set_destination(t: &mut CurrentTask, to: i32) -> SysResult {
    let old = t.creds().keyrings.destination;
    match to {
        -1 => return Ok(old as u64),
        1 | 2 => {
            with_keys(t, |t, keys| keys.lookup(t, -to, (true, false), 0))?;
        }
        0 | 3 | 4 | 5 => {}
        _ => return Err(Errno::EINVAL),
    }
    let mut creds = (**t.creds()).clone();
    creds.keyrings.destination = to;
    t.set_creds(creds);
    Ok(old as u64)
}
