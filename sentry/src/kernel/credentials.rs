//! User and group ids and capabilities (`credentials(7)`, `capabilities(7)`).
//!
//! Ids are those of the root user namespace; system calls translate them.

use super::keys::Keyrings;
use super::landlock::Domain;
use super::namespace::UserNamespace;
use crate::vfs::Attr;
use std::sync::Arc;

macro_rules! capabilities {
    ($($name:ident = $n:literal),* $(,)?) => {
        $(#[doc = concat!("`", stringify!($name), "` of `capabilities(7)`.")]
        pub const $name: u32 = $n;)*
    };
}

capabilities! {
    CAP_CHOWN = 0, CAP_DAC_OVERRIDE = 1, CAP_DAC_READ_SEARCH = 2, CAP_FOWNER = 3, CAP_FSETID = 4,
    CAP_KILL = 5, CAP_SETGID = 6, CAP_SETUID = 7, CAP_SETPCAP = 8, CAP_LINUX_IMMUTABLE = 9,
    CAP_NET_BIND_SERVICE = 10, CAP_NET_ADMIN = 12, CAP_NET_RAW = 13, CAP_IPC_LOCK = 14,
    CAP_IPC_OWNER = 15, CAP_SYS_MODULE = 16, CAP_SYS_RAWIO = 17, CAP_SYS_CHROOT = 18,
    CAP_SYS_PTRACE = 19, CAP_SYS_PACCT = 20, CAP_SYS_ADMIN = 21, CAP_SYS_BOOT = 22,
    CAP_SYS_NICE = 23, CAP_SYS_RESOURCE = 24, CAP_SYS_TIME = 25, CAP_SYS_TTY_CONFIG = 26,
    CAP_MKNOD = 27, CAP_LEASE = 28, CAP_SETFCAP = 31, CAP_SYSLOG = 34, CAP_CHECKPOINT_RESTORE = 40,
}

/// Highest capability.
pub const CAP_LAST_CAP: u32 = 40;
/// Every capability.
pub const ALL_CAPS: u64 = (1 << (CAP_LAST_CAP + 1)) - 1;
/// Capabilities that the file-system uid carries (`CAP_FS_MASK`).
pub const FS_CAPS: u64 = 1 << CAP_CHOWN
    | 1 << CAP_MKNOD
    | 1 << CAP_DAC_OVERRIDE
    | 1 << CAP_DAC_READ_SEARCH
    | 1 << CAP_FOWNER
    | 1 << CAP_FSETID
    | 1 << CAP_LINUX_IMMUTABLE
    | 1 << 32;

/// `SECBIT_NOROOT`.
pub const SECBIT_NOROOT: u32 = 1;
/// `SECBIT_NO_SETUID_FIXUP`.
pub const SECBIT_NO_SETUID_FIXUP: u32 = 4;
/// `SECBIT_KEEP_CAPS`.
pub const SECBIT_KEEP_CAPS: u32 = 16;
/// `SECBIT_NO_CAP_AMBIENT_RAISE`.
pub const SECBIT_NO_CAP_AMBIENT_RAISE: u32 = 64;

/// Credentials of a task. Immutable: a change makes a new set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user namespace in which the capabilities count.
    pub user_ns: Arc<UserNamespace>,
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Saved set-user id.
    pub suid: u32,
    /// File-system user id.
    pub fsuid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective group id.
    pub egid: u32,
    /// Saved set-group id.
    pub sgid: u32,
    /// File-system group id.
    pub fsgid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Permitted capabilities, a bit each.
    pub permitted: u64,
    /// Effective capabilities.
    pub effective: u64,
    /// Inheritable capabilities.
    pub inheritable: u64,
    /// Bounding set.
    pub bounding: u64,
    /// Ambient set.
    pub ambient: u64,
    /// `SECBIT_*` flags.
    pub securebits: u32,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privs: bool,
    /// Its keyrings.
    pub keyrings: Keyrings,
    /// What it has restricted itself with (`landlock(7)`).
    pub landlock: Option<Arc<Domain>>,
}

impl Default for Credentials {
    /// Root's ids in the root namespace, without capabilities.
    fn default() -> Self {
        Credentials {
            user_ns: UserNamespace::root(),
            uid: 0,
            euid: 0,
            suid: 0,
            fsuid: 0,
            gid: 0,
            egid: 0,
            sgid: 0,
            fsgid: 0,
            groups: Vec::new(),
            permitted: 0,
            effective: 0,
            inheritable: 0,
            bounding: 0,
            ambient: 0,
            securebits: 0,
            no_new_privs: false,
            keyrings: Keyrings::default(),
            landlock: None,
        }
    }
}

impl Credentials {
    /// True if the capability (`CAP_*` number) counts in all of the sandbox (Linux's `capable`): for what
    /// belongs to no user namespace.
    pub fn has(&self, cap: u32) -> bool {
        self.user_ns.is_root() && self.has_own(cap)
    }

    /// True if the capability is effective in the task's own user namespace.
    pub fn has_own(&self, cap: u32) -> bool {
        cap < 64 && self.effective & (1 << cap) != 0
    }

    /// True if the capability counts for what belongs to `ns` (Linux's `ns_capable`): that is the task's own
    /// user namespace, or one below it, of which the owner has every capability.
    pub fn has_in(&self, ns: &UserNamespace, cap: u32) -> bool {
        let mut at = ns;
        loop {
            if *at == *self.user_ns {
                return self.has_own(cap);
            }
            if at.level() <= self.user_ns.level() {
                return false;
            }
            let Some(parent) = at.parent() else { return false };
            if *parent == self.user_ns && at.owner() == self.euid {
                return true;
            }
            at = parent;
        }
    }

    /// True if the capability counts for a file of these attributes: its owner and group must have names
    /// in the task's user namespace (Linux's `capable_wrt_inode_uidgid`).
    pub fn has_over(&self, file: &Attr, cap: u32) -> bool {
        self.has_own(cap)
            && self.user_ns.uid_from_kernel(file.uid).is_some()
            && self.user_ns.gid_from_kernel(file.gid).is_some()
    }

    /// True if `uid` is root's in the task's user namespace.
    pub fn is_root_uid(&self, uid: u32) -> bool {
        self.user_ns.uid_to_kernel(0) == Some(uid)
    }

    /// Adjusts the capabilities after the user ids changed from those of `old`
    /// (`capabilities(7)`, "Effect of user ID changes on capabilities").
    pub fn fix_up_capabilities(&mut self, old: &Credentials) {
        if self.securebits & SECBIT_NO_SETUID_FIXUP != 0 {
            return;
        }
        let root = self.user_ns.uid_to_kernel(0);
        let is_root = |uid: u32| Some(uid) == root;
        let had_root = [old.uid, old.euid, old.suid].into_iter().any(is_root);
        let has_root = [self.uid, self.euid, self.suid].into_iter().any(is_root);
        if had_root && !has_root {
            if self.securebits & SECBIT_KEEP_CAPS == 0 {
                self.permitted = 0;
                self.effective = 0;
            }
            self.ambient = 0;
        }
        if is_root(old.euid) && !is_root(self.euid) {
            self.effective = 0;
        }
        if !is_root(old.euid) && is_root(self.euid) {
            self.effective = self.permitted;
        }
    }

    /// As [`Credentials::fix_up_capabilities`], after a change of the file-system uid alone.
    pub fn fix_up_fsuid(&mut self, old: &Credentials) {
        if self.securebits & SECBIT_NO_SETUID_FIXUP != 0 {
            return;
        }
        let (was_root, is_root) = (self.is_root_uid(old.fsuid), self.is_root_uid(self.fsuid));
        if was_root && !is_root {
            self.effective &= !FS_CAPS;
        }
        if !was_root && is_root {
            self.effective |= self.permitted & FS_CAPS;
        }
    }
}

/// Ids that a file gives to whoever executes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExecFile {
    /// Owner, if the set-user-ID bit counts.
    pub uid: Option<u32>,
    /// Group, if the set-group-ID bit counts.
    pub gid: Option<u32>,
}

/// Credentials after `execve(2)` of a file, and whether the program must not trust its environment.
pub fn for_exec(old: &Credentials, file: &ExecFile) -> (Credentials, bool) {
    let mut new = old.clone();
    if !old.no_new_privs {
        if let Some(uid) = file.uid.filter(|uid| old.user_ns.uid_from_kernel(*uid).is_some()) {
            new.euid = uid;
        }
        if let Some(gid) = file.gid.filter(|gid| old.user_ns.gid_from_kernel(*gid).is_some()) {
            new.egid = gid;
        }
    }
    let set_id = new.euid != old.uid || new.egid != old.gid;
    let gains_id = new.euid != old.euid || new.egid != old.egid;
    if gains_id {
        new.ambient = 0;
    }
    (new.suid, new.fsuid) = (new.euid, new.euid);
    (new.sgid, new.fsgid) = (new.egid, new.egid);
    let root_euid = new.is_root_uid(new.euid);
    let root = new.securebits & SECBIT_NOROOT == 0 && (root_euid || new.is_root_uid(new.uid));
    if root {
        new.permitted = new.bounding | new.inheritable;
        if old.no_new_privs {
            // No more than it had.
            new.permitted &= old.permitted;
        }
        new.effective = if root_euid { new.permitted } else { new.ambient };
    } else {
        new.permitted = new.ambient;
        new.effective = new.ambient;
    }
    new.securebits &= !SECBIT_KEEP_CAPS;
    new.keyrings = old.keyrings.for_exec();
    let grown = !new.is_root_uid(new.uid) && new.permitted & !new.ambient != 0;
    (new, set_id || grown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32) -> Credentials {
        Credentials {
            uid,
            euid: uid,
            suid: uid,
            fsuid: uid,
            bounding: ALL_CAPS,
            ..Credentials::default()
        }
    }

    #[test]
    fn set_user_id_root_program() {
        let file = ExecFile { uid: Some(0), gid: None };
        let (new, secure) = for_exec(&user(1000), &file);
        assert_eq!((new.uid, new.euid, new.suid), (1000, 0, 0));
        assert_eq!(new.effective, ALL_CAPS);
        assert!(secure);
        let held = Credentials { no_new_privs: true, ..user(1000) };
        let (new, secure) = for_exec(&held, &file);
        assert_eq!((new.euid, new.effective, secure), (1000, 0, false));
    }

    #[test]
    fn root_gains_nothing_without_new_privileges() {
        let few = Credentials { permitted: 0x21, no_new_privs: true, ..user(0) };
        let file = ExecFile { uid: None, gid: None };
        let (new, _) = for_exec(&few, &file);
        assert_eq!((new.permitted, new.effective), (0x21, 0x21));
        let (new, _) = for_exec(&Credentials { no_new_privs: false, ..few }, &file);
        assert_eq!(new.permitted, ALL_CAPS);
    }

    #[test]
    fn giving_up_root_gives_up_capabilities() {
        let root = Credentials { permitted: ALL_CAPS, effective: ALL_CAPS, ..user(0) };
        let mut new = Credentials { uid: 5, euid: 5, suid: 5, ..root.clone() };
        new.fix_up_capabilities(&root);
        assert_eq!((new.permitted, new.effective), (0, 0));
        let mut kept = Credentials { securebits: SECBIT_KEEP_CAPS, ..root.clone() };
        kept.uid = 5;
        kept.euid = 5;
        kept.suid = 5;
        kept.fix_up_capabilities(&root);
        assert_eq!((kept.permitted, kept.effective), (ALL_CAPS, 0));
    }
}
