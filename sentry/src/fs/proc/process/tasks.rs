//! `/proc/PID/task`.

use super::{ProcessDir, Subject};
use crate::errno::{Errno, Result};
use crate::fs::proc::root::parse_id;
use crate::fs::pseudo::{Directory, Listed, Node};
use crate::vfs::FileType;
use std::sync::Arc;

struct Tasks(Subject);

/// The directory.
pub fn directory(subject: &Subject) -> Node {
    Node::Directory(Arc::new(Tasks(subject.clone())))
}

impl Directory for Tasks {
    /// Sandboxes of browsers learn from it that a process has one thread.
    fn links(&self) -> u32 {
        2u32.saturating_add(u32::try_from(self.0.group.tasks().len()).unwrap_or(u32::MAX))
    }

    fn lookup(&self, name: &[u8]) -> Result<Node> {
        let id = self.0.pids.global(parse_id(name).ok_or(Errno::ENOENT)?);
        let task = self.0.group.tasks().into_iter().find(|task| task.tid() == id);
        let task = task.ok_or(Errno::ENOENT)?;
        Ok(Node::Directory(Arc::new(ProcessDir::of_task(&self.0, task))))
    }

    fn list(&self) -> Result<Vec<Listed>> {
        let mut ids: Vec<i32> =
            self.0.group.tasks().iter().map(|task| self.0.pids.local(task.tid())).collect();
        ids.sort_unstable();
        Ok(ids.into_iter().map(|id| Listed::numbered(id, FileType::Directory)).collect())
    }
}
