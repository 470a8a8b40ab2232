//! What a domain may do with files.
//!
//! A right must be allowed, by each layer that is about it, for the object or one of the directories above it,
//! mount points included. Whether it is, is found on the way from the object to the root: for each right the
//! layers that have not allowed it yet are kept as bits.

use super::{Domain, Key, access};
use crate::errno::{Errno, Result};
use crate::kernel::Credentials;
use crate::vfs::{Dentry, FileType, Path};
use std::sync::Arc;

const RIGHTS: usize = u16::BITS as usize;

/// For each right the layers that refuse it, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Refusals([u16; RIGHTS]);

impl Refusals {
    fn each(&mut self, rights: u16, mut f: impl FnMut(&mut u16)) {
        for (bit, layers) in self.0.iter_mut().enumerate() {
            if rights & (1 << bit) != 0 {
                f(layers);
            }
        }
    }

    /// Rights that some layer refuses.
    fn refused(&self) -> u16 {
        let bits = self.0.iter().enumerate().filter(|(_, layers)| **layers != 0);
        bits.fold(0, |all, (bit, _)| all | 1 << bit)
    }

    fn keep_only(&mut self, rights: u16) {
        self.each(!rights, |layers| *layers = 0);
    }
}

/// True if whoever goes from a child (which has `child`'s refusals beyond those of the directories above it,
/// `from`) to a place with refusals `to` is refused there at least what was refused before.
fn no_less_refused(from: &Refusals, child: &Refusals, is_dir: bool, to: &Refusals) -> bool {
    let rights = if is_dir { u16::MAX } else { access::OF_FILES };
    let all = from.0.iter().zip(&child.0).zip(&to.0).enumerate();
    all.filter(|(bit, _)| rights & (1 << bit) != 0)
        .all(|(_, ((from, child), to))| from & child & !to == 0)
}

/// The right to make something of a type.
pub fn right_to_make(file_type: FileType) -> u16 {
    match file_type {
        FileType::Symlink => access::MAKE_SYM,
        FileType::Directory => access::MAKE_DIR,
        FileType::CharDevice => access::MAKE_CHAR,
        FileType::BlockDevice => access::MAKE_BLOCK,
        FileType::Fifo => access::MAKE_FIFO,
        FileType::Socket => access::MAKE_SOCK,
        FileType::Regular => access::MAKE_REG,
    }
}

fn right_to_remove(dentry: &Dentry) -> u16 {
    if dentry.is_dir() { access::REMOVE_DIR } else { access::REMOVE_FILE }
}

/// One place on the way to the root.
enum Up {
    To(Path),
    /// The root of the tree.
    Root,
}

fn up(mut at: Path) -> Up {
    // What lies on a mount point is hidden by what is mounted there.
    while Arc::ptr_eq(&at.dentry, at.mount.root()) {
        match at.mount.mountpoint() {
            Some(mountpoint) => at = mountpoint,
            None => return Up::Root,
        }
    }
    match at.dentry.parent() {
        Some(parent) => Up::To(Path { mount: at.mount, dentry: parent }),
        None => Up::Root,
    }
}

impl Domain {
    /// What each layer refuses as long as no rule is found, of the rights asked for.
    fn refusals(&self, rights: u16) -> Refusals {
        let mut refusals = Refusals::default();
        for (i, layer) in self.layers.iter().enumerate() {
            let about = layer.handled.fs | access::REFER;
            refusals.each(rights & about, |layers| *layers |= 1 << i);
        }
        refusals
    }

    /// Takes the refusals away that rules about `dentry` answer.
    fn apply_rules(&self, dentry: &Dentry, rights: u16, refusals: &mut Refusals) {
        let mut key = None;
        for (i, layer) in self.layers.iter().enumerate() {
            if layer.rules.paths.is_empty() {
                continue;
            }
            let key = key.get_or_insert_with(|| Key::of(dentry));
            if let Some(rule) = layer.rules.paths.get(key) {
                refusals.each(rights & rule.allowed, |layers| *layers &= !(1 << i));
            }
        }
    }

    /// The rights among `rights` that are not allowed at `path`.
    fn refused(&self, path: &Path, rights: u16) -> u16 {
        if path.mount.is_internal() {
            return 0;
        }
        let mut refusals = self.refusals(rights);
        let mut at = Up::To(path.clone());
        while let Up::To(place) = at {
            if refusals.refused() == 0 {
                break;
            }
            self.apply_rules(&place.dentry, rights, &mut refusals);
            at = up(place);
        }
        refusals.refused()
    }

    /// The refusals of a directory, by what is between it and the root of its mount.
    fn refusals_beneath_mount(&self, dir: &Arc<Dentry>, mount_root: &Arc<Dentry>) -> Refusals {
        let mut refusals = self.refusals(u16::MAX);
        let mut at = Some(dir.clone());
        while let Some(dentry) = at {
            self.apply_rules(&dentry, u16::MAX, &mut refusals);
            if refusals.refused() == 0 || Arc::ptr_eq(&dentry, mount_root) {
                break;
            }
            at = dentry.parent();
        }
        refusals
    }

    /// What a child itself refuses, whatever directory it is in.
    fn refusals_of_child(&self, child: &Dentry) -> Refusals {
        let mut refusals = self.refusals(u16::MAX);
        self.apply_rules(child, u16::MAX, &mut refusals);
        refusals
    }

    /// See [`check_refer`].
    fn check_refer(&self, refer: &Refer<'_>) -> Result<()> {
        let Refer { old_dir, child, new_dir, target, renames, exchange } = *refer;
        // What is asked of the old directory, and of the new one.
        let (mut of_old, mut of_new) = (0, right_to_make(child.file_type()));
        if let Some(target) = target.filter(|_| exchange) {
            of_old |= right_to_make(target.file_type());
        }
        if renames {
            of_old |= right_to_remove(child);
            of_new |= target.map_or(0, |target| right_to_remove(target));
        }
        if Arc::ptr_eq(old_dir, &new_dir.dentry) {
            let refused = self.refused(new_dir, of_old | of_new);
            return if refused == 0 { Ok(()) } else { Err(Errno::EACCES) };
        }
        of_old |= access::REFER;
        of_new |= access::REFER;
        let root = new_dir.mount.root();
        let mut old = self.refusals_beneath_mount(old_dir, root);
        let mut new = self.refusals_beneath_mount(&new_dir.dentry, root);
        // A child must not gain rights by its new place: what is refused to it must be refused there. Once
        // that is known, no more than the rights asked for count.
        let own = self.refusals_of_child(child);
        let other = target.filter(|_| exchange).map(|t| (self.refusals_of_child(t), t.is_dir()));
        let mut gains = true;
        let mut at = Up::To(new_dir.mount.root_path());
        let about = self.all.fs | access::REFER;
        while let Up::To(place) = at {
            if gains {
                let back = other
                    .as_ref()
                    .is_none_or(|(other, is_dir)| no_less_refused(&new, other, *is_dir, &old));
                if back && no_less_refused(&old, &own, child.is_dir(), &new) {
                    gains = false;
                    old.keep_only(of_old);
                    new.keep_only(of_new);
                }
            }
            if old.refused() == 0 && new.refused() == 0 {
                return Ok(());
            }
            let rights = |asked: u16| if gains { about } else { asked };
            self.apply_rules(&place.dentry, rights(of_old), &mut old);
            self.apply_rules(&place.dentry, rights(of_new), &mut new);
            if old.refused() == 0 && new.refused() == 0 {
                return Ok(());
            }
            at = up(place);
        }
        // That it cannot be done at all is the more important news than that it must be copied.
        let cannot = (old.refused() & of_old | new.refused() & of_new) & !access::REFER;
        Err(if cannot != 0 { Errno::EACCES } else { Errno::EXDEV })
    }
}

/// The domain of a task, if it is about files.
fn domain(creds: &Credentials) -> Option<&Domain> {
    creds.landlock.as_deref().filter(|d| d.all.fs != 0)
}

/// Whether a task has `rights` ([`access`]) at a place. `EACCES`.
pub fn check(creds: &Credentials, path: &Path, rights: u16) -> Result<()> {
    match domain(creds) {
        Some(domain) if domain.refused(path, rights) != 0 => Err(Errno::EACCES),
        _ => Ok(()),
    }
}

/// Whether a task may open what is at a place with `rights`. `EACCES`; or the rights to use the open file
/// that it does not get with it.
pub fn check_open(creds: &Credentials, path: &Path, rights: u16) -> Result<u16> {
    let Some(domain) = domain(creds) else { return Ok(0) };
    let later = match path.dentry.file_type() {
        FileType::CharDevice | FileType::BlockDevice => access::TRUNCATE | access::IOCTL_DEV,
        _ => access::TRUNCATE,
    };
    let refused = domain.refused(path, rights | later);
    if refused & rights != 0 { Err(Errno::EACCES) } else { Ok(refused) }
}

/// A name that is to be made of what has a name already.
#[derive(Clone, Copy)]
pub struct Refer<'a> {
    /// The directory that it is in.
    pub old_dir: &'a Arc<Dentry>,
    /// What it is.
    pub child: &'a Arc<Dentry>,
    /// The directory of the new name, on the same mount.
    pub new_dir: &'a Path,
    /// What has the new name so far.
    pub target: Option<&'a Arc<Dentry>>,
    /// The old name goes.
    pub renames: bool,
    /// The target gets the old name.
    pub exchange: bool,
}

/// Whether a task may link or rename. `EACCES` if names may not be made or removed there, `EXDEV` if only the
/// way between the directories is forbidden.
pub fn check_refer(creds: &Credentials, refer: &Refer<'_>) -> Result<()> {
    domain(creds).map_or(Ok(()), |domain| domain.check_refer(refer))
}

/// `EPERM` for a change of the mount tree: it could lead around every rule.
pub fn check_mounts(creds: &Credentials) -> Result<()> {
    if domain(creds).is_some() { Err(Errno::EPERM) } else { Ok(()) }
}

/// True for the commands of `ioctl(2)` that are the same for all files, which no domain restricts.
pub fn is_common_ioctl(cmd: u32) -> bool {
    const COMMON: [u32; 14] = [
        0x5451,      // FIOCLEX
        0x5450,      // FIONCLEX
        0x5421,      // FIONBIO
        0x5452,      // FIOASYNC
        0x5460,      // FIOQSIZE
        0xc004_5877, // FIFREEZE
        0xc004_5878, // FITHAW
        0xc020_660b, // FS_IOC_FIEMAP
        2,           // FIGETBSZ
        0x4004_9409, // FICLONE
        0x4020_940d, // FICLONERANGE
        0xc018_9436, // FIDEDUPERANGE
        0x8011_1500, // FS_IOC_GETFSUUID
        0x8081_1501, // FS_IOC_GETFSSYSFSPATH
    ];
    COMMON.contains(&cmd)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn refusals(pairs: &[(u16, u16)]) -> Refusals {
        let mut all = Refusals::default();
        for (right, layers) in pairs {
            all.each(*right, |bits| *bits |= layers);
        }
        all
    }

    #[test]
    fn what_is_refused_stays_refused() {
        let nothing = Refusals::default();
        let x0 = refusals(&[(access::EXECUTE, 1)]);
        let x1 = refusals(&[(access::EXECUTE, 2)]);
        let rx0 = refusals(&[(access::EXECUTE | access::READ_FILE, 1)]);
        let mx0 = refusals(&[(access::EXECUTE | access::MAKE_REG, 1)]);
        assert!(no_less_refused(&x0, &nothing, false, &nothing));
        assert!(!no_less_refused(&x0, &x0, false, &nothing));
        assert!(no_less_refused(&x0, &x0, false, &rx0));
        assert!(!no_less_refused(&rx0, &rx0, false, &x0));
        // Different layers: the child has an exception from what its directory refuses.
        assert!(no_less_refused(&x0, &x1, false, &x0));
        assert!(!no_less_refused(&x1, &x1, false, &x0));
        // Rights over directories do not matter for files.
        assert!(no_less_refused(&mx0, &mx0, false, &x0));
        assert!(!no_less_refused(&mx0, &mx0, true, &x0));
    }
}
