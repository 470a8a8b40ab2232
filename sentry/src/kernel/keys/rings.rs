//! The keyrings that tasks and users have (`thread-keyring(7)`, `process-keyring(7)`, `session-keyring(7)`,
//! `user-keyring(7)`, `user-session-keyring(7)`).

use super::{Anchor, Keys, Kind, New, perm};
use crate::errno::{Errno, Result};
use crate::kernel::{Credentials, CurrentTask};
use std::sync::Arc;

/// Users whose keyrings are kept although they are empty.
const IDLE_USERS: usize = 1024;

/// The keyrings of a task; part of its credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keyrings {
    /// With the thread that it is: others have inherited it, but do not use it.
    thread: Option<(i32, Arc<Anchor>)>,
    /// With the process that it is.
    process: Option<(i32, Arc<Anchor>)>,
    session: Option<Arc<Anchor>>,
    /// Where `request_key(2)` puts keys (`KEY_REQKEY_DEFL_*`).
    pub destination: i32,
}

impl Keyrings {
    /// As a new program has them.
    pub fn for_exec(&self) -> Self {
        Self { thread: None, process: None, ..self.clone() }
    }

    /// Serial numbers of thread, process and session keyring of a task, as far as they exist.
    pub(super) fn of(&self, tid: i32, tgid: i32) -> [Option<i32>; 3] {
        let own = |ring: &Option<(i32, Arc<Anchor>)>, id| {
            ring.as_ref().filter(|(owner, _)| *owner == id).map(|(_, anchor)| anchor.serial)
        };
        let session = self.session.as_ref().map(|anchor| anchor.serial);
        [own(&self.thread, tid), own(&self.process, tgid), session]
    }
}

/// A user's own keyrings.
#[derive(Debug)]
pub(super) struct UserRings {
    user: i32,
    session: i32,
}

const ALL: u32 = 0x3f;

impl Keys {
    fn ring(
        &mut self,
        creds: &Credentials,
        name: &str,
        possessor: u32,
        owner: u32,
        overrun: bool,
    ) -> Result<i32> {
        let new = New {
            kind: Kind::Keyring,
            description: name.as_bytes(),
            payload: &[],
            perm: possessor << perm::POSSESSOR | owner << perm::OWNER,
            overrun,
        };
        self.make(creds, new)
    }

    /// The keyring `_uid` of the user, or `_uid_ses`.
    pub(super) fn of_user(&mut self, creds: &Credentials, session: bool, now: u64) -> Result<i32> {
        let uid = creds.uid;
        if !self.users.contains_key(&uid) {
            if self.users.len() >= IDLE_USERS {
                self.forget_idle_users();
            }
            let owner = Credentials { fsuid: uid, ..creds.clone() };
            let possessor = ALL & !perm::SETATTR;
            let user = self.ring(&owner, &format!("_uid.{uid}"), possessor, ALL, false)?;
            let ring = self.ring(&owner, &format!("_uid_ses.{uid}"), possessor, ALL, false);
            let session = match ring {
                Ok(ring) => ring,
                Err(error) => {
                    self.discard(user);
                    return Err(error);
                }
            };
            for serial in [user, session] {
                self.hold(serial);
                if let Ok(key) = self.get_mut(serial) {
                    // No group's.
                    key.gid = u32::MAX;
                }
            }
            self.users.insert(uid, UserRings { user, session });
            // Without room for the link it is not there.
            let _ = self.link(session, user, now);
        }
        let rings = self.users.get(&uid).ok_or(Errno::ENOKEY)?;
        Ok(if session { rings.session } else { rings.user })
    }

    /// Forgets users that have no keys.
    fn forget_idle_users(&mut self) {
        let idle = |rings: &UserRings| {
            let alone = |serial, refs| self.keys.get(&serial).is_some_and(|k| k.refs <= refs);
            let empty = self.keys.get(&rings.user).is_some_and(|key| key.links.is_empty());
            let linked = self.keys.get(&rings.session).map_or(0, |key| key.links.len());
            empty && linked <= 1 && alone(rings.session, 1) && alone(rings.user, 2)
        };
        let idle: Vec<u32> =
            self.users.iter().filter(|(_, rings)| idle(rings)).map(|(uid, _)| *uid).collect();
        for uid in idle {
            if let Some(rings) = self.users.remove(&uid) {
                self.release(rings.session);
                self.release(rings.user);
            }
        }
    }

    /// What a special id stands for (`KEY_SPEC_*`), made if need be and asked for.
    pub(super) fn special(
        &mut self,
        t: &mut CurrentTask,
        id: i32,
        create: bool,
        now: u64,
    ) -> Result<i32> {
        let creds = t.creds().clone();
        let [thread, process, session] = creds.keyrings.of(t.tid(), t.tgid());
        match id {
            -1 | -2 => {
                let (have, name) = if id == -1 { (thread, "_tid") } else { (process, "_pid") };
                if let Some(serial) = have {
                    return Ok(serial);
                }
                if !create {
                    return Err(Errno::ENOKEY);
                }
                let serial = self.ring(&creds, name, ALL, perm::VIEW, true)?;
                let anchor = self.anchor(serial);
                let mut creds = (*creds).clone();
                if id == -1 {
                    creds.keyrings.thread = Some((t.tid(), anchor));
                } else {
                    creds.keyrings.process = Some((t.tgid(), anchor));
                }
                t.set_creds(creds);
                Ok(serial)
            }
            -3 => {
                let of_user = self.of_user(&creds, true, now)?;
                match session {
                    Some(serial) if !(create && serial == of_user) => Ok(serial),
                    _ if create => self.join_session(t, None),
                    _ => {
                        let anchor = self.anchor(of_user);
                        let mut creds = (*creds).clone();
                        creds.keyrings.session = Some(anchor);
                        t.set_creds(creds);
                        Ok(of_user)
                    }
                }
            }
            -4 => self.of_user(&creds, false, now),
            -5 => self.of_user(&creds, true, now),
            // The keyring of a group was never written, and there are no programs that make keys for others.
            -6 => Err(Errno::EINVAL),
            _ => Err(Errno::ENOKEY),
        }
    }

    /// `KEYCTL_JOIN_SESSION_KEYRING`: goes on with the session keyring of that name, or a new one.
    pub fn join_session(&mut self, t: &mut CurrentTask, name: Option<&[u8]>) -> Result<i32> {
        self.reap();
        let creds = t.creds().clone();
        let serial = match name {
            None => self.ring(&creds, "_ses", ALL, perm::VIEW | perm::READ, false)?,
            Some(name) => match self.named_ring(&creds, name) {
                Some(serial) => serial,
                None => {
                    let owner = perm::VIEW | perm::READ | perm::LINK;
                    let perm = ALL << perm::POSSESSOR | owner << perm::OWNER;
                    let (kind, payload) = (Kind::Keyring, &[][..]);
                    let new = New { kind, description: name, payload, perm, overrun: false };
                    self.make(&creds, new)?
                }
            },
        };
        let anchor = self.anchor(serial);
        let mut creds = (*creds).clone();
        creds.keyrings.session = Some(anchor);
        t.set_creds(creds);
        Ok(serial)
    }

    /// A keyring of that name that the caller may search without possessing it.
    fn named_ring(&self, creds: &Credentials, name: &[u8]) -> Option<i32> {
        let found = self.keys.iter().find(|(_, key)| {
            key.kind == Kind::Keyring
                && key.description == name
                && key.state == super::State::Live
                && key.allows(creds, false, perm::SEARCH)
        });
        found.map(|(serial, _)| *serial)
    }

    /// Where `request_key(2)` puts a key when it is not told where.
    pub(super) fn default_destination(&mut self, t: &mut CurrentTask, now: u64) -> Result<i32> {
        let [thread, process, session] = t.creds().keyrings.of(t.tid(), t.tgid());
        match t.creds().keyrings.destination {
            1 => self.special(t, -1, true, now),
            2 => self.special(t, -2, true, now),
            4 => self.special(t, -4, true, now),
            5 => self.special(t, -5, true, now),
            3 => self.special(t, -3, false, now),
            _ => match thread.or(process).or(session) {
                Some(serial) => Ok(serial),
                None => self.special(t, -5, true, now),
            },
        }
    }
}
