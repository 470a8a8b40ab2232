//! `cwd`, `root`, `exe` and `ns/`.

use super::Subject;
use crate::errno::{Errno, Result};
use crate::fs::pseudo::{Directory, Link, Listed, Node, Rights};
use crate::vfs::Path;
use std::sync::Arc;

struct Place {
    subject: Subject,
    find: fn(&Subject) -> Result<Path>,
}

fn place(subject: &Subject, find: fn(&Subject) -> Result<Path>) -> Node {
    Node::Link(Arc::new(Place { subject: subject.clone(), find }))
}

/// Its working directory.
pub fn cwd(subject: &Subject) -> Node {
    place(subject, |s| Ok(s.task()?.fs()?.cwd()))
}

/// Its root.
pub fn root(subject: &Subject) -> Node {
    place(subject, |s| Ok(s.task()?.fs()?.root()))
}

/// Its program.
pub fn exe(subject: &Subject) -> Node {
    place(subject, |s| {
        let exe = s.mm().ok_or(Errno::ENOENT)?.exec_info().exe.clone().ok_or(Errno::ENOENT)?;
        exe.path().cloned().ok_or(Errno::ENOENT)
    })
}

impl Link for Place {
    fn text(&self) -> Result<Vec<u8>> {
        self.subject.may_inspect()?;
        let root = match crate::kernel::current() {
            Some(reader) => reader.fs()?.root(),
            None => self.subject.task()?.fs()?.root(),
        };
        Ok((self.find)(&self.subject)?.to_bytes(&root))
    }

    fn target(&self) -> Option<Result<Path>> {
        Some(self.subject.may_inspect().and_then(|()| (self.find)(&self.subject)))
    }
}

/// Names of namespaces with the inode numbers of the initial ones (`PROC_*_INIT_INO`).
const NAMESPACES: &[(&str, &str, u64)] = &[
    ("cgroup", "cgroup", 0xeffffffb),
    ("ipc", "ipc", 0xefffffff),
    ("mnt", "mnt", 0xeffffff8),
    ("net", "net", 0xeffffff9),
    ("pid", "pid", 0xeffffffc),
    ("pid_for_children", "pid", 0xeffffffc),
    ("time", "time", 0xeffffffa),
    ("time_for_children", "time", 0xeffffffa),
    ("user", "user", 0xeffffffd),
    ("uts", "uts", 0xeffffffe),
];

struct Namespaces(Subject);

/// `/proc/PID/ns`. There is one namespace of each kind.
pub fn namespaces(subject: &Subject) -> Node {
    Node::Directory(Arc::new(Namespaces(subject.clone())))
}

impl Directory for Namespaces {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        let found = NAMESPACES.iter().find(|(n, ..)| n.as_bytes() == name);
        let &(_, kind, ino) = found.ok_or(Errno::ENOENT)?;
        Ok(Node::Link(Arc::new(Namespace { subject: self.0.clone(), kind, ino })))
    }

    fn list(&self) -> Result<Vec<Listed>> {
        Ok(NAMESPACES.iter().map(|(name, ..)| Listed::link(*name)).collect())
    }

    fn rights(&self) -> Rights {
        self.0.owned(0o511)
    }
}

struct Namespace {
    subject: Subject,
    kind: &'static str,
    ino: u64,
}

impl Link for Namespace {
    fn text(&self) -> Result<Vec<u8>> {
        self.subject.may_inspect()?;
        Ok(format!("{}:[{}]", self.kind, self.ino).into_bytes())
    }

    fn target(&self) -> Option<Result<Path>> {
        // Opening one needs nsfs, which comes with namespaces of the guest's own.
        Some(Err(Errno::EACCES))
    }
}
