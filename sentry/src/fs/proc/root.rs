//! The top directory: fixed files, and a directory for each process.

use super::process::ProcessDir;
use super::{sysctl, system};
use crate::errno::{Errno, Result};
use crate::fs::pseudo::{Directory, Link, Listed, Node, directory, link, text_fn};
use crate::kernel::namespace::{IpcNamespace, PidNamespace};
use crate::kernel::{Kernel, ipc};
use crate::vfs::FileType;
use std::sync::{Arc, Weak};

/// `/proc`.
pub struct Root {
    kernel: Weak<Kernel>,
    pids: Arc<PidNamespace>,
    fixed: Vec<(&'static str, Node)>,
}

impl Root {
    /// The tree of a sandbox, with the processes of a pid namespace.
    pub fn new(kernel: &Arc<Kernel>, pids: &Arc<PidNamespace>) -> Self {
        let mut fixed = system::nodes(kernel);
        fixed.push(("sys", sysctl::tree(kernel)));
        fixed.push(("self", link(SelfLink { pids: pids.clone(), thread: false })));
        fixed.push(("thread-self", link(SelfLink { pids: pids.clone(), thread: true })));
        fixed.push(("mounts", link(crate::fs::pseudo::FixedLink("self/mounts"))));
        fixed.push(("net", link(crate::fs::pseudo::FixedLink("self/net"))));
        fixed.extend(super::keys::nodes(kernel));
        fixed.push(("sysvipc", sysvipc()));
        // Empty where there is no such hardware; container managers mask them or make them read-only.
        for name in ["acpi", "bus", "fs", "irq"] {
            fixed.push((name, directory::<&str>(Vec::new())));
        }
        Self { kernel: Arc::downgrade(kernel), pids: pids.clone(), fixed }
    }
}

/// `/proc/sysvipc`: what the IPC namespace of whoever looks holds.
fn sysvipc() -> Node {
    let of = |make: fn(&IpcNamespace) -> String| {
        text_fn(move || {
            crate::kernel::current().map_or(String::new(), |task| make(&task.namespaces().ipc))
        })
    };
    directory(vec![
        ("msg", of(ipc::msg::proc_text)),
        ("sem", of(ipc::sem::proc_text)),
        ("shm", of(ipc::shm::proc_text)),
    ])
}

/// Reads a name as a process or thread id: digits only, no leading zero.
pub fn parse_id(name: &[u8]) -> Option<i32> {
    if name.first() == Some(&b'0') || !name.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(name).ok()?.parse().ok()
}

impl Directory for Root {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        if let Some(id) = parse_id(name) {
            let kernel = self.kernel.upgrade().ok_or(Errno::ENOENT)?;
            let id = self.pids.global(id);
            // A thread's id works, too, though it is not listed.
            let group = match kernel.thread_group(id) {
                Some(group) => group,
                None => kernel.task(id).ok_or(Errno::ENOENT)?.group().clone(),
            };
            return Ok(Node::Directory(Arc::new(ProcessDir::of_process(
                &kernel, &self.pids, group,
            ))));
        }
        let found = self.fixed.iter().find(|(n, _)| n.as_bytes() == name);
        found.map(|(_, node)| node.clone()).ok_or(Errno::ENOENT)
    }

    fn list(&self) -> Result<Vec<Listed>> {
        let kernel = self.kernel.upgrade().ok_or(Errno::ENOENT)?;
        let mut names: Vec<Listed> =
            self.fixed.iter().map(|(name, node)| Listed::new(*name, node.file_type())).collect();
        let mut ids: Vec<i32> =
            kernel.thread_groups().iter().map(|g| self.pids.local(g.tgid())).collect();
        ids.sort_unstable();
        let ids = ids.into_iter().filter(|id| *id > 0);
        names.extend(ids.map(|id| Listed::numbered(id, FileType::Directory)));
        Ok(names)
    }
}

/// `/proc/self` and `/proc/thread-self`.
struct SelfLink {
    pids: Arc<PidNamespace>,
    thread: bool,
}

impl Link for SelfLink {
    fn text(&self) -> Result<Vec<u8>> {
        let task = crate::kernel::current().ok_or(Errno::ENOENT)?;
        let tgid = self.pids.local(task.tgid());
        if tgid == 0 {
            return Err(Errno::ENOENT);
        }
        let text = match self.thread {
            true => format!("{tgid}/task/{}", self.pids.local(task.tid())),
            false => tgid.to_string(),
        };
        Ok(text.into_bytes())
    }
}
