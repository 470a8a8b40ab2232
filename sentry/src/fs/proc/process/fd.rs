//! `/proc/PID/fd` and `/proc/PID/fdinfo`.

use super::Subject;
use crate::errno::{Errno, Result};
use crate::fs::pseudo::{Directory, Link, Listed, Node, Rights, Text};
use crate::vfs::{File, FileType, Path};
use std::fmt::Write;
use std::sync::Arc;

/// `/proc/PID/fd`.
pub fn links(subject: &Subject) -> Node {
    Node::Directory(Arc::new(Descriptors { subject: subject.clone(), info: false }))
}

/// `/proc/PID/fdinfo`.
pub fn infos(subject: &Subject) -> Node {
    Node::Directory(Arc::new(Descriptors { subject: subject.clone(), info: true }))
}

/// What a file is called: its path, or what stands for one.
pub(super) fn name_of(subject: &Subject, file: &File) -> Result<Vec<u8>> {
    if let Some(text) = file.ops().link_text() {
        return Ok(text.into_bytes());
    }
    let path = file.path().ok_or(Errno::ENOENT)?;
    let root = subject.task()?.fs()?.root();
    Ok(path.to_bytes(&root))
}

struct Descriptors {
    subject: Subject,
    info: bool,
}

impl Directory for Descriptors {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        self.subject.may_inspect()?;
        let text = std::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let fd: i32 = text.parse().map_err(|_| Errno::ENOENT)?;
        if fd.to_string() != text {
            return Err(Errno::ENOENT);
        }
        let one = Descriptor { subject: self.subject.clone(), fd };
        one.file().map_err(|_| Errno::ENOENT)?;
        Ok(if self.info { Node::Text(Arc::new(one)) } else { Node::Link(Arc::new(one)) })
    }

    fn list(&self) -> Result<Vec<Listed>> {
        self.subject.may_inspect()?;
        // A zombie has none.
        let Ok(files) = self.subject.task().and_then(|task| task.files()) else {
            return Ok(Vec::new());
        };
        let file_type = if self.info { FileType::Regular } else { FileType::Symlink };
        Ok(files.descriptors().into_iter().map(|fd| Listed::numbered(fd, file_type)).collect())
    }

    fn rights(&self) -> Rights {
        self.subject.owned(if self.info { 0o555 } else { 0o500 })
    }
}

struct Descriptor {
    subject: Subject,
    fd: i32,
}

impl Descriptor {
    fn file(&self) -> Result<Arc<File>> {
        self.subject.task()?.files()?.get_raw(self.fd)
    }
}

impl Link for Descriptor {
    fn text(&self) -> Result<Vec<u8>> {
        name_of(&self.subject, &*self.file()?)
    }

    fn target(&self) -> Option<Result<Path>> {
        Some(self.file().map(|file| match file.path() {
            Some(path) => path.clone(),
            None => super::reopen::place(&file),
        }))
    }

    fn rights(&self) -> Rights {
        let flags = self.file().map(|file| file.flags());
        let mode = flags.map_or(0, |flags| {
            let read = if flags.readable() { 0o500 } else { 0 };
            let write = if flags.writable() { 0o300 } else { 0 };
            read | write
        });
        self.subject.owned(mode)
    }
}

impl Text for Descriptor {
    fn read(&self) -> Result<Vec<u8>> {
        let file = self.file()?;
        let cloexec = self.subject.task()?.files()?.cloexec(self.fd).unwrap_or(false);
        let flags = file.flags().bits() | if cloexec { 0o2000000 } else { 0 };
        let mut text = String::new();
        let _ = writeln!(text, "pos:\t{}", file.peek_pos());
        let _ = writeln!(text, "flags:\t0{flags:o}");
        let _ = writeln!(text, "mnt_id:\t{}", file.path().map_or(0, |path| path.mount.id()));
        let _ = writeln!(text, "ino:\t{}", file.attr().map_or(0, |attr| attr.ino));
        text.push_str(&file.ops().fdinfo());
        Ok(text.into_bytes())
    }

    fn rights(&self) -> Rights {
        self.subject.owned(0o444)
    }

    fn takes_writes_at(&self, _writable: bool) -> bool {
        false
    }
}
