//! `runsc port-forward`: connections to a port of the host lead to one of a container.

use crate::cli::{Global, PortForwardArgs};
use crate::container::Container;
use crate::log;
use crate::sandbox::control::Control;
use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sentry::boot::protocol::{Reply, Request};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Forwards until the sandbox ends; with `--stream` the one connection that it is given.
pub fn run(global: &Global, args: &PortForwardArgs) -> anyhow::Result<u8> {
    let (local, remote) = ports(&args.ports)?;
    let container = Container::look(&global.state_root(), &args.id)?;
    let control = container.running()?;
    if let Some(path) = &args.stream {
        let stream = UnixStream::connect(path).with_context(|| {
            format!("cannot connect to {}: does somebody listen there?", path.display())
        })?;
        return forward(&control, remote, stream.into()).map(|()| 0);
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, local))
        .with_context(|| format!("cannot listen on port {local} of the host: is it taken?"))?;
    let local = listener.local_addr().context("cannot tell the port")?.port();
    println!("forwarding 127.0.0.1:{local} to port {remote} of {:?}", args.id);
    loop {
        let mut fds = [
            PollFd::new(control.as_fd(), PollFlags::POLLIN),
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e).context("cannot wait for connections"),
        }
        let [sandbox, _] = &fds;
        if sandbox.any() == Some(true) {
            return Ok(0);
        }
        let (client, _) = listener.accept().context("cannot accept a connection")?;
        let control = container.connect();
        // One that cannot be served is closed, and does not end the others.
        std::thread::spawn(move || {
            if let Err(e) = control.and_then(|c| forward(&c, remote, client.into())) {
                log::warn(&format!("{e:#}"));
            }
        });
    }
}

/// Hands a connection over, and waits for its end.
fn forward(control: &Control, port: u16, client: OwnedFd) -> anyhow::Result<()> {
    control
        .ask(&Request::Forward(port), &[client.as_fd()])
        .with_context(|| format!("cannot connect to port {port} of the container"))?;
    // The other side sees the end only when nobody has it any more.
    drop(client);
    while let Ok(Some(reply)) = control.receive() {
        if reply == Reply::Done {
            break;
        }
    }
    Ok(())
}

/// The ports of `[LOCAL:]REMOTE`.
fn ports(text: &str) -> anyhow::Result<(u16, u16)> {
    let (local, remote) = text.split_once(':').unwrap_or((text, text));
    match (local.parse(), remote.parse()) {
        (Ok(local), Ok(remote)) if remote > 0 => Ok((local, remote)),
        _ => bail!("{text:?} does not name ports: say REMOTE or LOCAL:REMOTE"),
    }
}

#[cfg(test)]
mod tests {
    use super::ports;

    #[test]
    fn pairs_of_ports() {
        assert_eq!(ports("80").unwrap(), (80, 80));
        assert_eq!(ports("0:80").unwrap(), (0, 80));
        for bad in ["", "80:0", "1:2:3", "70000", "-1", ":80"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }
}
