//! The threads: one for each channel that is in use.
//!
//! A sandbox on a host with many CPUs uses few of them, and an idle one none: a channel costs a
//! thread only once something was asked on it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::Server;
use crate::protocol::{Transport, channel_cpus};

/// Stack of a worker. Requests are not recursive and keep their buffers on the heap.
const STACK: usize = 128 * 1024;

/// Serves `channels` until all are closed.
pub(super) fn run(server: &Arc<Server>, channels: Vec<OwnedFd>) {
    let cpus = channel_cpus();
    let mut dormant: Vec<(usize, OwnedFd)> = channels.into_iter().enumerate().collect();
    let mut workers = Vec::new();
    while !dormant.is_empty() {
        for (index, channel) in wait(&mut dormant) {
            let cpu = cpus.get(index % cpus.len()).copied();
            workers.extend(start(Arc::clone(server), channel, cpu));
        }
    }
    for worker in workers {
        // A worker that panicked has ended the process (panic = abort) or, in a test, is reported.
        let _ = worker.join();
    }
}

/// Waits for messages, and takes out the channels that have some (or were closed).
fn wait(dormant: &mut Vec<(usize, OwnedFd)>) -> Vec<(usize, OwnedFd)> {
    let ready: Vec<bool> = {
        let mut fds: Vec<PollFd<'_>> =
            dormant.iter().map(|(_, fd)| PollFd::new(fd, PollFlags::IN)).collect();
        match poll(&mut fds, None) {
            Ok(_) => fds.iter().map(|fd| !fd.revents().is_empty()).collect(),
            Err(Errno::INTR) => return Vec::new(),
            // Out of memory, say: a thread for each channel notices what it can.
            Err(_) => vec![true; fds.len()],
        }
    };
    let mut index = 0;
    dormant
        .extract_if(.., |_| {
            let taken = ready.get(index).copied().unwrap_or(true);
            index += 1;
            taken
        })
        .collect()
}

/// Starts the thread of a channel. Without it the channel is closed, which the sentry notices.
fn start(server: Arc<Server>, channel: OwnedFd, cpu: Option<usize>) -> Option<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("gofer".to_owned())
        .stack_size(STACK)
        .spawn(move || {
            if let Some(cpu) = cpu {
                bind(cpu);
            }
            server.answer(&mut Transport::new(channel));
        })
        .ok()
}

/// Binds this thread to a CPU. Failing costs time, nothing else (the CPU may have been taken away).
fn bind(cpu: usize) {
    if cpu < CpuSet::MAX_CPU {
        let mut set = CpuSet::new();
        set.set(cpu);
        let _ = sched_setaffinity(None, &set);
    }
}
