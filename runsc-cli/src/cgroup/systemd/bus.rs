//! A connection to a message bus (D-Bus), as far as systemd's manager is spoken to.

use super::wire::{self, FIXED, Kind, Message, Method};
use anyhow::{Context, bail};
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// No line of the greeting is longer.
const LINE: usize = 512;

/// A connection.
pub struct Bus {
    stream: UnixStream,
    serial: u32,
    /// Signals that came while something else was waited for.
    signals: Vec<Message>,
}

/// The bus's address: root's is the system's, anybody else's that of the user's own manager.
fn address() -> String {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if nix::unistd::geteuid().is_root() && !in_user_namespace() {
        let default = || "unix:path=/run/dbus/system_bus_socket".into();
        return set("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or_else(default);
    }
    set("DBUS_SESSION_BUS_ADDRESS").unwrap_or_else(|| {
        let dir = set("XDG_RUNTIME_DIR").unwrap_or_else(|| {
            let uid = nix::unistd::getuid();
            format!("/run/user/{uid}")
        });
        format!("unix:path={dir}/bus")
    })
}

/// True where user 0 is not the machine's.
fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let first: Vec<&str> = map.lines().next().unwrap_or_default().split_whitespace().collect();
    first.get(1).is_some_and(|outside| *outside != "0")
}

fn connect(address: &str) -> anyhow::Result<UnixStream> {
    let mut last = None;
    for one in address.split(';') {
        let Some(keys) = one.strip_prefix("unix:") else { continue };
        for key in keys.split(',') {
            let stream = match key.split_once('=') {
                Some(("path", path)) => UnixStream::connect(PathBuf::from(path)),
                Some(("abstract", name)) => SocketAddr::from_abstract_name(name)
                    .and_then(|address| UnixStream::connect_addr(&address)),
                _ => continue,
            };
            match stream {
                Ok(stream) => return Ok(stream),
                Err(e) => last = Some(e),
            }
        }
    }
    match last {
        Some(e) => Err(e).with_context(|| format!("cannot connect to the message bus {address}")),
        None => bail!("the message bus has no Unix socket: {address}"),
    }
}

impl Bus {
    /// Connects, and says hello.
    pub fn open() -> anyhow::Result<Bus> {
        let stream = connect(&address())?;
        stream.set_read_timeout(Some(PATIENCE)).context("cannot limit a wait")?;
        let mut bus = Bus { stream, serial: 0, signals: Vec::new() };
        // Who this is the other side knows from the socket: the user's number may be another one outside.
        bus.stream
            .write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")
            .context("cannot write to the message bus")?;
        loop {
            let line = bus.line()?;
            if line.starts_with("OK ") {
                break;
            }
            if line != "DATA" && !line.starts_with("DATA ") {
                bail!("the message bus does not know this user: {line:?}");
            }
        }
        let hello = Method {
            at: "org.freedesktop.DBus",
            object: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member: "Hello",
        };
        bus.call(hello, "", &[])?;
        Ok(bus)
    }

    /// A line of the greeting. Nothing behind it may be read: messages follow.
    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).context("the message bus says nothing")?;
            line.extend(byte);
            if line.len() > LINE {
                bail!("the message bus talks too much");
            }
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    fn next(&mut self) -> anyhow::Result<Message> {
        let what = "the message bus does not answer";
        let mut fixed = [0; FIXED];
        self.stream.read_exact(&mut fixed).context(what)?;
        let (fields, body) = wire::lengths(&fixed)?;
        let mut rest = vec![0; fields + body];
        self.stream.read_exact(&mut rest).context(what)?;
        let body = rest.split_off(fields);
        wire::message(&fixed, &rest, body)
    }

    /// Calls a method; the result is the body of the answer.
    pub fn call(
        &mut self,
        method: Method<'_>,
        signature: &str,
        body: &[u8],
    ) -> anyhow::Result<Vec<u8>> {
        self.serial += 1;
        let message = wire::call(self.serial, method, signature, body);
        self.stream.write_all(&message).context("cannot write to the message bus")?;
        loop {
            let message = self.next()?;
            match message.kind {
                Kind::Return if message.reply_to == Some(self.serial) => return Ok(message.body),
                Kind::Error if message.reply_to == Some(self.serial) => {
                    let why = wire::Reader::new(&message.body).text().unwrap_or_default();
                    bail!("{}: {} ({why})", method.member, message.name);
                }
                Kind::Signal => self.signals.push(message),
                _ => {}
            }
        }
    }

    /// The next signal of that name.
    pub fn signal(&mut self, name: &str) -> anyhow::Result<Message> {
        if let Some(at) = self.signals.iter().position(|signal| signal.name == name) {
            return Ok(self.signals.remove(at));
        }
        loop {
            let message = self.next()?;
            if message.kind == Kind::Signal && message.name == name {
                return Ok(message);
            }
        }
    }
}
