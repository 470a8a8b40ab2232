//! Which channel a call takes.
//!
//! Channel *i* belongs to the *i*-th CPU that this process may run on; the gofer's thread behind it
//! is bound to that CPU.

use std::os::fd::OwnedFd;

use parking_lot::{Mutex, MutexGuard};

use super::Result;
use crate::protocol::{Transport, channel_cpus};

/// One channel, opened by its first use.
struct Channel {
    transport: Transport,
    opened: bool,
}

/// All channels of a connection.
pub(super) struct Channels {
    channels: Vec<Mutex<Channel>>,
    /// Second descriptors, to close channels that a thread is waiting on.
    sockets: Vec<OwnedFd>,
    /// Channel of each CPU.
    of_cpu: Vec<u16>,
}

impl Channels {
    pub(super) fn new(sockets: Vec<OwnedFd>) -> Self {
        let of_cpu = channels_of_cpus(sockets.len());
        let duplicates = sockets.iter().filter_map(|socket| socket.try_clone().ok()).collect();
        let channels = sockets
            .into_iter()
            .map(|socket| Mutex::new(Channel { transport: Transport::new(socket), opened: false }))
            .collect();
        Self { channels, sockets: duplicates, of_cpu }
    }

    /// Opens the first channel and returns what its handshake did.
    pub(super) fn open_first<T>(
        &self,
        hello: impl FnOnce(&mut Transport) -> Result<T>,
    ) -> Result<T> {
        let Some(channel) = self.channels.first() else {
            return Err(super::ClientError::Protocol("no channel"));
        };
        let mut channel = channel.lock();
        let result = hello(&mut channel.transport)?;
        channel.opened = true;
        Ok(result)
    }

    /// Runs `talk` on a channel of its own, opening it first if need be.
    pub(super) fn with<T>(
        &self,
        hello: impl FnOnce(&mut Transport) -> Result<u32>,
        talk: impl FnOnce(&mut Transport) -> Result<T>,
    ) -> Result<T> {
        let Some(mut channel) = self.pick() else {
            return Err(super::ClientError::Protocol("no channel"));
        };
        if !channel.opened {
            hello(&mut channel.transport)?;
            channel.opened = true;
        }
        talk(&mut channel.transport)
    }

    /// The channel of this CPU, else any free one, else the one of this CPU when it is free.
    fn pick(&self) -> Option<MutexGuard<'_, Channel>> {
        let cpu = rustix::thread::sched_getcpu();
        let own = usize::from(self.of_cpu.get(cpu).copied().unwrap_or(0));
        let own = self.channels.get(own).or_else(|| self.channels.first())?;
        own.try_lock()
            .or_else(|| self.channels.iter().find_map(|channel| channel.try_lock()))
            .or_else(|| Some(own.lock()))
    }

    /// Closes every channel, also those that a thread is waiting on.
    pub(super) fn shutdown(&self) {
        for socket in &self.sockets {
            // Failing means that it is closed already.
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
        }
    }
}

fn channels_of_cpus(channels: usize) -> Vec<u16> {
    let cpus = channel_cpus();
    let mut of_cpu = vec![0; cpus.last().map_or(0, |last| last + 1)];
    for (index, &cpu) in cpus.iter().enumerate() {
        if let (Some(slot), Ok(channel)) =
            (of_cpu.get_mut(cpu), u16::try_from(index % channels.max(1)))
        {
            *slot = channel;
        }
    }
    of_cpu
}
