//! `cwd`, `root` and `exe`.

use super::Subject;
use crate::errno::{Errno, Result};
use crate::fs::pseudo::{Link, Node};
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
    place(subject, |s| Ok(s.fs()?.cwd()))
}

/// Its root.
pub fn root(subject: &Subject) -> Node {
    place(subject, |s| Ok(s.fs()?.root()))
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
