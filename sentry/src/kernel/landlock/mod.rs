//! Landlock (`landlock(7)`): programs that restrict themselves.
//!
//! * [`Ruleset`]: what a descriptor of `landlock_create_ruleset(2)` stands for, while rules are added.
//! * [`Domain`]: the stack of rule sets that a task has restricted itself with. It is part of the task's
//!   [credentials](crate::kernel::Credentials), so that it is inherited by fork and exec, and a task without
//!   one pays a look at them.
//! * [`fs`]: what may be done with files. [`scope`]: whom signals, tracing and abstract sockets may reach;
//!   and [`net`]: which TCP ports may be used.

pub mod fs;
pub mod net;
pub mod scope;

use crate::errno::{Errno, Result};
use crate::fs::anon;
use crate::sync::{Mutex, rank};
use crate::vfs::{Attr, Dentry, FileOps, Path};
use rustc_hash::FxHashMap;
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What `LANDLOCK_CREATE_RULESET_VERSION` answers: the interface of Linux 6.12.
pub const ABI_VERSION: u64 = 6;
/// Most rule sets that a task can stack.
const MAX_LAYERS: usize = 16;
/// Most rules in the sandbox. Each keeps what it is about in memory, and rule sets are as many as a guest
/// likes: on Linux the memory control group bounds them, with the same error.
const MAX_RULES: usize = 1 << 18;

/// Rights over files (`LANDLOCK_ACCESS_FS_*`).
pub mod access {
    /// Execute a file.
    pub const EXECUTE: u16 = 1;
    /// Open a file for writing.
    pub const WRITE_FILE: u16 = 1 << 1;
    /// Open a file for reading.
    pub const READ_FILE: u16 = 1 << 2;
    /// Open a directory.
    pub const READ_DIR: u16 = 1 << 3;
    /// Remove a directory or rename one.
    pub const REMOVE_DIR: u16 = 1 << 4;
    /// Remove a file or rename one.
    pub const REMOVE_FILE: u16 = 1 << 5;
    /// Make a character device.
    pub const MAKE_CHAR: u16 = 1 << 6;
    /// Make a directory.
    pub const MAKE_DIR: u16 = 1 << 7;
    /// Make a regular file.
    pub const MAKE_REG: u16 = 1 << 8;
    /// Make a socket.
    pub const MAKE_SOCK: u16 = 1 << 9;
    /// Make a FIFO.
    pub const MAKE_FIFO: u16 = 1 << 10;
    /// Make a block device.
    pub const MAKE_BLOCK: u16 = 1 << 11;
    /// Make a symbolic link.
    pub const MAKE_SYM: u16 = 1 << 12;
    /// Link or rename from or to another directory: refused by each rule set that does not allow it, whether
    /// it is about this right or not.
    pub const REFER: u16 = 1 << 13;
    /// Change the size of a file.
    pub const TRUNCATE: u16 = 1 << 14;
    /// `ioctl(2)` on an open device.
    pub const IOCTL_DEV: u16 = 1 << 15;

    /// Those that make sense for what is not a directory.
    pub const OF_FILES: u16 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;
}

/// `LANDLOCK_ACCESS_NET_BIND_TCP`
pub const NET_BIND_TCP: u16 = 1;
/// `LANDLOCK_ACCESS_NET_CONNECT_TCP`
pub const NET_CONNECT_TCP: u16 = 2;
const NET_ALL: u64 = 3;
/// `LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET`
pub const SCOPE_ABSTRACT: u16 = 1;
/// `LANDLOCK_SCOPE_SIGNAL`
pub const SCOPE_SIGNAL: u16 = 2;
const SCOPE_ALL: u64 = 3;
const FS_ALL: u64 = 0xffff;

static RULES: AtomicUsize = AtomicUsize::new(0);

/// What a rule set is about: everything else it leaves alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Handled {
    /// Rights over files.
    fs: u16,
    /// Rights over TCP ports.
    net: u16,
    /// Scopes.
    scope: u16,
}

impl Handled {
    /// Checks the words of a `struct landlock_ruleset_attr`. `EINVAL` for unknown bits, `ENOMSG` for none.
    pub fn new(fs: u64, net: u64, scope: u64) -> Result<Handled> {
        if fs & !FS_ALL != 0 || net & !NET_ALL != 0 || scope & !SCOPE_ALL != 0 {
            return Err(Errno::EINVAL);
        }
        if fs | net | scope == 0 {
            return Err(Errno::ENOMSG);
        }
        Ok(Handled { fs: fs as u16, net: net as u16, scope: scope as u16 })
    }
}

/// What names an object in rules: the inode in memory, which a rule keeps there; or, where inodes are made up
/// at each look-up, its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Object(usize),
    Number(u64, u64),
}

impl Key {
    fn of(dentry: &Dentry) -> Key {
        let inode = dentry.inode();
        if dentry.has_passing_inodes()
            && let Ok(attr) = inode.attr()
        {
            return Key::Number(attr.dev, attr.ino);
        }
        Key::Object(Arc::as_ptr(inode).cast::<()>() as usize)
    }
}

/// Allowed rights over one object and what is beneath it.
#[derive(Clone)]
struct PathRule {
    allowed: u16,
    /// Keeps the inode, and with it the key's meaning.
    _object: Arc<Dentry>,
}

/// Rules, counted as long as they are there.
#[derive(Default)]
struct Rules {
    paths: FxHashMap<Key, PathRule>,
    ports: FxHashMap<u16, u16>,
    counted: usize,
}

impl Rules {
    /// Counts `n` more. `ENOMEM` beyond what the sandbox may have.
    fn count(&mut self, n: usize) -> Result<()> {
        let more = |old: usize| old.checked_add(n).filter(|new| *new <= MAX_RULES);
        let counted = RULES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        counted.map_err(|_| Errno::ENOMEM)?;
        self.counted += n;
        Ok(())
    }

    fn copy(&self) -> Result<Rules> {
        let mut copy = Rules::default();
        copy.count(self.counted)?;
        copy.paths = self.paths.clone();
        copy.ports = self.ports.clone();
        Ok(copy)
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        RULES.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

/// A rule set that is being made.
pub struct Ruleset {
    handled: Handled,
    /// Shared with the domains that it has become a layer of.
    rules: Mutex<Arc<Rules>, { rank::LEAF }>,
}

impl Ruleset {
    /// One without rules: everything that it is about is forbidden.
    pub fn new(handled: Handled) -> Ruleset {
        Ruleset { handled, rules: Mutex::default() }
    }

    fn change(&self, f: impl FnOnce(&mut Rules) -> Result<()>) -> Result<()> {
        let mut rules = self.rules.lock();
        if let Some(own) = Arc::get_mut(&mut rules) {
            return f(own);
        }
        // A layer has the rules as they were when it was made.
        let mut copy = rules.copy()?;
        f(&mut copy)?;
        let old = std::mem::replace(&mut *rules, Arc::new(copy));
        drop(rules);
        drop(old);
        Ok(())
    }

    /// Checks that rights are among those that the rule set is about: `ENOMSG` for none, `EINVAL`.
    fn subset(allowed: u64, handled: u16) -> Result<u16> {
        if allowed == 0 {
            return Err(Errno::ENOMSG);
        }
        if allowed & !u64::from(handled) != 0 {
            return Err(Errno::EINVAL);
        }
        Ok(allowed as u16)
    }

    /// As `subset`, for rights over files.
    pub fn check_path_rights(&self, allowed: u64) -> Result<u16> {
        Self::subset(allowed, self.handled.fs)
    }

    /// Allows rights over what is at `path` and beneath it. `EINVAL` for rights over directories that are to
    /// be had over something else.
    pub fn allow_path(&self, path: &Path, allowed: u16) -> Result<()> {
        if !path.dentry.is_dir() && allowed & !access::OF_FILES != 0 {
            return Err(Errno::EINVAL);
        }
        let key = Key::of(&path.dentry);
        self.change(|rules| {
            if let Some(rule) = rules.paths.get_mut(&key) {
                rule.allowed |= allowed;
                return Ok(());
            }
            rules.count(1)?;
            rules.paths.insert(key, PathRule { allowed, _object: path.dentry.clone() });
            Ok(())
        })
    }

    /// Allows rights over a TCP port. `ENOMSG`, `EINVAL`.
    pub fn allow_port(&self, port: u64, allowed: u64) -> Result<()> {
        let allowed = Self::subset(allowed, self.handled.net)?;
        let port = u16::try_from(port).map_err(|_| Errno::EINVAL)?;
        self.change(|rules| {
            if let Some(rule) = rules.ports.get_mut(&port) {
                *rule |= allowed;
                return Ok(());
            }
            rules.count(1)?;
            rules.ports.insert(port, allowed);
            Ok(())
        })
    }
}

/// One rule set of a domain. Two domains have one in common exactly if a task with the one is, up to there, in
/// the same sandbox as a task with the other.
struct Layer {
    handled: Handled,
    rules: Arc<Rules>,
}

/// The rule sets that a task has restricted itself with, the oldest first. An action must be allowed by all.
#[derive(Clone)]
pub struct Domain {
    layers: Vec<Arc<Layer>>,
    /// What any layer is about.
    all: Handled,
}

impl Domain {
    /// `outer` with one more layer. `E2BIG` when there are as many as there can be.
    pub fn stack(outer: Option<&Domain>, ruleset: &Ruleset) -> Result<Domain> {
        let mut layers = outer.map(|d| d.layers.clone()).unwrap_or_default();
        if layers.len() >= MAX_LAYERS {
            return Err(Errno::E2BIG);
        }
        let handled = ruleset.handled;
        let old = outer.map(|d| d.all).unwrap_or_default();
        let all = Handled {
            fs: old.fs | handled.fs,
            net: old.net | handled.net,
            scope: old.scope | handled.scope,
        };
        layers.push(Arc::new(Layer { handled, rules: ruleset.rules.lock().clone() }));
        Ok(Domain { layers, all })
    }
}

impl PartialEq for Domain {
    fn eq(&self, other: &Domain) -> bool {
        let same = |(a, b): (&Arc<Layer>, &Arc<Layer>)| Arc::ptr_eq(a, b);
        self.layers.len() == other.layers.len() && self.layers.iter().zip(&other.layers).all(same)
    }
}

impl Eq for Domain {}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Domain").field("layers", &self.layers.len()).finish_non_exhaustive()
    }
}

/// The open file of a rule set. Rules are added and it is used by system calls of their own: reading and
/// writing are refused.
impl FileOps for Ruleset {
    fn attr(&self) -> Option<Result<Attr>> {
        Some(Ok(anon::attr()))
    }

    fn link_text(&self) -> Option<String> {
        Some("anon_inode:[landlock-ruleset]".into())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests;
