//! Start, isolation and end of a gofer, and what the client makes of a broken one.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
#[path = "common/random.rs"]
mod random;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Fixture, TempDir, names};
use gofer::process::{Options, SpawnError, spawn};
use gofer::protocol::{
    Bytes, Envelope, MAGIC, Reply, Request, Transport, VERSION, WireEntry, channel_pair,
};
use gofer::sandbox::Isolation;
use gofer::server::Export;
use gofer::{
    Attr, Client, ClientError, CreateFlags, FileKind, ListOptions, NodeId, OpenFlags, Timestamp,
};
use nix::errno::Errno;
use random::Random;
use rustix::process::{Signal, WaitOptions, kill_process, waitpid};

fn read_only(dir: TempDir) -> Fixture {
    Fixture::over(dir, |path| vec![Export::new(path, true)])
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn proc_file(f: &Fixture, name: &str) -> String {
    std::fs::read_to_string(format!("/proc/{}/{name}", f.pid.as_raw_nonzero())).unwrap()
}

fn status_field(f: &Fixture, field: &str) -> String {
    let status = proc_file(f, "status");
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line[field.len()..].trim_matches([':', '\t', ' ']).to_owned()
}

#[test]
fn a_killed_gofer_is_noticed_once() {
    let mut f = Fixture::writable();
    f.dir.file("a", "x");
    let deaths = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&deaths);
    f.client.on_death(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let watcher = {
        let client = Arc::clone(&f.client);
        std::thread::spawn(move || client.wait_for_death())
    };
    // Calls are under way while it is killed.
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let client = Arc::clone(&f.client);
            let root = f.root;
            std::thread::spawn(move || {
                loop {
                    match client.stat(root, &[b"a"]) {
                        Ok(_) => {}
                        Err(error) => return error,
                    }
                }
            })
        })
        .collect();
    kill_process(f.pid, Signal::KILL).unwrap();
    for caller in callers {
        assert_eq!(caller.join().unwrap(), ClientError::GoferDied);
    }
    watcher.join().unwrap();
    assert_eq!(f.reap().terminating_signal(), Some(libc::SIGKILL));
    assert!(f.client.is_dead());
    assert_eq!(deaths.load(Ordering::SeqCst), 1);
    assert_eq!(f.client.attach(0).unwrap_err(), ClientError::GoferDied);
    assert_eq!(f.client.attach(0).unwrap_err().errno(), Errno::EIO);
    f.client.forget(f.root);
    f.client.wait_for_death();
    assert_eq!(deaths.load(Ordering::SeqCst), 1);
    // Registered too late, it still runs.
    let counter = Arc::clone(&deaths);
    f.client.on_death(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    assert_eq!(deaths.load(Ordering::SeqCst), 2);
}

#[test]
fn it_ends_with_its_connection() {
    // Connected and used, connected only, and never connected: the fixture waits for exit status 0.
    let f = Fixture::writable();
    drop(f);
    let dir = TempDir::new();
    let gofer = spawn(Options::new(vec![Export::new(dir.path(), true)])).unwrap();
    drop(gofer.channels);
    let (_, status) = waitpid(Some(gofer.pid), WaitOptions::empty()).unwrap().unwrap();
    assert_eq!(status.exit_status(), Some(0));
}

#[test]
fn it_says_why_it_cannot_start() {
    let exports = vec![Export::new("/nonexistent/dir", true)];
    let gofer = spawn(Options::new(exports)).unwrap();
    let error = gofer.wait_ready().unwrap_err();
    assert!(matches!(&error, SpawnError::GaveUp(_)));
    let text = error.to_string();
    assert!(text.contains("/nonexistent/dir") && text.contains("No such file"), "{text}");
    let error = Client::connect(gofer.channels).unwrap_err();
    assert_eq!(error, ClientError::GoferDied);
    waitpid(Some(gofer.pid), WaitOptions::empty()).unwrap();
    assert!(matches!(spawn(Options::new(Vec::new())), Err(SpawnError::Options)));
}

#[test]
fn it_is_locked_up() {
    let dir = TempDir::new();
    dir.file("a", "x");
    dir.file("secret-name", "x");
    let _secret = std::fs::File::open(dir.join("secret-name")).unwrap();
    let f = read_only(dir);
    assert_eq!(f.isolation, Isolation::FULL, "this host grants no namespaces");
    assert_eq!(status_field(&f, "NoNewPrivs"), "1");
    assert_eq!(status_field(&f, "Seccomp"), "2");
    let read_search = if is_root() { 1 << 2 } else { 0 };
    for field in ["CapPrm", "CapEff"] {
        assert_eq!(status_field(&f, field), format!("{read_search:016x}"), "{field}");
    }
    for field in ["CapInh", "CapAmb"] {
        assert_eq!(status_field(&f, field), format!("{:016x}", 0), "{field}");
    }
    // It is its namespace's first and only process.
    assert_eq!(status_field(&f, "NSpid").split_whitespace().last(), Some("1"));
    for namespace in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let own = std::fs::read_link(format!("/proc/self/ns/{namespace}")).unwrap();
        let its = format!("/proc/{}/ns/{namespace}", f.pid.as_raw_nonzero());
        if let Ok(its) = std::fs::read_link(its) {
            assert_ne!(own, its, "{namespace}");
        }
    }
    if is_root() {
        // An empty root is all it can see.
        let root = format!("/proc/{}/root/", f.pid.as_raw_nonzero());
        assert_eq!(std::fs::read_dir(root).unwrap().count(), 0);
        assert_eq!(proc_file(&f, "mountinfo").lines().count(), 1);
        // None of the descriptors of the process it was copied from.
        let fds = format!("/proc/{}/fd", f.pid.as_raw_nonzero());
        let mut kept = 0;
        for fd in std::fs::read_dir(fds).unwrap() {
            let link = std::fs::read_link(fd.unwrap().path()).unwrap();
            let text = link.to_string_lossy();
            assert!(!text.contains("secret-name") && !text.starts_with("pipe:"), "{text}");
            kept += 1;
        }
        // Standard streams, channels, status, export, /proc/self/fd, the file attached.
        assert!(kept <= 7 + gofer::protocol::channel_count(), "{kept}");
    }
}

#[test]
fn a_writable_export_keeps_what_it_takes() {
    let f = Fixture::writable();
    let expected = if is_root() { 0b11111 } else { 0 };
    assert_eq!(status_field(&f, "CapEff"), format!("{expected:016x}"));
    assert_eq!(status_field(&f, "CapBnd").trim_start_matches('0').is_empty(), !is_root());
}

#[test]
fn eight_threads_at_once() {
    let dir = TempDir::new();
    for index in 0..50 {
        dir.file(&format!("d/f{index}"), &format!("contents {index}"));
    }
    let f = Fixture::over(dir, |path| vec![Export::new(path, false)]);
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let (client, root) = (&f.client, f.root);
            scope.spawn(move || {
                let mut random = Random(thread);
                for round in 0..500 {
                    let index = random.below(50);
                    let name = format!("d/f{index}");
                    let (fd, attr) = client.open(root, &names(&name), OpenFlags::READ).unwrap();
                    let text = std::io::read_to_string(std::fs::File::from(fd)).unwrap();
                    assert_eq!(text, format!("contents {index}"));
                    let node = client.walk(root, &names(&name), true).unwrap().node.unwrap();
                    assert_eq!(client.stat(node, &[]).unwrap().ino, attr.ino);
                    client.forget(node);
                    let own = format!("own{thread}");
                    let own = [own.as_bytes()];
                    client.create(root, &own, 0o600, CreateFlags::OPEN, None).unwrap();
                    client.unlink(root, &own).unwrap();
                    if round % 50 == 0 {
                        let listing =
                            client.list(root, &[b"d"], true, ListOptions::default()).unwrap();
                        assert_eq!(listing.entries.len(), 50);
                        client.forget(listing.node.unwrap());
                    }
                }
            });
        }
    });
}

#[test]
fn it_serves_without_isolation() {
    let dir = TempDir::new();
    dir.file("a", "x");
    let options = Options {
        isolate: false,
        die_with_starter: true,
        ..Options::new(vec![Export::new(dir.path(), true)])
    };
    let f = Fixture::start(TempDir::new(), options);
    assert_eq!(f.isolation, Isolation::LANDLOCK);
    assert_eq!(status_field(&f, "NoNewPrivs"), "1");
    assert!(f.client.open(f.root, &[b"a"], OpenFlags::READ).is_ok());
}

#[test]
fn all_of_it_without_privileges() {
    common::rerun_unprivileged();
}

fn attr() -> Attr {
    let time = Timestamp::default();
    Attr {
        mode: libc::S_IFDIR | 0o755,
        nlink: 2,
        uid: 0,
        gid: 0,
        ino: 1,
        size: 0,
        blocks: 0,
        blksize: 4096,
        dev: 1,
        rdev: 0,
        mount_id: 1,
        mount_root: false,
        atime: time,
        mtime: time,
        ctime: time,
        btime: None,
    }
}

/// A client of a gofer that greets, and then sends what `answer` makes of each request.
fn client_of(
    answer: impl Fn(&Request<'_>, &mut Transport) + Send + 'static,
) -> (Client, std::thread::JoinHandle<()>) {
    let (ours, theirs) = channel_pair().unwrap();
    let gofer = std::thread::spawn(move || {
        let mut transport = Transport::new(theirs);
        let duplicate = transport.socket().try_clone_to_owned().unwrap();
        let mut out = Transport::new(duplicate);
        while let Ok((Envelope { request, .. }, _)) = transport.receive::<Envelope<'_>>() {
            if let Request::Hello { magic: MAGIC, .. } = request {
                out.send(&Reply::Hello { version: VERSION, exports: 1 }, None).unwrap();
            } else {
                answer(&request, &mut out);
            }
        }
    });
    (Client::connect(vec![ours]).unwrap(), gofer)
}

type Call = fn(&Client) -> Result<(), ClientError>;

#[test]
fn replies_that_do_not_fit_end_the_connection() {
    let file = || OwnedFd::from(std::fs::File::open("/").unwrap());
    let replies: Vec<fn() -> Reply<'static>> = vec![
        || Reply::Done,
        || Reply::Node { node: None, attr: attr() },
        || Reply::Bytes(Bytes::borrowed(b"x")),
        || Reply::Walk { attrs: vec![attr(); 9], node: None, target: None, error: None },
        || Reply::List { dir: None, node: None, count: 1, entries: Bytes::default(), more: true },
    ];
    for reply in replies {
        for with_fd in [false, true] {
            let calls: Vec<Call> = vec![
                |client| client.attach(0).map(drop),
                |client| client.walk(NodeId(1), &[b"a"], true).map(drop),
                |client| client.open(NodeId(1), &[b"a"], OpenFlags::READ).map(drop),
                |client| client.list(NodeId(1), &[], false, ListOptions::default()).map(drop),
                |client| client.statfs(NodeId(1), &[]).map(drop),
                |client| client.create(NodeId(1), &[b"a"], 0, CreateFlags::OPEN, None).map(drop),
                |client| client.connect_socket(NodeId(1), &[b"a"], 1).map(drop),
            ];
            for call in calls {
                let (client, gofer) = client_of(move |_, out| {
                    let fd = with_fd.then(file);
                    let _ = out.send(&reply(), fd.as_ref().map(std::os::fd::AsFd::as_fd));
                });
                if call(&client).is_err() {
                    assert!(client.is_dead());
                }
                client.close();
                gofer.join().unwrap();
            }
        }
    }
}

#[test]
fn a_listing_that_never_ends_is_given_up() {
    let pages = AtomicUsize::new(0);
    let (client, gofer) = client_of(move |_, out| {
        let first = pages.fetch_add(1, Ordering::Relaxed) == 0;
        let entry = WireEntry {
            name: Bytes::borrowed(b"a"),
            ino: 1,
            kind: FileKind::Regular,
            attr: None,
            target: None,
        };
        let page = if first { postcard::to_stdvec(&entry).unwrap() } else { Vec::new() };
        let (dir, count) = (first.then(attr), u32::from(first));
        let entries = Bytes::borrowed(&page);
        let _ = out.send(&Reply::List { dir, node: None, count, entries, more: true }, None);
    });
    let error = client.list(NodeId(1), &[], false, ListOptions::default()).unwrap_err();
    assert_eq!(error, ClientError::GoferDied);
    drop(client);
    gofer.join().unwrap();
}

#[test]
fn garbage_from_the_gofer_ends_the_connection() {
    let mut random = Random(11);
    for _ in 0..200 {
        let garbage: Vec<u8> = (0..random.below(200) + 1).map(|_| random.next() as u8).collect();
        let (client, gofer) = client_of(move |_, out| {
            let _ = rustix::net::send(out.socket(), &garbage, rustix::net::SendFlags::NOSIGNAL);
        });
        let _ = client.walk(NodeId(1), &[b"a"], true);
        let _ = client.open(NodeId(1), &[b"a"], OpenFlags::READ);
        client.close();
        gofer.join().unwrap();
    }
}

#[test]
fn another_version_is_refused() {
    let (ours, theirs) = channel_pair().unwrap();
    let gofer = std::thread::spawn(move || {
        let mut transport = Transport::new(theirs);
        transport.receive::<Envelope<'_>>().unwrap();
        transport.send(&Reply::Hello { version: VERSION + 1, exports: 1 }, None).unwrap();
    });
    let error = Client::connect(vec![ours]).unwrap_err();
    assert!(matches!(error, ClientError::Protocol(_)), "{error}");
    gofer.join().unwrap();
    assert!(matches!(Client::connect(Vec::new()), Err(ClientError::Protocol(_))));
}
