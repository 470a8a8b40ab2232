//! `ns/`, `uid_map`, `gid_map`, `setgroups`, `timens_offsets`.

use super::Subject;
use crate::errno::{Errno, Result};
use crate::fs::nsfs;
use crate::fs::pseudo::{Directory, Link, Listed, Node, Rights, Text};
use crate::kernel::Task;
use crate::kernel::credentials::{CAP_SYS_ADMIN, CAP_SYS_TIME};
use crate::kernel::namespace::user::MapKind;
use crate::kernel::namespace::{Namespace, UserNamespace};
use crate::time::NANOS;
use crate::vfs::Path;
use std::sync::Arc;

type Find = fn(&Task) -> Result<Namespace>;

const NAMESPACES: &[(&str, Find)] = &[
    ("cgroup", |t| Ok(Namespace::Cgroup(t.namespaces().cgroup.clone()))),
    ("ipc", |t| Ok(Namespace::Ipc(t.namespaces().ipc.clone()))),
    ("mnt", |t| Ok(Namespace::Mount(t.fs()?.namespace()))),
    ("net", |t| Ok(Namespace::Net(t.namespaces().net.clone()))),
    ("pid", |t| Ok(Namespace::Pid(t.group().pid_ns().clone()))),
    ("pid_for_children", |t| Ok(Namespace::Pid(t.namespaces().pid_for_children.clone()))),
    ("time", |t| Ok(Namespace::Time(t.namespaces().time.clone()))),
    ("time_for_children", |t| Ok(Namespace::Time(t.namespaces().time_for_children.clone()))),
    ("user", |t| Ok(Namespace::User(t.creds().user_ns.clone()))),
    ("uts", |t| Ok(Namespace::Uts(t.namespaces().uts.clone()))),
];

struct Links(Subject);

/// `/proc/PID/ns`.
pub fn directory(subject: &Subject) -> Node {
    Node::Directory(Arc::new(Links(subject.clone())))
}

impl Directory for Links {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        let found = NAMESPACES.iter().find(|(n, _)| n.as_bytes() == name);
        let &(_, find) = found.ok_or(Errno::ENOENT)?;
        Ok(Node::Link(Arc::new(NsLink { subject: self.0.clone(), find })))
    }

    fn list(&self) -> Result<Vec<Listed>> {
        Ok(NAMESPACES.iter().map(|(name, _)| Listed::link(*name)).collect())
    }

    fn rights(&self) -> Rights {
        self.0.owned(0o511)
    }
}

struct NsLink {
    subject: Subject,
    find: Find,
}

impl NsLink {
    fn namespace(&self) -> Result<Namespace> {
        self.subject.may_inspect()?;
        (self.find)(&*self.subject.task()?)
    }
}

impl Link for NsLink {
    fn text(&self) -> Result<Vec<u8>> {
        Ok(self.namespace()?.text().into_bytes())
    }

    fn target(&self) -> Option<Result<Path>> {
        Some(self.namespace().map(nsfs::place))
    }
}

impl Subject {
    fn user_ns(&self) -> Result<Arc<UserNamespace>> {
        Ok(self.task()?.creds().user_ns.clone())
    }
}

struct IdMap {
    subject: Subject,
    kind: MapKind,
}

/// `uid_map` and `gid_map`.
pub fn id_map(subject: &Subject, kind: MapKind) -> Node {
    Node::Text(Arc::new(IdMap { subject: subject.clone(), kind }))
}

impl Text for IdMap {
    fn read(&self) -> Result<Vec<u8>> {
        let ns = self.subject.user_ns()?;
        let text = match crate::kernel::current() {
            Some(reader) => ns.map_text(self.kind, &reader.creds().user_ns),
            None => ns.map_text(self.kind, &UserNamespace::root()),
        };
        Ok(text.into_bytes())
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        let writer = crate::kernel::current().ok_or(Errno::EPERM)?;
        self.subject.user_ns()?.write_map(self.kind, data, &writer.creds())
    }

    fn rights(&self) -> Rights {
        self.subject.owned(0o644)
    }

    fn takes_writes_at(&self, _writable: bool) -> bool {
        false
    }
}

struct Setgroups(Subject);

/// `setgroups`
pub fn setgroups(subject: &Subject) -> Node {
    Node::Text(Arc::new(Setgroups(subject.clone())))
}

impl Text for Setgroups {
    fn read(&self) -> Result<Vec<u8>> {
        let allowed = self.0.user_ns()?.setgroups_allowed();
        Ok(if allowed { b"allow\n".to_vec() } else { b"deny\n".to_vec() })
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        let writer = crate::kernel::current().ok_or(Errno::EPERM)?;
        let ns = self.0.user_ns()?;
        if !writer.creds().has_in(&ns, CAP_SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
        match data.trim_ascii_end() {
            b"allow" => ns.set_setgroups(true),
            b"deny" => ns.set_setgroups(false),
            _ => Err(Errno::EINVAL),
        }
    }

    fn rights(&self) -> Rights {
        self.0.owned(0o644)
    }

    fn takes_writes_at(&self, _writable: bool) -> bool {
        false
    }
}

struct TimeOffsets(Subject);

/// `timens_offsets`: of the time namespace that children get.
pub fn timens_offsets(subject: &Subject) -> Node {
    Node::Text(Arc::new(TimeOffsets(subject.clone())))
}

fn line(name: &str, nanos: i64) -> String {
    let (seconds, rest) = (nanos.div_euclid(NANOS as i64), nanos.rem_euclid(NANOS as i64));
    format!("{name:<10} {seconds:>10} {rest:>9}\n")
}

impl Text for TimeOffsets {
    fn read(&self) -> Result<Vec<u8>> {
        let (monotonic, boottime) = self.0.task()?.namespaces().time_for_children.offsets();
        Ok([line("monotonic", monotonic), line("boottime", boottime)].concat().into_bytes())
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        let writer = crate::kernel::current().ok_or(Errno::EPERM)?;
        let time = self.0.task()?.namespaces().time_for_children.clone();
        let text = std::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
        let (mut monotonic, mut boottime) = (None, None);
        for entry in text.lines() {
            let mut words = entry.split_ascii_whitespace();
            let place = match words.next() {
                Some("monotonic" | "1") => &mut monotonic,
                Some("boottime" | "7") => &mut boottime,
                _ => return Err(Errno::EINVAL),
            };
            let mut number =
                || words.next().and_then(|w| w.parse::<i64>().ok()).ok_or(Errno::EINVAL);
            let (seconds, nanos) = (number()?, number()?);
            if !(0..NANOS as i64).contains(&nanos) || words.next().is_some() {
                return Err(Errno::EINVAL);
            }
            let total = seconds.checked_mul(NANOS as i64).and_then(|s| s.checked_add(nanos));
            *place = Some(total.ok_or(Errno::ERANGE)?);
        }
        if !writer.creds().has_in(time.user_ns(), CAP_SYS_TIME) {
            return Err(Errno::EPERM);
        }
        time.set(self.0.kernel()?.as_ref(), monotonic, boottime)
    }

    fn rights(&self) -> Rights {
        self.0.owned(0o644)
    }

    fn takes_writes_at(&self, _writable: bool) -> bool {
        false
    }
}
