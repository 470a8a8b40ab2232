//! System V IPC (`sysvipc(7)`): objects that are found by a key and live until they are removed.

pub mod ids;
pub mod limits;
pub mod msg;
pub mod sem;
pub mod shm;

use super::Credentials;
use super::namespace::IpcNamespace;
use crate::errno::{Errno, Result};
use crate::vfs::permission::in_group;

/// `IPC_PRIVATE`
pub const IPC_PRIVATE: i32 = 0;
/// `IPC_CREAT`
pub const IPC_CREAT: u32 = 0o1000;
/// `IPC_EXCL`
pub const IPC_EXCL: u32 = 0o2000;
/// `IPC_RMID`
pub const IPC_RMID: i32 = 0;
/// `IPC_SET`
pub const IPC_SET: i32 = 1;
/// `IPC_STAT`
pub const IPC_STAT: i32 = 2;
/// `IPC_INFO`
pub const IPC_INFO: i32 = 3;
/// Set by the C library in commands; x86-64 knows only these structures.
pub const IPC_64: i32 = 0x100;

const CAP_IPC_OWNER: u32 = 15;
const CAP_SYS_ADMIN: u32 = 21;

/// Who may do what with an object (`struct ipc_perm`).
#[derive(Debug, Clone, Copy)]
pub struct Permissions {
    /// The key it is found by.
    pub key: i32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Maker.
    pub cuid: u32,
    /// Maker's group.
    pub cgid: u32,
    /// Permission bits.
    pub mode: u32,
    /// Distinguishes objects that had the same place in the table.
    pub seq: u16,
}

impl Permissions {
    /// For a new object made by whoever has `creds`.
    pub fn new(key: i32, creds: &Credentials, mode: u32, seq: u16) -> Self {
        let (uid, gid) = (creds.euid, creds.egid);
        Self { key, uid, gid, cuid: uid, cgid: gid, mode: mode & 0o777, seq }
    }

    /// `EACCES` unless every access in `want` (4 read, 2 write) is allowed.
    pub fn check(&self, ns: &IpcNamespace, creds: &Credentials, want: u32) -> Result<()> {
        let shift = if creds.euid == self.uid || creds.euid == self.cuid {
            6
        } else if [self.gid, self.cgid].iter().any(|g| creds.egid == *g || in_group(creds, *g)) {
            3
        } else {
            0
        };
        let allowed = self.mode >> shift & 7;
        let may = want & !allowed == 0 || creds.has_in(ns.user_ns(), CAP_IPC_OWNER);
        if may { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// `EPERM` unless owner, maker or capable: who may change and remove it.
    pub fn check_owner(&self, ns: &IpcNamespace, creds: &Credentials) -> Result<()> {
        let owner = creds.euid == self.uid || creds.euid == self.cuid;
        if owner || creds.has_in(ns.user_ns(), CAP_SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// `IPC_SET`: another owner, other permission bits.
    pub fn change(&mut self, uid: u32, gid: u32, mode: u32) {
        (self.uid, self.gid) = (uid, gid);
        self.mode = self.mode & !0o777 | mode & 0o777;
    }

    /// As `struct ipc64_perm`.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48);
        for word in [self.key as u32, self.uid, self.gid, self.cuid, self.cgid, self.mode] {
            out.extend_from_slice(&word.to_ne_bytes());
        }
        out.extend_from_slice(&self.seq.to_ne_bytes());
        out.resize(48, 0);
        out
    }
}

/// Seconds since the epoch.
fn now() -> i64 {
    crate::fs::anon::now() / 1_000_000_000
}
