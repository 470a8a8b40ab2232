//! User namespaces (`user_namespaces(7)`): ids of their own, and capabilities that count within them.
//!
//! Ids inside the kernel are those of the root namespace. A namespace maps its own ids to them; what
//! is not mapped is shown as the overflow id and cannot be named.

use super::{Counted, Kind, next_id};
use crate::errno::{Errno, Result};
use crate::kernel::Credentials;
use crate::kernel::credentials::{CAP_SETFCAP, CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN};
use crate::sync::{RwLock, rank};
use std::sync::{Arc, LazyLock, OnceLock};

/// Shown for an id that has no name in a namespace (`/proc/sys/kernel/overflowuid`).
pub const OVERFLOW_ID: u32 = 65534;
/// Deepest nesting.
const MAX_LEVEL: u32 = 32;
/// Most extents of a map.
const MAX_EXTENTS: usize = 340;

/// A range of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First id in the namespace.
    pub first: u32,
    /// First id below: of the parent as written, of the root namespace as kept.
    pub lower: u32,
    /// Number of ids.
    pub count: u32,
}

/// Which of a namespace's two maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapKind {
    /// `uid_map`
    User,
    /// `gid_map`
    Group,
}

#[derive(Debug, Default, Clone)]
struct Map(Vec<Extent>);

impl Map {
    fn down(&self, id: u32) -> Option<u32> {
        self.down_range(id, 1)
    }

    /// The lower id of a range that lies within one extent.
    fn down_range(&self, id: u32, count: u32) -> Option<u32> {
        self.0.iter().find_map(|e| {
            let offset = id.checked_sub(e.first)?;
            let fits = u64::from(offset) + u64::from(count) <= u64::from(e.count);
            fits.then(|| e.lower.wrapping_add(offset))
        })
    }

    fn up(&self, id: u32) -> Option<u32> {
        self.0.iter().find_map(|e| {
            let offset = id.checked_sub(e.lower)?;
            (offset < e.count).then(|| e.first.wrapping_add(offset))
        })
    }
}

#[derive(Debug)]
struct State {
    users: Map,
    groups: Map,
    /// `setgroups(2)` is allowed once there is a group map.
    setgroups: bool,
}

/// A user namespace.
#[derive(Debug)]
pub struct UserNamespace {
    id: u64,
    level: u32,
    parent: Option<Arc<UserNamespace>>,
    /// Effective user id of whoever made it.
    owner: u32,
    /// Its maker had `CAP_SETFCAP`, so that it may map the parent's root.
    parent_could_setfcap: bool,
    state: RwLock<State, { rank::LEAF }>,
    _counted: Option<Counted>,
}

impl PartialEq for UserNamespace {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for UserNamespace {}

/// What the maps of the root namespace look like, where that is not what they are.
static SHOWN: OnceLock<[Vec<Extent>; 2]> = OnceLock::new();

static ROOT: LazyLock<Arc<UserNamespace>> = LazyLock::new(|| {
    let all = Map(vec![Extent { first: 0, lower: 0, count: u32::MAX }]);
    Arc::new(UserNamespace {
        id: Kind::User.initial_id(),
        level: 0,
        parent: None,
        owner: 0,
        parent_could_setfcap: true,
        state: RwLock::new(State { users: all.clone(), groups: all, setgroups: true }),
        _counted: None,
    })
});

impl UserNamespace {
    /// The first one.
    pub fn root() -> Arc<UserNamespace> {
        ROOT.clone()
    }

    /// A child of the creator's namespace. `ENOSPC` when nested too deeply or too many, `EPERM` if the
    /// creator's ids have no name in its own namespace.
    pub fn create(creator: &Credentials) -> Result<Arc<UserNamespace>> {
        let parent = &creator.user_ns;
        if parent.level > MAX_LEVEL {
            return Err(Errno::ENOSPC);
        }
        if parent.uid_from_kernel(creator.euid).is_none()
            || parent.gid_from_kernel(creator.egid).is_none()
        {
            return Err(Errno::EPERM);
        }
        let counted = Counted::new(Kind::User)?;
        let setgroups = parent.state.read().setgroups;
        Ok(Arc::new(UserNamespace {
            id: next_id(),
            level: parent.level + 1,
            parent: Some(parent.clone()),
            owner: creator.euid,
            parent_could_setfcap: creator.has_own(CAP_SETFCAP),
            state: RwLock::new(State { users: Map::default(), groups: Map::default(), setgroups }),
            _counted: Some(counted),
        }))
    }

    /// Inode number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Steps below the root namespace.
    pub fn level(&self) -> u32 {
        self.level
    }

    /// True for the first one, in which all ids are those of the kernel.
    pub fn is_root(&self) -> bool {
        self.parent.is_none()
    }

    /// The namespace above.
    pub fn parent(&self) -> Option<&Arc<UserNamespace>> {
        self.parent.as_ref()
    }

    /// User id (of the root namespace) of its maker.
    pub fn owner(&self) -> u32 {
        self.owner
    }

    /// True if `self` is `other` or above it.
    pub fn contains(&self, other: &UserNamespace) -> bool {
        let mut at = other;
        while at.level > self.level {
            let Some(parent) = &at.parent else { break };
            at = parent;
        }
        at == self
    }

    /// The kernel's id for a user id here; `None` if it has no mapping.
    pub fn uid_to_kernel(&self, uid: u32) -> Option<u32> {
        self.to_kernel(MapKind::User, uid)
    }

    /// The kernel's id for a group id here.
    pub fn gid_to_kernel(&self, gid: u32) -> Option<u32> {
        self.to_kernel(MapKind::Group, gid)
    }

    /// What a user is called here; `None` if it has no name.
    pub fn uid_from_kernel(&self, uid: u32) -> Option<u32> {
        self.from_kernel(MapKind::User, uid)
    }

    /// What a group is called here.
    pub fn gid_from_kernel(&self, gid: u32) -> Option<u32> {
        self.from_kernel(MapKind::Group, gid)
    }

    /// What a user is shown as here: the overflow id if it has no name.
    pub fn show_uid(&self, uid: u32) -> u32 {
        self.uid_from_kernel(uid).unwrap_or(OVERFLOW_ID)
    }

    /// What a group is shown as here.
    pub fn show_gid(&self, gid: u32) -> u32 {
        self.gid_from_kernel(gid).unwrap_or(OVERFLOW_ID)
    }

    fn map<T>(&self, kind: MapKind, f: impl FnOnce(&Map) -> T) -> T {
        let state = self.state.read();
        match kind {
            MapKind::User => f(&state.users),
            MapKind::Group => f(&state.groups),
        }
    }

    /// The kernel's id for an id here.
    pub fn to_kernel(&self, kind: MapKind, id: u32) -> Option<u32> {
        match self.is_root() {
            true => (id != u32::MAX).then_some(id),
            false => self.map(kind, |map| map.down(id)),
        }
    }

    /// What a kernel id is called here. No namespace has a name for -1, which is nobody.
    pub fn from_kernel(&self, kind: MapKind, id: u32) -> Option<u32> {
        match self.is_root() {
            true => (id != u32::MAX).then_some(id),
            false => self.map(kind, |map| map.up(id)),
        }
    }

    /// True once the map is there, which then stays.
    pub fn has_map(&self, kind: MapKind) -> bool {
        self.map(kind, |map| !map.0.is_empty())
    }

    /// Whether `setgroups(2)` may be used (`userns_may_setgroups`).
    pub fn may_setgroups(&self) -> bool {
        let state = self.state.read();
        state.setgroups && !state.groups.0.is_empty()
    }

    /// The setting in `/proc/PID/setgroups`.
    pub fn setgroups_allowed(&self) -> bool {
        self.state.read().setgroups
    }

    /// Changes that setting. `EPERM` for allowing what was denied, or denying it once there is a group
    /// map.
    pub fn set_setgroups(&self, allowed: bool) -> Result<()> {
        let mut state = self.state.write();
        if allowed {
            return if state.setgroups { Ok(()) } else { Err(Errno::EPERM) };
        }
        if !state.groups.0.is_empty() {
            return Err(Errno::EPERM);
        }
        state.setgroups = false;
        Ok(())
    }

    /// Says what the root namespace's maps, users and groups, look like from inside: those of the container's user namespace
    /// on the host, where it was given one. Its own files and processes have all ids. Called once, before the first task.
    pub fn show_root_as(maps: [Vec<Extent>; 2]) {
        // Said twice, the first one holds.
        let _ = SHOWN.set(maps);
    }

    /// A map as `/proc/PID/uid_map` shows it to a reader in namespace `reader`.
    pub fn map_text(&self, kind: MapKind, reader: &UserNamespace) -> String {
        if let Some([users, groups]) = SHOWN.get().filter(|_| self.parent.is_none()) {
            let map = if kind == MapKind::User { users } else { groups };
            let line = |e: &Extent| format!("{:>10} {:>10} {:>10}\n", e.first, e.lower, e.count);
            return map.iter().map(line).collect();
        }
        let lower = match &self.parent {
            Some(parent) if reader == self => parent,
            _ => reader,
        };
        let extents = self.map(kind, |map| map.0.clone());
        extents
            .iter()
            .map(|e| {
                let below = lower.from_kernel(kind, e.lower).unwrap_or(u32::MAX);
                format!("{:>10} {below:>10} {:>10}\n", e.first, e.count)
            })
            .collect()
    }

    /// Writes a map, which can be done once. `writer` are the credentials of the writing process.
    /// `EINVAL` for a malformed text, `EPERM` if the writer may not make that mapping.
    pub fn write_map(&self, kind: MapKind, text: &[u8], writer: &Credentials) -> Result<()> {
        let parent = self.parent.as_ref().ok_or(Errno::EPERM)?;
        if *writer.user_ns != *self && writer.user_ns != *parent {
            return Err(Errno::EPERM);
        }
        if self.has_map(kind) || !writer.has_in(self, CAP_SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
        let mut extents = parse(text)?;
        self.permit(kind, &extents, parent, writer)?;
        for extent in &mut extents {
            let range = parent.map(kind, |map| map.down_range(extent.lower, extent.count));
            extent.lower = range.ok_or(Errno::EPERM)?;
        }
        let mut state = self.state.write();
        let map = match kind {
            MapKind::User => &mut state.users,
            MapKind::Group => &mut state.groups,
        };
        if !map.0.is_empty() {
            return Err(Errno::EPERM);
        }
        map.0 = extents;
        Ok(())
    }

    /// `new_idmap_permitted`.
    fn permit(
        &self,
        kind: MapKind,
        extents: &[Extent],
        parent: &Arc<UserNamespace>,
        writer: &Credentials,
    ) -> Result<()> {
        let maps_root = kind == MapKind::User && extents.iter().any(|e| e.lower == 0);
        if maps_root {
            let may = match *writer.user_ns == *self {
                true => self.parent_could_setfcap,
                false => writer.has_in(parent, CAP_SETFCAP),
            };
            if !may {
                return Err(Errno::EPERM);
            }
        }
        if let [Extent { lower, count: 1, .. }] = extents
            && self.owner == writer.euid
        {
            let own = match kind {
                MapKind::User => parent.uid_to_kernel(*lower) == Some(writer.euid),
                MapKind::Group => {
                    !self.setgroups_allowed() && parent.gid_to_kernel(*lower) == Some(writer.egid)
                }
            };
            if own {
                return Ok(());
            }
        }
        let capability = if kind == MapKind::User { CAP_SETUID } else { CAP_SETGID };
        if writer.has_in(parent, capability) { Ok(()) } else { Err(Errno::EPERM) }
    }
}

/// Reads lines of three numbers. `EINVAL` unless they are well-formed and do not overlap.
fn parse(text: &[u8]) -> Result<Vec<Extent>> {
    let text = std::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let mut extents: Vec<Extent> = Vec::new();
    for line in text.split('\n') {
        let mut words = line.split_ascii_whitespace().map(number);
        let mut next = || words.next().flatten().ok_or(Errno::EINVAL);
        let extent = Extent { first: next()?, lower: next()?, count: next()? };
        if words.next().is_some() {
            return Err(Errno::EINVAL);
        }
        let overflows = |start: u32| start == u32::MAX || start.checked_add(extent.count).is_none();
        if extent.count == 0 || overflows(extent.first) || overflows(extent.lower) {
            return Err(Errno::EINVAL);
        }
        if extents.iter().any(|other| overlap(other, &extent)) || extents.len() >= MAX_EXTENTS {
            return Err(Errno::EINVAL);
        }
        extents.push(extent);
    }
    Ok(extents)
}

/// A number as `simple_strtoul` reads it with base 10.
fn number(word: &str) -> Option<u32> {
    if !word.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    word.parse().ok()
}

fn overlap(a: &Extent, b: &Extent) -> bool {
    let meet = |x: u32, y: u32| {
        u64::from(x) < u64::from(y) + u64::from(b.count)
            && u64::from(y) < u64::from(x) + u64::from(a.count)
    };
    meet(a.first, b.first) || meet(a.lower, b.lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_parsed_strictly() {
        assert_eq!(parse(b"0 1000 1\n").unwrap(), [Extent { first: 0, lower: 1000, count: 1 }]);
        assert_eq!(parse(b"0 1000 10\n 10 0 1").unwrap().len(), 2);
        for bad in ["", "0 0", "0 0 0", "0 0 1 1", "x 0 1", "0 0 10\n5 100 1", "4294967295 0 1"] {
            assert_eq!(parse(bad.as_bytes()), Err(Errno::EINVAL), "{bad:?}");
        }
    }

    #[test]
    fn an_unprivileged_user_maps_itself() {
        let user =
            Credentials { uid: 1000, euid: 1000, gid: 100, egid: 100, ..Credentials::default() };
        let ns = UserNamespace::create(&user).unwrap();
        let inside = Credentials { user_ns: ns.clone(), effective: u64::MAX, ..user.clone() };
        assert_eq!(ns.show_uid(1000), OVERFLOW_ID);
        assert_eq!(ns.write_map(MapKind::User, b"0 0 1", &inside), Err(Errno::EPERM));
        ns.write_map(MapKind::User, b"0 1000 1", &inside).unwrap();
        assert_eq!(ns.write_map(MapKind::User, b"0 1000 1", &inside), Err(Errno::EPERM));
        assert_eq!((ns.show_uid(1000), ns.uid_to_kernel(0)), (0, Some(1000)));
        assert_eq!(ns.write_map(MapKind::Group, b"0 100 1", &inside), Err(Errno::EPERM));
        ns.set_setgroups(false).unwrap();
        ns.write_map(MapKind::Group, b"0 100 1", &inside).unwrap();
        assert!(!ns.may_setgroups());
        assert!(inside.has_in(&ns, CAP_SETUID) && !inside.has(CAP_SETUID));
        assert!(user.has_in(&ns, CAP_SETUID), "the owner has all capabilities over it");
    }
}
