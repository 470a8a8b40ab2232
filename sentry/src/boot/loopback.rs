//! Connections to the loopback interface of the network namespace that the sandbox has taken over.
//!
//! Whoever enters that namespace on the host (containerd and CRI-O do for `port-forward`) and connects to 127.0.0.1
//! means the sandbox, whose loopback interface is another one. The host's kernel brings such connections to one
//! listening socket; each is carried to the port of the sandbox that it was made to.

use super::LoopbackSpec;
use super::forward::Forward;
use crate::socket::inet::net::Net;
use platform::host::{Errno as HostErrno, poll, socket, thread};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};

/// Stack of the thread, in bytes.
const STACK: usize = 128 << 10;

/// Most connections at a time: each has two threads.
const CONNECTIONS_MAX: usize = 128;

/// Nanoseconds until the next try when there was no descriptor for a connection.
const DESCRIPTORS_RETRY: u64 = 100_000_000;

/// Starts the thread that takes them.
pub fn serve(net: &Arc<Net>, spec: LoopbackSpec) -> Result<(), HostErrno> {
    let net = net.clone();
    thread::spawn("loopback-accept", STACK, move || accept(&net, &spec)).map(drop)
}

fn accept(net: &Arc<Net>, spec: &LoopbackSpec) {
    let mut open: Vec<Weak<Forward>> = Vec::new();
    loop {
        match socket::accept(spec.listener.as_fd()) {
            Ok(stream) => {
                open.retain(|forward| forward.strong_count() > 0);
                // Beyond the limit, or where nothing listens inside, the connection is closed.
                if open.len() < CONNECTIONS_MAX {
                    open.extend(forward(net, stream).as_ref().map(Arc::downgrade));
                }
            }
            Err(HostErrno::EINTR | HostErrno::ECONNABORTED) => {}
            // The connection stays in the queue until a descriptor is free.
            Err(HostErrno::EMFILE | HostErrno::ENFILE) => {
                let _ = poll::poll(&mut [], Some(DESCRIPTORS_RETRY));
            }
            Err(_) => return,
        }
    }
}

fn forward(net: &Arc<Net>, stream: OwnedFd) -> Option<Arc<Forward>> {
    let port = socket::port(stream.as_fd()).ok()?;
    Forward::start(net, port, stream, None).ok()
}
