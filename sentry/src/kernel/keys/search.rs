//! Who may do what with a key, and finding keys.

use super::{Keys, Kind, MAX_DEPTH, NEGATIVE_SECONDS, New, State, perm};
use crate::errno::{Errno, Result};
use crate::kernel::{Credentials, CurrentTask};
use crate::vfs::permission::in_group;
use std::collections::BTreeSet;

/// A key that a task may use, and how it got at it.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// Its number.
    pub serial: i32,
    /// It is in one of the task's own keyrings.
    pub possessed: bool,
}

/// What is looked for in keyrings.
enum Wanted<'a> {
    Named(Kind, &'a [u8]),
    This(i32),
}

impl super::Key {
    /// Whether everything in `want` is allowed.
    pub(super) fn allows(&self, creds: &Credentials, possessed: bool, want: u32) -> bool {
        let group = || self.perm >> perm::GROUP & 0x3f != 0 && in_group(creds, self.gid);
        let mut granted = if self.uid == creds.fsuid {
            self.perm >> perm::OWNER
        } else if group() {
            self.perm >> perm::GROUP
        } else {
            self.perm
        };
        if possessed {
            granted |= self.perm >> perm::POSSESSOR;
        }
        want & !granted == 0
    }
}

impl Keys {
    /// `EACCES` unless everything in `want` is allowed.
    pub(super) fn permit(&self, creds: &Credentials, key: Found, want: u32) -> Result<()> {
        let allowed = self.get(key.serial)?.allows(creds, key.possessed, want);
        if allowed { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// The task's keyrings that searches begin with.
    fn roots(&mut self, t: &CurrentTask, now: u64) -> Vec<i32> {
        let creds = t.creds();
        let [thread, process, session] = creds.keyrings.of(t.tid(), t.tgid());
        let user = || self.users.contains_key(&creds.uid);
        let session = match session {
            Some(session) => Some(session),
            None if user() => self.of_user(creds, true, now).ok(),
            None => None,
        };
        [thread, process, session].into_iter().flatten().collect()
    }

    /// Whether a key is in one of the task's keyrings, in a place that it may search.
    pub(super) fn is_possessed(&mut self, t: &CurrentTask, serial: i32, now: u64) -> bool {
        let roots = self.roots(t, now);
        let wanted = Wanted::This(serial);
        roots.into_iter().any(|root| self.search(t.creds(), (root, true), &wanted, now).is_ok())
    }

    /// Finds the key that an id names for a task, special ids included, which may do `want` with it. With
    /// `partial` it may also be one that could not be made.
    pub fn lookup(
        &mut self,
        t: &mut CurrentTask,
        id: i32,
        (create, partial): (bool, bool),
        want: u32,
    ) -> Result<Found> {
        self.reap();
        let now = t.kernel().time.realtime();
        let found = match id {
            -8..=-1 => Found { serial: self.special(t, id, create, now)?, possessed: true },
            id if id < 1 => return Err(Errno::EINVAL),
            serial => {
                self.get(serial)?;
                Found { serial, possessed: self.is_possessed(t, serial, now) }
            }
        };
        let key = self.get(found.serial)?;
        match key.state {
            // What is only to be taken out of a keyring may be in any state.
            _ if partial && want == 0 => {}
            State::Negative(_) if partial => {}
            _ => key.validate(now)?,
        }
        self.permit(t.creds(), found, want)?;
        Ok(found)
    }

    /// Searches a keyring and those in it. `ENOKEY` if nothing is there; a key that is no longer of use gives its
    /// own error when nothing better is found.
    fn search(
        &self,
        creds: &Credentials,
        (root, possessed): (i32, bool),
        wanted: &Wanted<'_>,
        now: u64,
    ) -> Result<i32> {
        let by_name = matches!(wanted, Wanted::Named(..));
        let mut worst = Errno::ENOKEY;
        let mut seen = BTreeSet::new();
        let mut level = vec![root];
        let matches = |serial: i32, key: &super::Key| match wanted {
            Wanted::Named(kind, description) => {
                key.kind == *kind && key.description == *description
            }
            Wanted::This(wanted) => serial == *wanted,
        };
        for _ in 0..=MAX_DEPTH {
            let mut inner = Vec::new();
            for ring in level {
                let Some(key) = self.keys.get(&ring) else { continue };
                // The keyring itself may be what is looked for, if it is known by its number.
                if !by_name && matches(ring, key) {
                    return Ok(ring);
                }
                if key.validate(now).is_err() || !key.allows(creds, possessed, perm::SEARCH) {
                    continue;
                }
                for serial in &key.links {
                    let Some(link) = self.keys.get(serial) else { continue };
                    if matches(*serial, link) {
                        let usable = if by_name { link.validate(now) } else { Ok(()) };
                        let allowed = !by_name || link.allows(creds, possessed, perm::SEARCH);
                        match usable {
                            Err(errno) => worst = errno,
                            Ok(()) if allowed => return Ok(*serial),
                            Ok(()) => worst = Errno::EACCES,
                        }
                    }
                    if link.kind == Kind::Keyring && seen.insert(*serial) {
                        inner.push(*serial);
                    }
                }
            }
            level = inner;
            if level.is_empty() {
                break;
            }
        }
        Err(worst)
    }

    /// `KEYCTL_SEARCH`: a key in a keyring, linked into another one if that is given.
    pub fn search_ring(
        &mut self,
        t: &CurrentTask,
        ring: Found,
        (kind, description): (Kind, &[u8]),
        destination: Option<Found>,
    ) -> Result<i32> {
        let now = t.kernel().time.realtime();
        if self.get(ring.serial)?.kind != Kind::Keyring {
            return Err(Errno::ENOTDIR);
        }
        let root = (ring.serial, ring.possessed);
        let serial = self.search(t.creds(), root, &Wanted::Named(kind, description), now)?;
        if let Some(destination) = destination {
            self.permit(t.creds(), Found { serial, possessed: ring.possessed }, perm::LINK)?;
            self.link(destination.serial, serial, now)?;
        }
        Ok(serial)
    }

    /// `request_key(2)`: a key in one of the task's keyrings. With `make` it would be made by a program; there is none,
    /// which is remembered for a while in the destination.
    pub fn request(
        &mut self,
        t: &mut CurrentTask,
        (kind, description): (Kind, &[u8]),
        make: bool,
        destination: Option<Found>,
    ) -> Result<i32> {
        self.reap();
        let now = t.kernel().time.realtime();
        let mut worst = Errno::ENOKEY;
        for root in self.roots(t, now) {
            let wanted = Wanted::Named(kind, description);
            match self.search(t.creds(), (root, true), &wanted, now) {
                Ok(serial) => {
                    if let Some(destination) = destination {
                        let found = Found { serial, possessed: true };
                        self.permit(t.creds(), found, perm::LINK)?;
                        self.link(destination.serial, serial, now)?;
                    }
                    return Ok(serial);
                }
                Err(Errno::ENOKEY) => {}
                Err(errno) => worst = errno,
            }
        }
        if worst != Errno::ENOKEY || !make {
            return Err(worst);
        }
        if kind == Kind::Keyring {
            return Err(Errno::EPERM);
        }
        let ring = match destination {
            Some(found) => found.serial,
            None => {
                let serial = self.default_destination(t, now)?;
                // One that was named has been checked already.
                self.permit(t.creds(), Found { serial, possessed: true }, perm::WRITE)?;
                serial
            }
        };
        let creds = t.creds().clone();
        let perm = kind.default_perm();
        let serial =
            self.make(&creds, New { kind, description, payload: &[], perm, overrun: false })?;
        if let Ok(key) = self.get_mut(serial) {
            key.state = State::Negative(Errno::ENOKEY);
            key.expires = Some(now.saturating_add(NEGATIVE_SECONDS * crate::time::NANOS));
        }
        let linked = self.link(ring, serial, now);
        self.discard(serial);
        linked?;
        Err(Errno::ENOKEY)
    }

    /// `add_key(2)`: makes a key in a keyring, or changes the one that is there.
    pub fn add(
        &mut self,
        t: &CurrentTask,
        ring: Found,
        (kind, description): (Kind, &[u8]),
        payload: &[u8],
    ) -> Result<i32> {
        let (creds, now) = (t.creds().clone(), t.kernel().time.realtime());
        if self.get(ring.serial)?.kind != Kind::Keyring {
            return Err(Errno::ENOTDIR);
        }
        kind.check(None, payload)?;
        if description.is_empty() {
            return Err(Errno::EINVAL);
        }
        if kind != Kind::Keyring {
            let links = &self.get(ring.serial)?.links;
            let old = links.iter().copied().find(|serial| {
                let same = |k: &super::Key| k.kind == kind && k.description == description;
                self.keys.get(serial).is_some_and(same)
            });
            if let Some(serial) = old {
                self.permit(&creds, Found { serial, possessed: ring.possessed }, perm::WRITE)?;
                if self.get(serial)?.state != State::Revoked {
                    self.replace_payload(serial, payload)?;
                    return Ok(serial);
                }
            }
        }
        kind.check(Some(description), payload)?;
        let perm = kind.default_perm();
        let serial = self.make(&creds, New { kind, description, payload, perm, overrun: false })?;
        let linked = self.link(ring.serial, serial, now);
        self.discard(serial);
        linked.map(|()| serial)
    }
}
