//! The containers of a sandbox: the one that it was started with, and those that joined (a pod's).
//!
//! All share the kernel, the network, IPC and the host name. Each has its own gofer, root file system, mounts and
//! pid namespace. One that joined lives no longer than the connection that made it, and the sandbox no longer
//! than its first one.

use super::container::{Container, Joined, Parts};
use super::protocol::Target;
use super::stdio::Files;
use super::{
    BootError, ContainerSpec, EgressSpec, Network, NetworkMessage, NetworkSpec, loopback, mounts,
};
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::kernel::cgroup::{Access, CONTAINER_PREFIX, Cgroup};
use crate::kernel::namespace::{CgroupNamespace, Namespaces};
use crate::kernel::signal::Signal;
use crate::socket::inet::uplink::Uplink;
use gofer::Client;
use platform::host::{Errno as HostErrno, thread};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Stack of a thread that waits, in bytes.
const STACK: usize = 128 << 10;

/// Longest wait for a container's processes to end once they are killed.
const END_LIMIT: Duration = Duration::from_secs(10);

/// The containers of a sandbox.
pub struct Pod {
    /// The one that the sandbox was started with.
    pub first: Arc<Container>,
    others: parking_lot::Mutex<BTreeMap<String, Arc<Container>>>,
    joined: Joined,
    reports: Reports,
    later: parking_lot::Mutex<Option<Later>>,
}

/// What a network that comes later is started with.
#[derive(Debug)]
pub struct Later {
    /// Whom it may reach.
    pub egress: Option<EgressSpec>,
    /// Where its packets are kept.
    pub pcap: Option<OwnedFd>,
}

/// Reports of a process's end that somebody waits for.
#[derive(Default)]
struct Reports {
    pending: parking_lot::Mutex<usize>,
    changed: parking_lot::Condvar,
}

/// A report that is to be sent before the sandbox may end.
pub struct Report(Arc<Pod>);

impl Drop for Report {
    fn drop(&mut self) {
        *self.0.reports.pending.lock() -= 1;
        self.0.reports.changed.notify_all();
    }
}

/// How long the end of the sandbox waits for its last reports to be sent.
const LAST_REPORTS: Duration = Duration::from_millis(500);

impl Pod {
    /// A sandbox with one container.
    pub fn new(first: Arc<Container>, joined: Joined, later: Option<Later>) -> Arc<Pod> {
        let others = parking_lot::Mutex::new(BTreeMap::new());
        let later = parking_lot::Mutex::new(later);
        Arc::new(Pod { first, others, joined, reports: Reports::default(), later })
    }

    /// Gives the sandbox the network that was to come later.
    pub fn give_network(
        &self,
        message: NetworkMessage,
        sockets: Vec<OwnedFd>,
    ) -> Result<(), BootError> {
        let Some(Later { egress, pcap }) = self.later.lock().take() else {
            return Err(BootError::Network(Errno::EEXIST));
        };
        let mut spec = NetworkSpec { egress, ..message.join(sockets) };
        let net = self.first.kernel.namespaces.net.net();
        let loopback = spec.loopback.take();
        Uplink::start(net, Network::Interfaces(spec), pcap).map_err(BootError::Network)?;
        match loopback {
            Some(spec) => loopback::serve(net, spec).map_err(super::run::thread_failed),
            None => Ok(()),
        }
    }

    /// Announces a report; it counts as sent when the result is dropped.
    pub fn report(self: &Arc<Self>) -> Report {
        *self.reports.pending.lock() += 1;
        Report(self.clone())
    }

    /// Waits until every report of an end has been sent, for a limited time: a process that does not die of
    /// SIGKILL must not keep the sandbox alive.
    pub fn wait_reports(&self) {
        let mut pending = self.reports.pending.lock();
        let end = Instant::now() + LAST_REPORTS;
        while *pending > 0 && !self.reports.changed.wait_until(&mut pending, end).timed_out() {}
    }

    /// The container of that name.
    pub fn find(&self, id: &str) -> Option<Arc<Container>> {
        if self.first.id == id {
            return Some(self.first.clone());
        }
        self.others.lock().get(id).cloned()
    }

    /// Makes a further container, up to its first process.
    pub fn create(
        &self,
        spec: &ContainerSpec,
        files: Files,
        channels: Vec<OwnedFd>,
    ) -> Result<Arc<Container>, BootError> {
        if self.find(&spec.id).is_some() {
            return Err(BootError::Exists(spec.id.clone()));
        }
        let kernel: &Arc<Kernel> = &self.first.kernel;
        let gofer = Arc::new(Client::connect(channels).map_err(BootError::Gofer)?);
        let root = &kernel.namespaces.pid_for_children;
        let owner = match &spec.pids_of {
            None => None,
            Some(id) => Some(self.find(id).ok_or_else(|| BootError::NoContainer(id.clone()))?),
        };
        let space = match &owner {
            Some(owner) => owner.space().clone(),
            None => root.create_separate(root.user_ns()).map_err(BootError::Kernel)?,
        };
        let cgroup = self.group_for(&spec.id).map_err(BootError::Kernel)?;
        let user_ns = kernel.namespaces.cgroup.user_ns();
        let cgroup_ns = CgroupNamespace::create(user_ns, cgroup.clone());
        let namespaces = Namespaces {
            pid_for_children: space,
            cgroup: cgroup_ns.map_err(BootError::Kernel)?,
            ..(*kernel.namespaces).clone()
        };
        let namespaces = Container::namespaces(kernel, namespaces, spec)?;
        let mounts = mounts::build(kernel, &namespaces, &gofer, spec)?;
        let container = Arc::new(Container::new(Parts {
            cgroup,
            owns_pids: owner.is_none(),
            kernel: kernel.clone(),
            namespaces,
            mounts,
            joined: self.joined.clone(),
            files,
            spec,
        })?);
        container.check()?;
        container.limit(&spec.limits);
        let _ = container.gofer.set(gofer.clone());
        watch_gofer(&container, gofer).map_err(super::run::thread_failed)?;
        match self.others.lock().entry(spec.id.clone()) {
            std::collections::btree_map::Entry::Occupied(_) => {
                return Err(BootError::Exists(spec.id.clone()));
            }
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(container.clone());
            }
        }
        if self.joined.fetch_add(1, Ordering::SeqCst) == 0 {
            // What was the limit of the whole sandbox is that of its first container from now on.
            kernel.limits.set(Some(u64::MAX), Some(u64::MAX));
        }
        Ok(container)
    }

    /// A control group for a further container, beside the first one's: its own processes see nothing above it.
    fn group_for(&self, id: &str) -> Result<Arc<Cgroup>> {
        let kernel = &self.first.kernel;
        let above = kernel.cgroup.parent().ok_or(Errno::ENODEV)?;
        let access = Access { mode: 0o755, uid: 0, gid: 0 };
        let name = group_name(id);
        // What an earlier container of that name could not take with it has ended since, or is in the way.
        let _ = above.remove(kernel, &name);
        above.create(kernel, &name, access)
    }

    /// Starts the first process of a container; its id there.
    pub fn start(&self, container: &Arc<Container>) -> Result<i32, BootError> {
        let pid = container.start()?;
        if !container.is_first() {
            let watched = container.clone();
            let wait = move || {
                let status = watched.kernel.outsiders.wait(watched.first());
                if let Some(console) = &watched.console {
                    console.finish();
                }
                if watched.shares_processes() {
                    // No pid namespace ends with it. There may be nobody left.
                    let _ = watched.signal(Target::All, 0, Signal::SIGKILL.number());
                }
                watched.finish(status.unwrap_or(0));
            };
            thread::spawn("container-wait", STACK, wait).map_err(super::run::thread_failed)?;
        }
        Ok(pid)
    }

    /// Ends a container that joined; nothing of it is left.
    pub fn destroy(&self, container: &Arc<Container>) {
        container.end(END_LIMIT);
        let mut others = self.others.lock();
        if others.get(&container.id).is_some_and(|known| Arc::ptr_eq(known, container)) {
            others.remove(&container.id);
            self.joined.fetch_sub(1, Ordering::SeqCst);
        }
        drop(others);
        let kernel = &self.first.kernel;
        if let Some(above) = kernel.cgroup.parent() {
            // A process that does not die keeps its group; see `group_for`.
            let _ = above.remove(kernel, &group_name(&container.id));
        }
    }
}

/// Name of the control group of a container that joined; the first one's has no such prefix.
fn group_name(id: &str) -> Vec<u8> {
    [CONTAINER_PREFIX, id.as_bytes()].concat()
}

/// A container without files is of no use: it ends with its gofer.
fn watch_gofer(container: &Arc<Container>, gofer: Arc<Client>) -> Result<(), HostErrno> {
    let watched = Arc::downgrade(container);
    thread::spawn("gofer-watch", STACK, move || {
        gofer.wait_for_death();
        if let Some(container) = watched.upgrade() {
            container.end(END_LIMIT);
        }
    })
    .map(drop)
}
