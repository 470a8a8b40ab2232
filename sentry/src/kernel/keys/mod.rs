//! Keys and keyrings (`keyrings(7)`).
//!
//! All keys of the sandbox are in one table, by serial number. A keyring holds numbers, not references; each key counts
//! how many keyrings and [`Anchor`]s hold it and goes with the last one. Keyrings never contain themselves, so that the
//! counts are exact. [`search`] finds keys and decides who may do what; [`rings`] knows the keyrings of tasks and users.

mod quota;
mod rings;
mod search;
mod show;
#[cfg(test)]
mod tests;

pub use quota::{Limit, Limits};
pub use rings::Keyrings;
pub use search::Found;

use crate::errno::{Errno, Result};
use crate::kernel::Credentials;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Permission bits, for each of possessor, owner, group and others.
pub mod perm {
    /// Its attributes may be seen.
    pub const VIEW: u32 = 1;
    /// Its payload may be read.
    pub const READ: u32 = 2;
    /// Its payload or links may be changed.
    pub const WRITE: u32 = 4;
    /// It may be found in searches.
    pub const SEARCH: u32 = 8;
    /// It may be linked to.
    pub const LINK: u32 = 16;
    /// Its attributes may be changed.
    pub const SETATTR: u32 = 32;
    /// All of them, for everyone.
    pub const MASK: u32 = 0x3f3f_3f3f;
    pub(super) const POSSESSOR: u32 = 24;
    pub(super) const OWNER: u32 = 16;
    pub(super) const GROUP: u32 = 8;
}

/// Largest payload of a `user` or `logon` key, in bytes.
const MAX_PAYLOAD: usize = 32767;
/// Bytes of quota for a link.
const LINK_BYTES: u64 = 4;
/// Deepest nesting of keyrings.
const MAX_DEPTH: usize = 6;
/// Seconds for which it is remembered that a key could not be made.
const NEGATIVE_SECONDS: u64 = 60;

/// Type of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `keyring`: links to other keys.
    Keyring,
    /// `user`: bytes.
    User,
    /// `logon`: bytes that cannot be read back.
    Logon,
}

impl Kind {
    /// By its name; `None` for types that this kernel does not have.
    pub fn named(name: &[u8]) -> Option<Kind> {
        [Kind::Keyring, Kind::User, Kind::Logon].into_iter().find(|k| k.name().as_bytes() == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Keyring => "keyring",
            Kind::User => "user",
            Kind::Logon => "logon",
        }
    }

    /// Checks a payload and a description.
    fn check(self, description: Option<&[u8]>, payload: &[u8]) -> Result<()> {
        let fits = match self {
            Kind::Keyring => payload.is_empty(),
            Kind::User | Kind::Logon => (1..=MAX_PAYLOAD).contains(&payload.len()),
        };
        let described = match self {
            // Logon keys name the service, a colon, and what it is about.
            Kind::Logon => description.is_none_or(|d| d.iter().position(|b| *b == b':') > Some(0)),
            Kind::Keyring | Kind::User => true,
        };
        if fits && described { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// What `add_key(2)` gives.
    fn default_perm(self) -> u32 {
        let possessor = perm::VIEW | perm::SEARCH | perm::LINK | perm::SETATTR | perm::WRITE;
        let read = if self == Kind::Logon { 0 } else { perm::READ };
        (possessor | read) << perm::POSSESSOR | perm::VIEW << perm::OWNER
    }
}

/// Whether a key can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Live,
    Revoked,
    /// Could not be made: what using it fails with.
    Negative(Errno),
}

/// A key.
#[derive(Debug, Clone)]
struct Key {
    kind: Kind,
    description: Vec<u8>,
    uid: u32,
    gid: u32,
    perm: u32,
    state: State,
    payload: Vec<u8>,
    links: Vec<i32>,
    /// No links may be added.
    restricted: bool,
    /// Nanoseconds of `CLOCK_REALTIME` at which it expires.
    expires: Option<u64>,
    /// Bytes that it counts for.
    charged: u64,
    /// Keyrings and anchors that hold it.
    refs: u32,
}

impl Key {
    /// `ENOKEY`, `EKEYREVOKED` or `EKEYEXPIRED` for a key that cannot be used.
    fn validate(&self, now: u64) -> Result<()> {
        match self.state {
            State::Negative(errno) => Err(errno),
            State::Revoked => Err(Errno::EKEYREVOKED),
            State::Live if self.expires.is_some_and(|at| at <= now) => Err(Errno::EKEYEXPIRED),
            State::Live => Ok(()),
        }
    }
}

/// Keeps a key while a task uses it as one of its keyrings.
#[derive(Debug)]
pub struct Anchor {
    serial: i32,
    /// Where keys wait that nothing holds any more.
    dropped: Arc<parking_lot::Mutex<Vec<i32>>>,
}

impl PartialEq for Anchor {
    fn eq(&self, other: &Self) -> bool {
        self.serial == other.serial
    }
}

impl Eq for Anchor {}

impl Drop for Anchor {
    fn drop(&mut self) {
        self.dropped.lock().push(self.serial);
    }
}

/// All keys of a sandbox.
#[derive(Debug, Default)]
pub struct Keys {
    keys: BTreeMap<i32, Key>,
    last: i32,
    users: BTreeMap<u32, rings::UserRings>,
    usage: BTreeMap<u32, quota::Usage>,
    limits: Limits,
    dropped: Arc<parking_lot::Mutex<Vec<i32>>>,
}

/// What a key is made of.
#[derive(Debug, Clone, Copy)]
pub struct New<'a> {
    /// Its type.
    pub kind: Kind,
    /// Its description.
    pub description: &'a [u8],
    /// Its payload.
    pub payload: &'a [u8],
    /// Who may do what.
    pub perm: u32,
    /// Made even where the quota is used up.
    pub overrun: bool,
}

impl Keys {
    /// Drops keys that tasks have stopped to use.
    fn reap(&mut self) {
        let dropped = std::mem::take(&mut *self.dropped.lock());
        dropped.into_iter().for_each(|serial| self.release(serial));
    }

    fn get(&self, serial: i32) -> Result<&Key> {
        self.keys.get(&serial).ok_or(Errno::ENOKEY)
    }

    fn get_mut(&mut self, serial: i32) -> Result<&mut Key> {
        self.keys.get_mut(&serial).ok_or(Errno::ENOKEY)
    }

    /// Makes a key that nothing holds yet. `EDQUOT` when its owner has too many.
    fn make(&mut self, creds: &Credentials, new: New<'_>) -> Result<i32> {
        if new.description.is_empty() {
            return Err(Errno::EINVAL);
        }
        let bytes = new.description.len() as u64 + 1 + new.payload.len() as u64;
        self.charge(creds.fsuid, 1, bytes, new.overrun)?;
        let serial = loop {
            // Linux takes them at random, so that they tell nothing.
            let mut random = [0; 4];
            let _ = platform::host::random::fill(&mut random);
            let serial = (i32::from_le_bytes(random) & i32::MAX).max(3);
            if serial != self.last && !self.keys.contains_key(&serial) {
                break serial;
            }
        };
        self.last = serial;
        self.keys.insert(
            serial,
            Key {
                kind: new.kind,
                description: new.description.to_vec(),
                uid: creds.fsuid,
                gid: creds.fsgid,
                perm: new.perm,
                state: State::Live,
                payload: new.payload.to_vec(),
                links: Vec::new(),
                restricted: false,
                expires: None,
                charged: bytes,
                refs: 0,
            },
        );
        Ok(serial)
    }

    /// One more holder.
    fn hold(&mut self, serial: i32) {
        if let Some(key) = self.keys.get_mut(&serial) {
            key.refs += 1;
        }
    }

    /// One holder less; keys without any go, and what they hold.
    fn release(&mut self, serial: i32) {
        let mut work = vec![serial];
        while let Some(serial) = work.pop() {
            let Some(key) = self.keys.get_mut(&serial) else { continue };
            key.refs = key.refs.saturating_sub(1);
            if key.refs == 0
                && let Some(key) = self.keys.remove(&serial)
            {
                self.refund(key.uid, 1, key.charged);
                work.extend(key.links);
            }
        }
    }

    /// A key that was made for nothing: gone unless someone holds it.
    fn discard(&mut self, serial: i32) {
        self.hold(serial);
        self.release(serial);
    }

    fn anchor(&mut self, serial: i32) -> Arc<Anchor> {
        self.hold(serial);
        Arc::new(Anchor { serial, dropped: self.dropped.clone() })
    }

    /// Links a key into a keyring, in place of another of the same type and description.
    fn link(&mut self, ring: i32, serial: i32, now: u64) -> Result<()> {
        let key = self.get(serial)?;
        let (kind, description) = (key.kind, key.description.clone());
        let target = self.get(ring)?;
        if target.kind != Kind::Keyring {
            return Err(Errno::ENOTDIR);
        }
        target.validate(now)?;
        if target.restricted {
            return Err(Errno::EPERM);
        }
        if kind == Kind::Keyring {
            self.check_cycle(ring, serial)?;
        }
        let same = |other: &i32| {
            self.keys.get(other).is_some_and(|k| k.kind == kind && k.description == description)
        };
        let old = target.links.iter().position(|other| *other == serial || same(other));
        let (uid, old) = (target.uid, old);
        if old.is_none() {
            self.charge(uid, 0, LINK_BYTES, false)?;
        }
        self.hold(serial);
        let target = self.get_mut(ring)?;
        let displaced = match old.and_then(|at| target.links.get_mut(at)) {
            Some(place) => Some(std::mem::replace(place, serial)),
            None => {
                target.links.push(serial);
                target.charged += LINK_BYTES;
                None
            }
        };
        displaced.into_iter().for_each(|other| self.release(other));
        Ok(())
    }

    /// `EDEADLK` if `ring` is in `new` or deeper, `ELOOP` if that is nested too deeply to say.
    fn check_cycle(&self, ring: i32, new: i32) -> Result<()> {
        let mut level = vec![new];
        for _ in 0..=MAX_DEPTH {
            if level.contains(&ring) {
                return Err(Errno::EDEADLK);
            }
            let inner = level.iter().filter_map(|serial| self.keys.get(serial));
            level = inner
                .flat_map(|key| key.links.iter().copied())
                .filter(|s| self.keys.get(s).is_some_and(|k| k.kind == Kind::Keyring))
                .collect();
            level.sort_unstable();
            level.dedup();
            if level.is_empty() {
                return Ok(());
            }
        }
        Err(Errno::ELOOP)
    }

    /// Takes a key out of a keyring. `ENOENT` if it is not there.
    fn unlink(&mut self, ring: i32, serial: i32) -> Result<()> {
        let target = self.get_mut(ring)?;
        if target.kind != Kind::Keyring {
            return Err(Errno::ENOTDIR);
        }
        let at = target.links.iter().position(|s| *s == serial).ok_or(Errno::ENOENT)?;
        target.links.remove(at);
        target.charged = target.charged.saturating_sub(LINK_BYTES);
        let uid = target.uid;
        self.refund(uid, 0, LINK_BYTES);
        self.release(serial);
        Ok(())
    }

    /// Empties a keyring.
    fn clear(&mut self, ring: i32) -> Result<()> {
        let target = self.get_mut(ring)?;
        if target.kind != Kind::Keyring {
            return Err(Errno::ENOTDIR);
        }
        let links = std::mem::take(&mut target.links);
        let bytes = LINK_BYTES * links.len() as u64;
        target.charged = target.charged.saturating_sub(bytes);
        let uid = target.uid;
        self.refund(uid, 0, bytes);
        links.into_iter().for_each(|serial| self.release(serial));
        Ok(())
    }

    /// Replaces a payload.
    fn replace_payload(&mut self, serial: i32, payload: &[u8]) -> Result<()> {
        let key = self.get(serial)?;
        if key.kind == Kind::Keyring {
            return Err(Errno::EOPNOTSUPP);
        }
        key.kind.check(None, payload)?;
        let (uid, before, after) = (key.uid, key.payload.len() as u64, payload.len() as u64);
        if after > before {
            self.charge(uid, 0, after - before, false)?;
        } else {
            self.refund(uid, 0, before - after);
        }
        let key = self.get_mut(serial)?;
        key.charged = (key.charged + after).saturating_sub(before);
        key.payload = payload.to_vec();
        key.state = State::Live;
        key.expires = None;
        Ok(())
    }
}
