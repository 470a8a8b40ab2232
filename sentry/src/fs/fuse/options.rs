//! Mount options (`mount.fuse(8)`, the kernel's part).

use crate::errno::{Errno, Result};
use crate::kernel::namespace::UserNamespace;
use crate::vfs::FileType;
use std::fmt;
use std::sync::Arc;

/// What a file system is mounted with.
pub struct Options {
    /// Descriptor of `/dev/fuse`.
    pub fd: i32,
    /// Mode of the root directory, with its type.
    pub root_mode: u32,
    /// Whose it is, an id of the root user namespace.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// User namespace of whoever mounted it.
    pub owner: Arc<UserNamespace>,
    /// The kernel checks permissions, by what the daemon says of owner and mode.
    pub default_permissions: bool,
    /// Others than the owner may use it.
    pub allow_other: bool,
    /// Most bytes of a read.
    pub max_read: u32,
}

impl Options {
    /// Parses the option string of `mount(2)`. `EINVAL` for an unknown option, or if one of the four is
    /// missing that must be there.
    pub fn parse(text: &[u8], owner: &Arc<UserNamespace>) -> Result<Self> {
        let (mut fd, mut root_mode, mut uid, mut gid) = (None, None, None, None);
        let (mut default_permissions, mut allow_other, mut max_read) = (false, false, u32::MAX);
        let text = std::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
        for option in text.split(',').filter(|o| !o.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            let number = || value.parse::<u32>().map_err(|_| Errno::EINVAL);
            match key {
                "fd" => fd = Some(number()?),
                "rootmode" => {
                    let mode = u32::from_str_radix(value, 8).map_err(|_| Errno::EINVAL)?;
                    FileType::from_mode(mode).ok_or(Errno::EINVAL)?;
                    root_mode = Some(mode);
                }
                "user_id" => uid = Some(owner.uid_to_kernel(number()?).ok_or(Errno::EINVAL)?),
                "group_id" => gid = Some(owner.gid_to_kernel(number()?).ok_or(Errno::EINVAL)?),
                "default_permissions" => default_permissions = true,
                "allow_other" => allow_other = true,
                "max_read" => max_read = number()?,
                _ => return Err(Errno::EINVAL),
            }
        }
        let fd = fd.and_then(|fd| i32::try_from(fd).ok()).ok_or(Errno::EINVAL)?;
        let root_mode = root_mode.ok_or(Errno::EINVAL)?;
        let (uid, gid) = (uid.ok_or(Errno::EINVAL)?, gid.ok_or(Errno::EINVAL)?);
        let owner = owner.clone();
        Ok(Self { fd, root_mode, uid, gid, owner, default_permissions, allow_other, max_read })
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user_id={},group_id={}", self.uid, self.gid)?;
        if self.default_permissions {
            f.write_str(",default_permissions")?;
        }
        if self.allow_other {
            f.write_str(",allow_other")?;
        }
        if self.max_read != u32::MAX {
            write!(f, ",max_read={}", self.max_read)?;
        }
        Ok(())
    }
}
