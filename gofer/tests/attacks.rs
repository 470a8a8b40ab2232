//! What a hostile sentry, or somebody on the host, may try.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
#[path = "common/random.rs"]
mod random;

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Fixture, TempDir, names};
use gofer::process::{Options, spawn};
use gofer::protocol::{
    At, Bytes, Envelope, MAGIC, MAX_MESSAGE, NodeId, Reply, Request, Transport, TransportError,
    VERSION,
};
use gofer::server::Export;
use gofer::{CreateFlags, FileKind, ListOptions, OpenFlags, Owner, SetAttr};
use nix::errno::Errno;
use random::Random;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::process::{Pid, WaitOptions, waitpid};

/// A gofer whose channels are spoken to without the client.
struct Raw {
    dir: TempDir,
    pid: Pid,
    channels: Vec<OwnedFd>,
}

impl Raw {
    fn new(channels: usize) -> Self {
        let dir = TempDir::new();
        dir.file("inside/file", "x");
        let exports = vec![Export::new(dir.join("inside"), false)];
        let gofer = spawn(Options { channels, ..Options::new(exports) }).unwrap();
        gofer.wait_ready().unwrap();
        Self { dir, pid: gofer.pid, channels: gofer.channels }
    }

    /// Opens the next channel and attaches.
    fn open(&mut self) -> (Transport, NodeId) {
        let mut transport = Transport::new(self.channels.pop().unwrap());
        let hello = Request::Hello { magic: MAGIC, version: VERSION };
        assert!(matches!(exchange(&mut transport, hello), Ok(Reply::Hello { .. })));
        let root = match exchange(&mut transport, Request::Attach { export: 0 }) {
            Ok(Reply::Root { node, .. }) => node,
            other => panic!("{other:?}"),
        };
        (transport, root)
    }

    /// Closes everything; the gofer must end by itself, and well.
    fn finish(mut self) {
        self.channels.clear();
        let (_, status) = waitpid(Some(self.pid), WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(0), "{status:?}");
    }
}

fn exchange<'a>(
    transport: &'a mut Transport,
    request: Request<'_>,
) -> Result<Reply<'a>, TransportError> {
    transport.send(&Envelope { forget: Vec::new(), request }, None)?;
    transport.receive().map(|(reply, _)| reply)
}

fn at(node: NodeId, path: &[u8]) -> At<'_> {
    At { node, path: Bytes::borrowed(path) }
}

/// Asserts that the gofer has closed a channel, whatever it had to say before.
fn assert_closed(transport: &mut Transport) {
    for _ in 0..2 {
        match transport.receive::<Reply<'_>>() {
            Err(TransportError::Closed) => return,
            Ok((Reply::Error(errno), None)) => assert_eq!(errno, libc::EPROTO),
            other => panic!("{other:?}"),
        }
    }
    panic!("the channel is still open");
}

#[test]
fn paths_that_lead_out_are_refused() {
    let mut raw = Raw::new(1);
    let (mut transport, root) = raw.open();
    let long = [b'a'; 5000];
    let many = vec![b"a/".as_slice(); 1000].concat();
    let paths: &[&[u8]] = &[
        b"..",
        b"../inside",
        b"file/..",
        b"./file",
        b"/etc/passwd",
        b"/",
        b"file/",
        b"a//b",
        b"file\0",
        &long,
        &many,
        &[b'n'; 256],
    ];
    for &path in paths {
        let requests: Vec<Request<'_>> = vec![
            Request::Walk { at: at(root, path), want_node: true },
            Request::Stat { at: at(root, path) },
            Request::List { at: at(root, path), want_node: true, options: ListOptions::default() },
            Request::Open { at: at(root, path), flags: OpenFlags::READ, want_node: true },
            Request::Create { at: at(root, path), mode: 0, flags: CreateFlags::OPEN, owner: None },
            Request::CreateUnnamed { at: at(root, path), mode: 0, owner: None },
            Request::Mkdir { at: at(root, path), mode: 0, owner: None, want_node: false },
            Request::Symlink { at: at(root, path), target: Bytes::borrowed(b"x"), owner: None },
            Request::Mknod { at: at(root, path), mode: libc::S_IFIFO, owner: None },
            Request::Unlink { at: at(root, path) },
            Request::Rmdir { at: at(root, path) },
            Request::SetAttr { at: at(root, path), set: SetAttr::default() },
            Request::Readlink { at: at(root, path) },
            Request::Link { from: at(root, b"file"), to: at(root, path) },
            Request::Rename {
                from: at(root, b"file"),
                to: at(root, path),
                flags: gofer::RenameFlags::empty(),
            },
        ];
        for request in requests {
            let text = format!("{request:?}");
            match exchange(&mut transport, request) {
                Ok(Reply::Error(libc::EINVAL | libc::ENAMETOOLONG)) => {}
                other => panic!("{text}: {other:?}"),
            }
        }
    }
    assert_eq!(std::fs::read_dir(raw.dir.path()).unwrap().count(), 1);
    drop(transport);
    raw.finish();
}

#[test]
fn the_client_refuses_such_names_itself() {
    let f = Fixture::writable();
    for name in [&b".."[..], b".", b"", b"a/b", b"a\0"] {
        let error = f.client.walk(f.root, &[name], true).unwrap_err();
        assert_eq!(error.errno(), Errno::EINVAL, "{name:?}");
    }
    let error = f.client.walk(f.root, &[&[b'n'; 256]], true).unwrap_err();
    assert_eq!(error.errno(), Errno::ENAMETOOLONG);
}

#[test]
fn links_lead_nowhere() {
    let dir = TempDir::new();
    dir.file("outside", "secret");
    dir.file("in/file", "");
    let outside = dir.join("outside");
    symlink("../outside", dir.join("in/relative")).unwrap();
    symlink(&outside, dir.join("in/absolute")).unwrap();
    symlink("..", dir.join("in/parent")).unwrap();
    symlink("/", dir.join("in/slash")).unwrap();
    symlink("/proc/self/root", dir.join("in/magic")).unwrap();
    symlink("loop", dir.join("in/loop")).unwrap();
    let f = Fixture::over(dir, |path| vec![Export::new(path.join("in"), false)]);
    for path in ["relative", "absolute", "parent", "slash", "magic", "loop"] {
        for more in ["", "/outside", "/etc/passwd"] {
            let path = format!("{path}{more}");
            let walked = f.client.walk(f.root, &names(&path), true).unwrap();
            assert_eq!(walked.attrs.len(), 1, "{path}");
            assert_eq!(walked.attrs[0].kind(), FileKind::Symlink);
            let node = walked.node.unwrap();
            let again = f.client.walk(node, &[b"x"], true).unwrap();
            assert_eq!(again.error, Some(Errno::ENOTDIR));
            let flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::TRUNCATE;
            let error = f.client.open(f.root, &names(&path), flags).unwrap_err();
            assert_eq!(error.errno(), Errno::ELOOP, "{path}");
            let error = f.client.open(node, &[], flags).unwrap_err();
            assert_eq!(error.errno(), Errno::ELOOP);
            let error =
                f.client.list(f.root, &names(&path), true, ListOptions::default()).unwrap_err();
            assert!(matches!(error.errno(), Errno::ELOOP | Errno::ENOTDIR), "{path}: {error}");
            if !more.is_empty() {
                let size = SetAttr { size: Some(0), ..SetAttr::default() };
                let error = f.client.setattr(f.root, &names(&path), size).unwrap_err();
                assert_eq!(error.errno(), Errno::ELOOP);
                let error = f.client.unlink(f.root, &names(&path)).unwrap_err();
                assert_eq!(error.errno(), Errno::ELOOP);
            }
        }
        // A dangling or escaping link is not created through either.
        let error = f.client.create(f.root, &names(path), 0o644, CreateFlags::OPEN, None);
        assert_eq!(error.unwrap_err().errno(), Errno::EEXIST);
    }
    assert_eq!(std::fs::read(outside).unwrap(), b"secret");
}

#[test]
fn only_regular_files_are_donated() {
    let dir = TempDir::new();
    let fifo = dir.join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o666),
        0,
    )
    .unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
    let mut special = vec!["fifo", "socket"];
    let made = rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.join("null"),
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::from_raw_mode(0o666),
        rustix::fs::makedev(1, 3),
    );
    // Only root may make devices, and only outside user namespaces.
    if made.is_ok() {
        special.push("null");
    }
    // A writer that waits for the FIFO to be opened notices any attempt.
    let opened = Arc::new(AtomicBool::new(false));
    let writer = {
        let opened = Arc::clone(&opened);
        let fifo = fifo.clone();
        std::thread::spawn(move || {
            drop(std::fs::OpenOptions::new().write(true).open(fifo).unwrap());
            opened.store(true, Ordering::SeqCst);
        })
    };
    let f = Fixture::over(dir, |path| vec![Export::new(path, false)]);
    for flags in [OpenFlags::READ, OpenFlags::WRITE, OpenFlags::READ | OpenFlags::WRITE] {
        for name in &special {
            let error = f.client.open(f.root, &names(name), flags).unwrap_err();
            assert_eq!(error.errno(), Errno::ENXIO, "{name}");
            let node = f.client.walk(f.root, &names(name), true).unwrap().node.unwrap();
            assert_eq!(f.client.open(node, &[], flags).unwrap_err().errno(), Errno::ENXIO);
        }
    }
    assert!(!opened.load(Ordering::SeqCst));
    drop(std::fs::OpenOptions::new().read(true).open(fifo).unwrap());
    writer.join().unwrap();
}

/// Somebody on the host swaps a directory and a link that leads out, as fast as they can.
#[test]
fn races_with_the_host_lead_nowhere() {
    let dir = TempDir::new();
    dir.file("outside/file", "outside");
    dir.file("in/a/file", "inside");
    symlink("../outside", dir.join("in/link")).unwrap();
    let inside = rustix::fs::openat(
        rustix::fs::CWD,
        dir.join("in"),
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    let f = Fixture::over(dir, |path| vec![Export::new(path.join("in"), false)]);
    let stop = Arc::new(AtomicBool::new(false));
    let swapper = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut swaps = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(
                    &inside,
                    "a",
                    &inside,
                    "link",
                    rustix::fs::RenameFlags::EXCHANGE,
                )
                .unwrap();
                swaps += 1;
            }
            swaps
        })
    };
    let outside = std::fs::metadata(f.dir.join("outside/file")).unwrap();
    let outside = std::os::unix::fs::MetadataExt::ino(&outside);
    let mut reached = 0;
    let mut refused = 0;
    let path = names("a/file");
    let start = Instant::now();
    for round in 0..5_000 {
        match f.client.open(f.root, &path, OpenFlags::READ | OpenFlags::WRITE) {
            Ok((fd, attr)) => {
                reached += 1;
                assert_ne!(attr.ino, outside);
                let mut text = String::new();
                std::fs::File::from(fd).read_to_string(&mut text).unwrap();
                assert_eq!(text, "inside");
            }
            Err(error) => {
                refused += 1;
                assert!(matches!(error.errno(), Errno::ELOOP | Errno::ENOENT), "{error}");
            }
        }
        let walked = f.client.walk(f.root, &path, round % 2 == 0).unwrap();
        assert!(walked.attrs.iter().all(|attr| attr.ino != outside));
        if let Some(node) = walked.node {
            f.client.forget(node);
        }
        let set = SetAttr { mode: Some(0o600), ..SetAttr::default() };
        let _ = f.client.setattr(f.root, &path, set);
        let created = f.client.create(f.root, &names("a/new"), 0o600, CreateFlags::empty(), None);
        if created.is_ok() {
            let _ = f.client.unlink(f.root, &names("a/new"));
        }
        // Long enough once both were seen often; the limit is for a slow or busy machine.
        if start.elapsed() > Duration::from_secs(10) && round > 1000 {
            break;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let swaps = swapper.join().unwrap();
    assert!(reached > 0 && refused > 0, "reached {reached}, refused {refused}, {swaps} swaps");
    let listed: Vec<_> = std::fs::read_dir(f.dir.join("outside")).unwrap().collect();
    assert_eq!(listed.len(), 1, "{listed:?}");
    let mode = std::fs::metadata(f.dir.join("outside/file")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o644);
}

/// Somebody on the host puts one thing after another where a file is about to be opened.
#[test]
fn what_is_donated_is_what_was_looked_at() {
    let dir = TempDir::new();
    dir.file("outside", "outside");
    dir.file("in/kept", "inside");
    let inside = dir.join("in");
    let outside = dir.join("outside");
    let f = Fixture::over(dir, |path| vec![Export::new(path.join("in"), false)]);
    let stop = Arc::new(AtomicBool::new(false));
    let changer = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let name = inside.join("target");
            let new = inside.join("new");
            let mut round = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                let _ = std::fs::remove_file(&new);
                match round % 5 {
                    0 => std::fs::hard_link(inside.join("kept"), &new).unwrap(),
                    1 => symlink(&outside, &new).unwrap(),
                    2 => symlink("/proc/self/root/etc/passwd", &new).unwrap(),
                    3 => symlink("/proc/self/fd/0", &new).unwrap(),
                    _ => nix::unistd::mkfifo(&new, nix::sys::stat::Mode::S_IRWXU).unwrap(),
                }
                std::fs::rename(&new, &name).unwrap();
                round += 1;
            }
        })
    };
    let (mut donated, mut refused) = (0, 0);
    let start = Instant::now();
    while (donated < 50 || refused < 200) && start.elapsed() < Duration::from_secs(20) {
        match f.client.open(f.root, &[b"target"], OpenFlags::READ) {
            Ok((fd, _)) => {
                let mut text = String::new();
                std::fs::File::from(fd).read_to_string(&mut text).unwrap();
                // Another name of it goes and comes, its contents do not.
                assert_eq!(text, "inside");
                donated += 1;
            }
            Err(error) => {
                let known = [Errno::ELOOP, Errno::ENXIO, Errno::ENOENT];
                assert!(known.contains(&error.errno()), "{error}");
                refused += 1;
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    changer.join().unwrap();
    assert!(donated > 0 && refused > 0, "donated {donated}, refused {refused}");
}

/// What is mounted in the exported tree afterwards is not the guest's.
#[test]
fn mounts_made_later_are_not_seen() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = TempDir::new();
    dir.file("secret/file", "secret");
    dir.file("in/at/file", "inside");
    let (secret, at) = (dir.join("secret"), dir.join("in/at"));
    let f = Fixture::over(dir, |path| vec![Export::new(path.join("in"), false)]);
    let none: Option<&str> = None;
    let bind = nix::mount::MsFlags::MS_BIND;
    nix::mount::mount(Some(&secret), &at, none, bind, none).unwrap();
    let opened = f.client.open(f.root, &names("at/file"), OpenFlags::READ);
    nix::mount::umount(&at).unwrap();
    let mut text = String::new();
    std::fs::File::from(opened.unwrap().0).read_to_string(&mut text).unwrap();
    assert_eq!(text, "inside");
}

/// Names for a file of one export are not made in another, which may allow more.
#[test]
fn hard_links_stay_in_their_export() {
    let dir = TempDir::new();
    dir.file("ro/file", "x");
    dir.file("rw/file", "x");
    let f = Fixture::over(dir, |path| {
        vec![Export::new(path.join("rw"), false), Export::new(path.join("ro"), true)]
    });
    let (other, ..) = f.client.attach(1).unwrap();
    let node = |root| f.client.walk(root, &[b"file"], true).unwrap().node.unwrap();
    let (mine, theirs) = (node(f.root), node(other));
    assert_eq!(f.client.link(theirs, f.root, &[b"l"]).unwrap_err().errno(), Errno::EROFS);
    assert_eq!(f.client.link(mine, other, &[b"l"]).unwrap_err().errno(), Errno::EROFS);
    f.client.link(mine, f.root, &[b"l"]).unwrap();
}

#[test]
fn garbage_closes_one_channel_only() {
    const CHANNELS: usize = 200;
    let mut raw = Raw::new(CHANNELS + 1);
    let (mut survivor, root) = raw.open();
    let mut random = Random(42);
    for round in 0..CHANNELS {
        // Half of them on a channel that is open already.
        let mut transport =
            if round % 2 == 0 { raw.open().0 } else { Transport::new(raw.channels.pop().unwrap()) };
        let mut message = vec![0; random.below(300) + 1];
        for byte in &mut message {
            *byte = random.next() as u8;
        }
        if round % 4 == 0 {
            // Something valid in front, so that the inside of requests is reached.
            message.splice(0..0, [0, random.below(25) as u8]);
        }
        rustix::net::send(transport.socket(), &message, SendFlags::NOSIGNAL).unwrap();
        match transport.receive::<Reply<'_>>() {
            Ok((Reply::Error(libc::EPROTO), None)) => assert_closed(&mut transport),
            // It may have been a request by chance.
            Ok(_) | Err(TransportError::Closed) => {}
            other => panic!("{other:?}"),
        }
    }
    let reply = exchange(&mut survivor, Request::Stat { at: at(root, b"file") });
    assert!(matches!(reply, Ok(Reply::Node { .. })), "{reply:?}");
    drop(survivor);
    raw.finish();
}

#[test]
fn requests_with_flipped_bits_are_answered_or_refused() {
    let mut raw = Raw::new(1500);
    let mut random = Random(7);
    let mut requests: u64 = 0;
    while !raw.channels.is_empty() && requests < 100_000 {
        let (mut transport, root) = raw.open();
        loop {
            let samples = [
                Request::Walk { at: at(root, b"file"), want_node: true },
                Request::List { at: at(root, b""), want_node: false, options: Default::default() },
                Request::ListNext,
                Request::Open { at: at(root, b"file"), flags: OpenFlags::READ, want_node: false },
                Request::Create {
                    at: at(root, b"new"),
                    mode: 0o644,
                    flags: CreateFlags::OPEN,
                    owner: Some(Owner { uid: 0, gid: 0 }),
                },
                Request::SetXattr {
                    at: at(root, b"file"),
                    name: Bytes::borrowed(b"user.x"),
                    value: Bytes::borrowed(b"value"),
                    flags: gofer::XattrFlags::empty(),
                },
                Request::SetAttr {
                    at: at(root, b"file"),
                    set: SetAttr { mode: Some(0o644), size: Some(5), ..SetAttr::default() },
                },
                Request::Unlink { at: at(root, b"new") },
                Request::Symlink {
                    at: at(root, b"new"),
                    target: Bytes::borrowed(b"somewhere"),
                    owner: None,
                },
            ];
            let count = samples.len();
            let request = samples.into_iter().nth(random.below(count)).unwrap();
            let envelope = Envelope { forget: Vec::new(), request };
            let mut message = postcard_bytes(&envelope);
            for _ in 0..random.below(3) {
                let index = random.below(message.len());
                message[index] ^= 1 << random.below(8);
            }
            requests += 1;
            rustix::net::send(transport.socket(), &message, SendFlags::NOSIGNAL).unwrap();
            match transport.receive::<Reply<'_>>() {
                Ok((Reply::Error(libc::EPROTO), _)) | Err(TransportError::Closed) => break,
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(requests > 2000, "{requests}");
    // The directory above is as it was.
    assert_eq!(std::fs::read_dir(raw.dir.path()).unwrap().count(), 1);
    raw.finish();
}

fn postcard_bytes(envelope: &Envelope<'_>) -> Vec<u8> {
    postcard::to_stdvec(envelope).unwrap()
}

#[test]
fn oversized_truncated_and_wordy_messages_close_the_channel() {
    let mut raw = Raw::new(6);
    // Too long.
    let (transport, _) = raw.open();
    let mut message = vec![0; MAX_MESSAGE + 1];
    message[1] = 1;
    // The host may refuse to carry it at all.
    if rustix::net::send(transport.socket(), &message, SendFlags::NOSIGNAL).is_ok() {
        assert_closed(&mut { transport });
    }
    // Bytes left over.
    let (mut transport, _) = raw.open();
    let mut message = postcard_bytes(&Envelope { forget: Vec::new(), request: Request::Nop });
    message.push(0);
    rustix::net::send(transport.socket(), &message, SendFlags::NOSIGNAL).unwrap();
    assert_closed(&mut transport);
    // Cut short.
    let (mut transport, root) = raw.open();
    let request = Request::Stat { at: at(root, b"file") };
    let message = postcard_bytes(&Envelope { forget: Vec::new(), request });
    rustix::net::send(transport.socket(), &message[..message.len() - 1], SendFlags::NOSIGNAL)
        .unwrap();
    assert_closed(&mut transport);
    // Too many identifiers, and a length that promises more than there can be.
    let (mut transport, _) = raw.open();
    let forget = vec![NodeId(1); gofer::protocol::MAX_FORGET + 1];
    transport.send(&Envelope { forget, request: Request::Nop }, None).unwrap();
    assert_closed(&mut transport);
    let (mut transport, _) = raw.open();
    let message = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1];
    rustix::net::send(transport.socket(), &message, SendFlags::NOSIGNAL).unwrap();
    assert_closed(&mut transport);
    // A descriptor that nobody asked for.
    let (mut transport, _) = raw.open();
    let file = std::fs::File::open("/").unwrap();
    transport
        .send(&Envelope { forget: Vec::new(), request: Request::Nop }, Some(file.as_fd()))
        .unwrap();
    assert_closed(&mut transport);
    raw.finish();
}

#[test]
fn surplus_descriptors_are_not_kept() {
    let mut raw = Raw::new(2);
    let (survivor, _) = raw.open();
    let (mut transport, _) = raw.open();
    // An unprivileged user may not look into it.
    let descriptors = || {
        std::fs::read_dir(format!("/proc/{}/fd", raw.pid.as_raw_nonzero()))
            .map_or(0, Iterator::count)
    };
    let before = descriptors();
    let file = std::fs::File::open("/").unwrap();
    let fds = [file.as_fd(); 100];
    let mut space =
        vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(fds.len()))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    let bytes = postcard_bytes(&Envelope { forget: Vec::new(), request: Request::Nop });
    rustix::net::sendmsg(
        transport.socket(),
        &[std::io::IoSlice::new(&bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )
    .unwrap();
    assert_closed(&mut transport);
    assert!(descriptors() <= before, "{before} {}", descriptors());
    drop((survivor, transport));
    raw.finish();
}

#[test]
fn nothing_is_answered_before_the_handshake() {
    let mut raw = Raw::new(4);
    let mut talk = |request: Request<'_>| {
        let mut transport = Transport::new(raw.channels.pop().unwrap());
        transport.send(&Envelope { forget: Vec::new(), request }, None).unwrap();
        assert_closed(&mut transport);
    };
    talk(Request::Attach { export: 0 });
    talk(Request::Nop);
    talk(Request::Hello { magic: MAGIC, version: VERSION + 1 });
    talk(Request::Hello { magic: 0, version: VERSION });
    raw.finish();
}

#[test]
fn identifiers_must_be_ones_given_out() {
    let mut raw = Raw::new(1);
    let (mut transport, root) = raw.open();
    let mut random = Random(3);
    for _ in 0..1000 {
        let node = NodeId(random.next() >> random.below(64));
        if node == root {
            continue;
        }
        let reply = exchange(&mut transport, Request::Stat { at: at(node, b"") });
        assert!(matches!(reply, Ok(Reply::Error(libc::EBADF))), "{node:?}: {reply:?}");
    }
    let reply = exchange(&mut transport, Request::Attach { export: u32::MAX });
    assert!(matches!(reply, Ok(Reply::Error(libc::ENOENT))));
    let reply = exchange(&mut transport, Request::ListNext);
    assert!(matches!(reply, Ok(Reply::Error(libc::EINVAL))));
    drop(transport);
    raw.finish();
}

#[test]
fn all_of_it_without_privileges() {
    common::rerun_unprivileged();
}
