//! What keys tell about themselves, and changing that (`keyctl(2)`, `/proc/keys`, `/proc/key-users`).

use super::{Found, Keys, Kind, State, perm};
use crate::errno::{Errno, Result};
use crate::kernel::credentials::CAP_SYS_ADMIN;
use crate::kernel::{CurrentTask, Task};
use crate::time::NANOS;
use crate::vfs::permission::in_group;

impl Keys {
    /// `KEYCTL_DESCRIBE`, without the NUL.
    pub fn describe(&self, t: &CurrentTask, key: Found) -> Result<Vec<u8>> {
        let k = self.get(key.serial)?;
        let ns = &t.creds().user_ns;
        let (uid, gid) = (ns.show_uid(k.uid), ns.show_gid(k.gid));
        let mut text = format!("{};{uid};{gid};{:08x};", k.kind.name(), k.perm).into_bytes();
        text.extend(&k.description);
        Ok(text)
    }

    /// `KEYCTL_READ`: a payload, or the numbers of the keys in a keyring.
    pub fn read(&mut self, t: &mut CurrentTask, id: i32) -> Result<Vec<u8>> {
        let key = self.lookup(t, id, (false, true), 0).map_err(|_| Errno::ENOKEY)?;
        let now = t.kernel().time.realtime();
        // Who possesses a key may read it if it can be found.
        let found =
            |keys: &Self| key.possessed && keys.permit(t.creds(), key, perm::SEARCH).is_ok();
        let k = self.get(key.serial)?;
        if let State::Negative(errno) = k.state {
            return Err(errno);
        }
        if self.permit(t.creds(), key, perm::READ).is_err() && !found(self) {
            return Err(Errno::EACCES);
        }
        k.validate(now)?;
        match k.kind {
            Kind::Logon => Err(Errno::EOPNOTSUPP),
            Kind::User => Ok(k.payload.clone()),
            Kind::Keyring => Ok(k.links.iter().flat_map(|serial| serial.to_le_bytes()).collect()),
        }
    }

    /// `KEYCTL_UPDATE`
    pub fn update(&mut self, key: Found, payload: &[u8]) -> Result<()> {
        self.replace_payload(key.serial, payload)
    }

    /// `KEYCTL_REVOKE`
    pub fn revoke(&mut self, key: Found) -> Result<()> {
        if self.get(key.serial)?.kind == Kind::Keyring {
            self.clear(key.serial)?;
        }
        self.get_mut(key.serial)?.state = State::Revoked;
        Ok(())
    }

    /// `KEYCTL_INVALIDATE`: it vanishes from all keyrings.
    pub fn invalidate(&mut self, key: Found) -> Result<()> {
        self.get(key.serial)?;
        let rings = self.keys.iter().filter(|(_, k)| k.links.contains(&key.serial));
        let rings: Vec<i32> = rings.map(|(serial, _)| *serial).collect();
        for ring in rings {
            self.unlink(ring, key.serial)?;
        }
        if let Ok(key) = self.get_mut(key.serial) {
            // Someone's own keyring: of no use any more.
            key.state = State::Negative(Errno::ENOKEY);
        }
        Ok(())
    }

    /// `KEYCTL_SETPERM`
    pub fn set_perm(&mut self, t: &CurrentTask, key: Found, perm: u32) -> Result<()> {
        let (fsuid, admin) = (t.creds().fsuid, t.creds().has(CAP_SYS_ADMIN));
        let key = self.get_mut(key.serial)?;
        if key.uid != fsuid && !admin {
            return Err(Errno::EACCES);
        }
        key.perm = perm;
        Ok(())
    }

    /// `KEYCTL_CHOWN`
    pub fn chown(
        &mut self,
        t: &CurrentTask,
        key: Found,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> Result<()> {
        let creds = t.creds().clone();
        let old = self.get(key.serial)?.clone();
        if !creds.has(CAP_SYS_ADMIN) {
            let other_user = uid.is_some_and(|uid| uid != old.uid);
            let other_group = gid.is_some_and(|gid| gid != old.gid && !in_group(&creds, gid));
            if other_user || other_group {
                return Err(Errno::EACCES);
            }
        }
        if let Some(uid) = uid.filter(|uid| *uid != old.uid) {
            self.charge(uid, 1, old.charged, false)?;
            self.refund(old.uid, 1, old.charged);
        }
        let key = self.get_mut(key.serial)?;
        key.uid = uid.unwrap_or(key.uid);
        key.gid = gid.unwrap_or(key.gid);
        Ok(())
    }

    /// `KEYCTL_SET_TIMEOUT`: seconds from now, 0 for never.
    pub fn set_timeout(&mut self, t: &CurrentTask, key: Found, seconds: u32) -> Result<()> {
        let at = t.kernel().time.realtime().saturating_add(u64::from(seconds) * NANOS);
        self.get_mut(key.serial)?.expires = (seconds > 0).then_some(at);
        Ok(())
    }

    /// `KEYCTL_CLEAR`
    pub fn clear_ring(&mut self, ring: Found) -> Result<()> {
        self.clear(ring.serial)
    }

    /// `KEYCTL_LINK`
    pub fn link_key(&mut self, t: &CurrentTask, key: Found, ring: Found) -> Result<()> {
        self.link(ring.serial, key.serial, t.kernel().time.realtime())
    }

    /// `KEYCTL_UNLINK`
    pub fn unlink_key(&mut self, key: Found, ring: Found) -> Result<()> {
        self.unlink(ring.serial, key.serial)
    }

    /// `KEYCTL_MOVE`: `EEXIST` if the other keyring has such a key and it is not to be displaced.
    pub fn move_key(
        &mut self,
        t: &CurrentTask,
        key: Found,
        (from, to): (Found, Found),
        exclusive: bool,
    ) -> Result<()> {
        let k = self.get(key.serial)?;
        if !self.get(from.serial)?.links.contains(&key.serial) {
            return Err(Errno::ENOENT);
        }
        let same = |serial: &i32| {
            let other = self.keys.get(serial);
            other.is_some_and(|o| o.kind == k.kind && o.description == k.description)
        };
        if exclusive && self.get(to.serial)?.links.iter().any(same) {
            return Err(Errno::EEXIST);
        }
        if from.serial != to.serial {
            self.link(to.serial, key.serial, t.kernel().time.realtime())?;
            self.unlink(from.serial, key.serial)?;
        }
        Ok(())
    }

    /// `KEYCTL_RESTRICT_KEYRING` without a type: no links are added any more.
    pub fn restrict(&mut self, ring: Found) -> Result<()> {
        let key = self.get_mut(ring.serial)?;
        if key.kind != Kind::Keyring {
            return Err(Errno::ENOTDIR);
        }
        if key.restricted {
            return Err(Errno::EEXIST);
        }
        key.restricted = true;
        Ok(())
    }

    /// `/proc/keys`: those that a task may view.
    pub fn proc_keys(&self, task: &Task) -> String {
        let (creds, now) = (task.creds(), task.kernel().time.realtime());
        let roots = creds.keyrings.of(task.tid(), task.tgid());
        let mut possessed: Vec<i32> = roots.into_iter().flatten().collect();
        let mut at = 0;
        while let Some(serial) = possessed.get(at).copied() {
            let links = self.keys.get(&serial).map_or(&[][..], |k| &k.links);
            let new: Vec<i32> = links.iter().copied().filter(|s| !possessed.contains(s)).collect();
            possessed.extend(new);
            at += 1;
        }
        let mut out = String::new();
        for (serial, k) in &self.keys {
            if !k.allows(&creds, possessed.contains(serial), perm::VIEW) {
                continue;
            }
            let flag = |set: bool, letter: char| if set { letter } else { '-' };
            let negative = matches!(k.state, State::Negative(_));
            let flags: String = [
                'I',
                flag(k.state == State::Revoked, 'R'),
                '-',
                'Q',
                '-',
                flag(negative, 'N'),
                '-',
            ]
            .into_iter()
            .collect();
            let detail = match k.kind {
                _ if negative => String::new(),
                Kind::Keyring if k.links.is_empty() => ": empty".to_owned(),
                Kind::Keyring => format!(": {}", k.links.len()),
                Kind::User | Kind::Logon => format!(": {}", k.payload.len()),
            };
            let ns = &creds.user_ns;
            let (uid, gid) = (ns.show_uid(k.uid), ns.show_gid(k.gid));
            out += &format!(
                "{serial:08x} {flags} {:5} {:>4} {:08x} {uid:5} {gid:5} {:<9.9} {}{detail}\n",
                k.refs,
                timeout(k.expires, now),
                k.perm,
                k.kind.name(),
                String::from_utf8_lossy(&k.description),
            );
        }
        out
    }

    /// `/proc/key-users`
    pub fn proc_key_users(&self, task: &Task) -> String {
        let creds = task.creds();
        let lines = self.usage.iter().filter_map(|(uid, usage)| {
            let shown = creds.user_ns.uid_from_kernel(*uid)?;
            let (max_keys, max_bytes) = self.limits_of(*uid);
            let (n, bytes) = (usage.keys, usage.bytes);
            Some(format!("{shown:5}: {n:5} {n}/{n} {n}/{max_keys} {bytes}/{max_bytes}\n"))
        });
        lines.collect()
    }
}

/// Time left, as `/proc/keys` shows it.
fn timeout(expires: Option<u64>, now: u64) -> String {
    let Some(at) = expires else { return "perm".to_owned() };
    if at <= now {
        return "expd".to_owned();
    }
    let left = (at - now) / NANOS;
    match left {
        0..60 => format!("{left}s"),
        60..3600 => format!("{}m", left / 60),
        3600..86400 => format!("{}h", left / 3600),
        86400..604_800 => format!("{}d", left / 86400),
        _ => format!("{}w", left / 604_800),
    }
}
