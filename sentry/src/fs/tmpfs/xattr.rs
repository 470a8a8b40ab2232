//! Extended attributes kept in memory.

use crate::errno::{Errno, Result};
use std::collections::BTreeMap;

const XATTR_CREATE: u32 = 1;
const XATTR_REPLACE: u32 = 2;
/// Most bytes of names and values of one inode.
const MAX_TOTAL: usize = 128 << 10;

/// Extended attributes of one inode.
#[derive(Default)]
pub(super) struct Xattrs {
    map: BTreeMap<Box<[u8]>, Box<[u8]>>,
}

fn supported(name: &[u8]) -> Result<()> {
    let prefixes: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
    if prefixes.iter().any(|p| name.len() > p.len() && name.starts_with(p)) {
        Ok(())
    } else {
        Err(Errno::EOPNOTSUPP)
    }
}

impl Xattrs {
    pub(super) fn get(&self, name: &[u8]) -> Result<Vec<u8>> {
        supported(name)?;
        self.map.get(name).map(|v| v.to_vec()).ok_or(Errno::ENODATA)
    }

    pub(super) fn set(&mut self, name: &[u8], value: &[u8], flags: u32) -> Result<()> {
        supported(name)?;
        let old = self.map.get(name).map(|v| v.len());
        match old {
            Some(_) if flags & XATTR_CREATE != 0 => return Err(Errno::EEXIST),
            None if flags & XATTR_REPLACE != 0 => return Err(Errno::ENODATA),
            _ => {}
        }
        let used: usize = self.map.iter().map(|(k, v)| k.len() + v.len()).sum();
        let freed = old.map_or(0, |v| v + name.len());
        if used - freed + name.len() + value.len() > MAX_TOTAL {
            return Err(Errno::ENOSPC);
        }
        self.map.insert(name.into(), value.into());
        Ok(())
    }

    pub(super) fn list(&self) -> Vec<Vec<u8>> {
        self.map.keys().map(|k| k.to_vec()).collect()
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> Result<()> {
        supported(name)?;
        self.map.remove(name).map(drop).ok_or(Errno::ENODATA)
    }
}
