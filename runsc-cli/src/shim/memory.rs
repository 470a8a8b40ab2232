//! Processes of a container that are killed for want of memory: by the sandbox, which keeps the container's limit, or by the
//! host, which keeps that of the whole sandbox. containerd is told of both (`/tasks/oom`).

use super::events::Event;
use crate::cgroup::Kills;
use crate::container::Container;
use crate::sandbox::control::Control;
use containerd_shim_protos::events::task::TaskOOM;
use containerd_shim_protos::topics::TASK_OOM_EVENT_TOPIC;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sentry::boot::protocol::{Reply, Request};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::Sender;

/// Watches a container's memory.
#[derive(Default)]
pub struct MemoryWatch {
    /// A connection that has asked for news.
    sandbox: Option<Control>,
    host: Option<Kills>,
}

impl MemoryWatch {
    /// Starts watching, as far as that is possible: a container may have ended already, or have no control group.
    pub fn start(container: &Container) -> Self {
        let ask = |control: Control| control.tell(&Request::WatchMemory, &[]).map(|()| control);
        let group = container.state().ok().and_then(|state| state.cgroup.as_ref());
        Self { sandbox: container.running().and_then(ask).ok(), host: group.and_then(Kills::watch) }
    }

    /// What is readable when there is news.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let sandbox = self.sandbox.iter().map(AsFd::as_fd);
        sandbox.chain(self.host.iter().filter_map(Kills::fd))
    }

    /// Takes the news, without waiting, and tells containerd.
    pub fn look(&mut self, id: &str, events: &Sender<Event>) {
        let mut killed = self.host.as_mut().map_or(0, Kills::look);
        while let Some(control) = &self.sandbox {
            let mut fds = [PollFd::new(control.as_fd(), PollFlags::POLLIN)];
            if !poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0) {
                break;
            }
            if !matches!(control.receive(), Ok(Some(Reply::OutOfMemory))) {
                self.sandbox = None;
                break;
            }
            killed += 1;
            if control.tell(&Request::WatchMemory, &[]).is_err() {
                self.sandbox = None;
            }
        }
        for _ in 0..killed {
            let mut event = TaskOOM::new();
            event.container_id = id.to_owned();
            // Its receiver lives as long as the process.
            let _ = events.send((TASK_OOM_EVENT_TOPIC, Box::new(event)));
        }
    }
}
