//! Mount options of tmpfs (`tmpfs(5)`).

use crate::errno::{Errno, Result};
use crate::kernel::Credentials;
use crate::mm::PAGE_SIZE;
use std::fmt;

/// Size when none is given, in bytes: Linux takes half of the memory there is; a sandbox does not know
/// how much of it is meant for it.
const DEFAULT_SIZE: u64 = 8 << 30;
/// Inodes when no number is given. Each costs the sentry about half a KiB.
const DEFAULT_INODES: u64 = 1 << 20;

/// What a tmpfs is mounted with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TmpfsOptions {
    /// Most bytes in files.
    pub size: u64,
    /// Most inodes.
    pub inodes: u64,
    /// Permission bits of the root directory.
    pub mode: u32,
    /// Owner of the root directory.
    pub uid: u32,
    /// Group of the root directory.
    pub gid: u32,
}

impl Default for TmpfsOptions {
    fn default() -> Self {
        Self { size: DEFAULT_SIZE, inodes: DEFAULT_INODES, mode: 0o1777, uid: 0, gid: 0 }
    }
}

impl TmpfsOptions {
    /// As [`TmpfsOptions::parse`], for someone whose user namespace may have other ids: the root directory
    /// is theirs unless the options say otherwise.
    pub fn parse_for(text: &[u8], creds: &Credentials) -> Result<Self> {
        let mut options = Self { uid: u32::MAX, gid: u32::MAX, ..Self::default() };
        options.apply(text)?;
        options.uid = match options.uid {
            u32::MAX => creds.fsuid,
            uid => creds.user_ns.uid_to_kernel(uid).ok_or(Errno::EINVAL)?,
        };
        options.gid = match options.gid {
            u32::MAX => creds.fsgid,
            gid => creds.user_ns.gid_to_kernel(gid).ok_or(Errno::EINVAL)?,
        };
        Ok(options)
    }

    /// Parses `size=64m,mode=1777,…`. `EINVAL` for an option tmpfs does not know or a bad value.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let mut options = Self::default();
        options.apply(text)?;
        Ok(options)
    }

    fn apply(&mut self, text: &[u8]) -> Result<()> {
        let options = self;
        let text = std::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
        for option in text.split(',').filter(|o| !o.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            match key {
                // Zero means no limit; ours stays, for a guest must not take all of the host.
                "size" => options.size = nonzero(size(value)?, options.size),
                "nr_blocks" => {
                    let bytes = size(value)?.checked_mul(PAGE_SIZE).ok_or(Errno::EINVAL)?;
                    options.size = nonzero(bytes, options.size);
                }
                "nr_inodes" => {
                    options.inodes = nonzero(size(value)?, options.inodes).min(DEFAULT_INODES);
                }
                "mode" => {
                    let mode = u32::from_str_radix(value, 8).map_err(|_| Errno::EINVAL)?;
                    options.mode = mode & 0o7777;
                }
                "uid" => options.uid = value.parse().map_err(|_| Errno::EINVAL)?,
                "gid" => options.gid = value.parse().map_err(|_| Errno::EINVAL)?,
                // Where memory comes from, and how inode numbers look, is not the guest's to say.
                "huge" | "mpol" | "inode64" | "inode32" | "noswap" => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(())
    }
}

fn nonzero(value: u64, otherwise: u64) -> u64 {
    if value == 0 { otherwise } else { value }
}

/// A number with an optional suffix, in bytes. A percentage is one of the default size.
fn size(text: &str) -> Result<u64> {
    if let Some(percent) = text.strip_suffix('%') {
        let percent: u64 = percent.parse().map_err(|_| Errno::EINVAL)?;
        // Half of the memory is the default, so 50 % are it.
        return (DEFAULT_SIZE / 50).checked_mul(percent).ok_or(Errno::EINVAL);
    }
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (text.get(..text.len() - 1), 10),
        Some(b'm' | b'M') => (text.get(..text.len() - 1), 20),
        Some(b'g' | b'G') => (text.get(..text.len() - 1), 30),
        Some(b't' | b'T') => (text.get(..text.len() - 1), 40),
        _ => (Some(text), 0),
    };
    let n: u64 = digits.unwrap_or_default().parse().map_err(|_| Errno::EINVAL)?;
    n.checked_mul(1 << shift).ok_or(Errno::EINVAL)
}

impl fmt::Display for TmpfsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let default = Self::default();
        let mut separator = "";
        let mut item = |f: &mut fmt::Formatter<'_>, text: fmt::Arguments<'_>| {
            let result = write!(f, "{separator}{text}");
            separator = ",";
            result
        };
        if self.size != default.size {
            item(f, format_args!("size={}k", self.size >> 10))?;
        }
        if self.inodes != default.inodes {
            item(f, format_args!("nr_inodes={}", self.inodes))?;
        }
        if self.mode != default.mode {
            item(f, format_args!("mode={:o}", self.mode))?;
        }
        if self.uid != 0 {
            item(f, format_args!("uid={}", self.uid))?;
        }
        if self.gid != 0 {
            item(f, format_args!("gid={}", self.gid))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses() {
        let options = TmpfsOptions::parse(b"size=64m,mode=755,nr_inodes=10k,uid=5").unwrap();
        assert_eq!((options.size, options.mode, options.inodes), (64 << 20, 0o755, 10 << 10));
        assert_eq!(options.to_string(), "size=65536k,nr_inodes=10240,mode=755,uid=5");
        assert!(TmpfsOptions::parse(b"size=x").is_err());
        assert!(TmpfsOptions::parse(b"size=").is_err());
        assert!(TmpfsOptions::parse(b"frobnicate").is_err());
        assert!(TmpfsOptions::parse(b"size=99999999999999999999t").is_err());
    }
}
