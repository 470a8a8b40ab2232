//! Extended attributes: `user.…` can be read and written, `security.capability` can be read.
//! Everything else is refused with `EOPNOTSUPP`. Regular files and directories only, as on Linux.

use super::{Client, Path, Result};
use crate::protocol::{Bytes, NodeId, Request, XattrFlags};

impl Client {
    /// Value of the attribute `name`; `ENODATA` if the file has none of that name.
    pub fn getxattr(&self, dir: NodeId, names: &[&[u8]], name: &[u8]) -> Result<Vec<u8>> {
        let path = Path::new(dir, names)?;
        self.bytes(Request::GetXattr { at: path.at(), name: Bytes::borrowed(name) })
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
        let (name, value) = (Bytes::borrowed(name), Bytes::borrowed(value));
        self.done(Request::SetXattr { at: path.at(), name, value, flags })
    }

    /// Removes the attribute `name`.
    pub fn removexattr(&self, dir: NodeId, names: &[&[u8]], name: &[u8]) -> Result<()> {
        let path = Path::new(dir, names)?;
        self.done(Request::RemoveXattr { at: path.at(), name: Bytes::borrowed(name) })
    }
}
