//! `landlock_create_ruleset(2)`, `landlock_add_rule(2)`, `landlock_restrict_self(2)`, and what modules of
//! security there are (`lsm_list_modules(2)`).

use super::file::install;
use crate::errno::{Errno, Result};
use crate::kernel::CurrentTask;
use crate::kernel::landlock::{ABI_VERSION, Domain, Handled, Ruleset};
use crate::mm::{PAGE_SIZE, UserAddr};
use crate::syscalls::SysResult;
use crate::syscalls::arg::Fd;
use crate::vfs::permission::CAP_SYS_ADMIN;
use crate::vfs::{File, OpenFlags, Path};
use std::sync::Arc;

/// `LANDLOCK_CREATE_RULESET_VERSION`
const VERSION: u32 = 1;

/// Reads the words of a structure of `size` bytes, of which only the first must be there: what is missing is
/// zero, and so must be what is unknown. `EFAULT`, `EINVAL`, `E2BIG`.
fn words<const N: usize>(t: &CurrentTask, at: UserAddr, size: u64) -> Result<[u64; N]> {
    if at.is_null() {
        return Err(Errno::EFAULT);
    }
    if size < 8 {
        return Err(Errno::EINVAL);
    }
    if size > PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    let mut bytes = vec![0; size as usize];
    t.mm().read(at, &mut bytes)?;
    let known = bytes.len().min(N * 8);
    let (bytes, rest) = bytes.split_at(known);
    if rest.iter().any(|b| *b != 0) {
        return Err(Errno::E2BIG);
    }
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks(8)) {
        let mut whole = [0; 8];
        whole.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        *word = u64::from_le_bytes(whole);
    }
    Ok(words)
}

/// `landlock_create_ruleset(2)`.
pub fn landlock_create_ruleset(
    t: &mut CurrentTask,
    attr: UserAddr,
    size: u64,
    flags: u32,
) -> SysResult {
    if flags != 0 {
        let asks = flags == VERSION && attr.is_null() && size == 0;
        return if asks { Ok(ABI_VERSION) } else { Err(Errno::EINVAL) };
    }
    let [fs, net, scope] = words(t, attr, size)?;
    let ruleset = Ruleset::new(Handled::new(fs, net, scope)?);
    let file = File::new(Arc::new(ruleset), None, OpenFlags::RDWR);
    install(t, file, true)
}

/// The file of a rule set. `EBADF`, `EBADFD` for another file.
fn ruleset_file(t: &CurrentTask, fd: Fd) -> Result<Arc<File>> {
    let file = t.file(fd.0)?;
    if file.ops_as::<Ruleset>().is_some() { Ok(file) } else { Err(Errno::EBADFD) }
}

/// What a rule is about. `EBADF`, `EBADFD` for what is in no tree.
fn object(t: &CurrentTask, fd: i32) -> Result<Path> {
    let file = t.files().get_raw(fd)?;
    match file.path() {
        Some(path) if !path.mount.is_internal() => Ok(path.clone()),
        _ => Err(Errno::EBADFD),
    }
}

/// `landlock_add_rule(2)`.
pub fn landlock_add_rule(
    t: &mut CurrentTask,
    ruleset_fd: Fd,
    rule_type: u32,
    rule_attr: UserAddr,
    flags: u32,
) -> SysResult {
    const PATH_BENEATH: u32 = 1;
    const NET_PORT: u32 = 2;
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let file = ruleset_file(t, ruleset_fd)?;
    let ruleset: &Ruleset = file.ops_as().ok_or(Errno::EBADFD)?;
    match rule_type {
        PATH_BENEATH => {
            // A packed structure: the rights, and a descriptor behind them.
            let bytes: [u8; 12] = t.mm().read_obj(rule_attr)?;
            let (allowed, fd) = bytes.split_first_chunk().ok_or(Errno::EFAULT)?;
            let allowed = ruleset.check_path_rights(u64::from_le_bytes(*allowed))?;
            let fd = fd.first_chunk().map(|fd| i32::from_le_bytes(*fd)).ok_or(Errno::EFAULT)?;
            ruleset.allow_path(&object(t, fd)?, allowed)?;
        }
        NET_PORT => {
            let [allowed, port]: [u64; 2] = t.mm().read_obj(rule_attr)?;
            ruleset.allow_port(port, allowed)?;
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// `landlock_restrict_self(2)`.
pub fn landlock_restrict_self(t: &mut CurrentTask, ruleset_fd: Fd, flags: u32) -> SysResult {
    if !super::process::bound(t) && !t.creds().has_own(CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let file = ruleset_file(t, ruleset_fd)?;
    let ruleset: &Ruleset = file.ops_as().ok_or(Errno::EBADFD)?;
    let domain = Domain::stack(t.creds().landlock.as_deref(), ruleset)?;
    let mut creds = (**t.creds()).clone();
    creds.landlock = Some(Arc::new(domain));
    t.set_creds(creds);
    Ok(0)
}

/// `LSM_ID_CAPABILITY` and `LSM_ID_LANDLOCK`.
const MODULES: [u64; 2] = [100, 110];

/// `lsm_list_modules(2)`.
pub fn lsm_list_modules(
    t: &mut CurrentTask,
    ids: UserAddr,
    size: UserAddr,
    flags: u32,
) -> SysResult {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let room: u32 = t.mm().read_obj(size)?;
    let needed = size_of_val(&MODULES) as u32;
    t.mm().write_obj(size, &needed)?;
    if room < needed {
        return Err(Errno::E2BIG);
    }
    t.mm().write_obj(ids, &MODULES)?;
    Ok(MODULES.len() as u64)
}

/// Size of a `struct lsm_ctx` without its text.
const LSM_CTX_SIZE: u32 = 32;

/// `lsm_get_self_attr(2)`: no module here has attributes.
pub fn lsm_get_self_attr(
    t: &mut CurrentTask,
    attr: u32,
    ctx: UserAddr,
    size: UserAddr,
    flags: u32,
) -> SysResult {
    /// `LSM_FLAG_SINGLE`
    const SINGLE: u32 = 1;
    if attr == 0 || size.is_null() {
        return Err(Errno::EINVAL);
    }
    let _room: u32 = t.mm().read_obj(size)?;
    if flags != 0 {
        if flags != SINGLE || ctx.is_null() {
            return Err(Errno::EINVAL);
        }
        let [id, ..]: [u64; 4] = t.mm().read_obj(ctx)?;
        if id == 0 {
            return Err(Errno::EINVAL);
        }
    }
    t.mm().write_obj(size, &0u32)?;
    Err(Errno::EOPNOTSUPP)
}

/// `lsm_set_self_attr(2)`: no module here has attributes.
pub fn lsm_set_self_attr(
    t: &mut CurrentTask,
    _attr: u32,
    ctx: UserAddr,
    size: u32,
    flags: u32,
) -> SysResult {
    if flags != 0 || size < LSM_CTX_SIZE {
        return Err(Errno::EINVAL);
    }
    if u64::from(size) > PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    let mut bytes = vec![0; size as usize];
    t.mm().read(ctx, &mut bytes)?;
    let [_, _, len, text]: [u64; 4] = t.mm().read_obj(ctx)?;
    let needed = text.checked_add(u64::from(LSM_CTX_SIZE));
    if u64::from(size) < len || needed.is_none_or(|needed| len < needed) {
        return Err(Errno::EINVAL);
    }
    Err(Errno::EOPNOTSUPP)
}
