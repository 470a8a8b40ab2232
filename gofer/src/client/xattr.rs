//! Extended attributes: `user.…` can be read and written, `security.capability` can be read.
//! Everything else is refused with `EOPNOTSUPP`. Regular files and directories only, as on Linux.

use nix::errno::Errno;

use super::{Client, Path, Result, bounded};
use crate::protocol::{Bytes, MAX_XATTR_NAME, MAX_XATTR_VALUE, NodeId, Request, XattrFlags};

impl Client {
    /// Value of the attribute `name`; `ENODATA` if the file has none of that name.
    pub fn getxattr(&self, dir: NodeId, names: &[&[u8]], name: &[u8]) -> Result<Vec<u8>> {
        let path = Path::new(dir, names)?;
        self.bytes(Request::GetXattr { at: path.at(), name: attribute(name)? })
    }

    /// Names of the attributes that can be read, each ended by a zero byte.
    pub fn listxattr(&self, dir: NodeId, names: &[&[u8]]) -> Result<Vec<u8>> {
        let path = Path::new(dir, names)?;
        self.bytes(Request::ListXattr { at: path.at() })
    }

    /// Sets the attribute `name`.
    pub fn setxattr(
        &self,
        dir: NodeId,
        names: &[&[u8]],
        name: &[u8],
        value: &[u8],
        flags: XattrFlags,
    ) -> Result<()> {
        let path = Path::new(dir, names)?;
        let name = attribute(name)?;
        let value = bounded(value, MAX_XATTR_VALUE, Errno::E2BIG)?;
        self.done(Request::SetXattr { at: path.at(), name, value, flags })
    }

    /// Removes the attribute `name`.
    pub fn removexattr(&self, dir: NodeId, names: &[&[u8]], name: &[u8]) -> Result<()> {
        let path = Path::new(dir, names)?;
        self.done(Request::RemoveXattr { at: path.at(), name: attribute(name)? })
    }
}

fn attribute(name: &[u8]) -> Result<Bytes<'_>> {
    bounded(name, MAX_XATTR_NAME, Errno::ERANGE)
}
