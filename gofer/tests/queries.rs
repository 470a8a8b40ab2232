//! Looking things up, listing and opening.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::Read;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

use common::{Fixture, TempDir, names};
use gofer::server::Export;
use gofer::{ClientError, FileKind, ListOptions, OpenFlags};
use nix::errno::Errno;

fn read_only(dir: TempDir) -> Fixture {
    Fixture::over(dir, |path| vec![Export::new(path, true)])
}

fn tree() -> TempDir {
    let dir = TempDir::new();
    dir.file("usr/lib/libc.so", "library");
    dir.file("usr/bin/tool", "#!");
    symlink("usr/lib", dir.join("lib")).unwrap();
    symlink("/etc/passwd", dir.join("usr/absolute")).unwrap();
    dir
}

#[test]
fn walk_reaches_files_in_one_call() {
    let f = read_only(tree());
    let walked = f.client.walk(f.root, &names("usr/lib/libc.so"), true).unwrap();
    assert_eq!(walked.attrs.len(), 3);
    assert_eq!(walked.error, None);
    assert_eq!(walked.target, None);
    let host = std::fs::metadata(f.dir.join("usr/lib/libc.so")).unwrap();
    let attr = walked.attrs[2];
    assert_eq!(
        (attr.ino, attr.size, attr.mode, attr.nlink, attr.uid, attr.dev),
        (host.ino(), 7, host.mode(), 1, host.uid(), host.dev())
    );
    assert_eq!((attr.mtime.sec, i64::from(attr.mtime.nsec)), (host.mtime(), host.mtime_nsec()));
    let node = walked.node.unwrap();
    assert_eq!(f.client.stat(node, &[]).unwrap(), attr);
    // The same without an identifier.
    let walked = f.client.walk(f.root, &names("usr/lib/libc.so"), false).unwrap();
    assert_eq!((walked.attrs.len(), walked.node), (3, None));
    assert_eq!(walked.attrs[2], attr);
}

#[test]
fn walk_stops_where_it_has_to() {
    let f = read_only(tree());
    let walked = f.client.walk(f.root, &names("usr/nothing/more"), true).unwrap();
    assert_eq!((walked.attrs.len(), walked.error, walked.node), (1, Some(Errno::ENOENT), None));
    let walked = f.client.walk(f.root, &names("usr/bin/tool/more"), true).unwrap();
    assert_eq!((walked.attrs.len(), walked.error, walked.node), (3, Some(Errno::ENOTDIR), None));
    for want_node in [false, true] {
        let walked = f.client.walk(f.root, &names("lib/libc.so"), want_node).unwrap();
        assert_eq!(walked.attrs.len(), 1);
        assert_eq!(walked.attrs[0].kind(), FileKind::Symlink);
        assert_eq!(walked.target.as_deref(), Some(&b"usr/lib"[..]));
        assert_eq!((walked.error, walked.node.is_some()), (None, want_node));
        let walked = f.client.walk(f.root, &names("usr/absolute"), want_node).unwrap();
        assert_eq!(walked.target.as_deref(), Some(&b"/etc/passwd"[..]));
    }
    let walked = f.client.walk(f.root, &[], true).unwrap();
    assert!(walked.attrs.is_empty() && walked.node.is_some());
}

#[test]
fn other_calls_do_not_follow_links() {
    let f = read_only(tree());
    assert_eq!(f.client.stat(f.root, &names("lib")).unwrap().kind(), FileKind::Symlink);
    let error = f.client.stat(f.root, &names("lib/libc.so")).unwrap_err();
    assert_eq!(error, ClientError::Errno(Errno::ELOOP));
    let open = |path| f.client.open(f.root, &names(path), OpenFlags::READ).unwrap_err().errno();
    assert_eq!(open("lib"), Errno::ELOOP);
    assert_eq!(open("lib/libc.so"), Errno::ELOOP);
    assert_eq!(open("usr"), Errno::EISDIR);
    assert_eq!(open("none"), Errno::ENOENT);
    assert_eq!(f.client.readlink(f.root, &names("lib")).unwrap(), b"usr/lib");
    assert_eq!(f.client.readlink(f.root, &names("usr")).unwrap_err().errno(), Errno::EINVAL);
}

#[test]
fn opened_files_can_be_read_and_no_more() {
    let f = read_only(tree());
    let (fd, attr) = f.client.open(f.root, &names("usr/lib/libc.so"), OpenFlags::READ).unwrap();
    assert_eq!(attr.size, 7);
    let mut file = std::fs::File::from(fd);
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "library");
    assert!(std::io::Write::write(&mut file, b"x").is_err());
    let flags = OpenFlags::READ | OpenFlags::WRITE;
    let error = f.client.open(f.root, &names("usr/bin/tool"), flags).unwrap_err();
    assert_eq!(error.errno(), Errno::EROFS);
    // Not even by way of the descriptor, where the gofer could make its mounts read-only.
    if f.isolation.contains(gofer::sandbox::Isolation::RESTRICTED_MOUNTS) {
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        let error = std::fs::OpenOptions::new().write(true).open(path).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EROFS));
    }
}

#[test]
fn nodes_outlive_names_until_forgotten() {
    let f = Fixture::writable();
    f.dir.file("a", "before");
    let node = f.client.walk(f.root, &names("a"), true).unwrap().node.unwrap();
    std::fs::remove_file(f.dir.join("a")).unwrap();
    let (fd, attr) = f.client.open(node, &[], OpenFlags::READ).unwrap();
    assert_eq!((attr.nlink, attr.size), (0, 6));
    drop(fd);
    f.client.forget(node);
    assert_eq!(f.client.stat(node, &[]).unwrap_err().errno(), Errno::EBADF);
}

#[test]
fn thousands_of_nodes_are_given_back() {
    let f = read_only(tree());
    // An unprivileged user may not look into it.
    let descriptors = || {
        std::fs::read_dir(format!("/proc/{}/fd", f.pid.as_raw_nonzero())).map_or(0, Iterator::count)
    };
    let before = descriptors();
    for _ in 0..10_000 {
        let walked = f.client.walk(f.root, &names("usr/lib"), true).unwrap();
        f.client.forget(walked.node.unwrap());
    }
    f.client.flush_forgotten().unwrap();
    assert!(descriptors() <= before + 2, "{before} {}", descriptors());
}

#[test]
fn running_out_of_descriptors_is_an_error_not_the_end() {
    let f = Fixture::over(tree(), |path| vec![Export::new(path, true)]);
    let limit = rustix::process::Rlimit { current: Some(64), maximum: Some(64) };
    rustix::process::prlimit(Some(f.pid), rustix::process::Resource::Nofile, limit).unwrap();
    let walk = || f.client.walk(f.root, &names("usr/lib"), true);
    let mut nodes = Vec::new();
    let error = loop {
        match walk() {
            Ok(walked) => nodes.push(walked.node.unwrap()),
            Err(error) => break error,
        }
        assert!(nodes.len() < 64);
    };
    assert_eq!(error.errno(), Errno::ENFILE);
    let tool = names("usr/bin/tool");
    let error = f.client.open(f.root, &tool, OpenFlags::READ).unwrap_err();
    assert_eq!(error.errno(), Errno::ENFILE);
    let error = f.client.list(f.root, &[], true, ListOptions::default()).unwrap_err();
    assert_eq!(error.errno(), Errno::ENFILE);
    f.client.forget_all(&nodes);
    assert!(walk().is_ok());
    assert!(f.client.open(f.root, &tool, OpenFlags::READ).is_ok());
}

#[test]
fn list_has_everything_with_attributes() {
    let f = read_only(tree());
    let listing = f.client.list(f.root, &[], true, ListOptions::default()).unwrap();
    assert!(listing.complete);
    // Reading it may have changed its access time, where the host could not be kept from that.
    let dir = gofer::Attr { atime: listing.dir.atime, ..f.client.stat(f.root, &[]).unwrap() };
    assert_eq!(listing.dir, dir);
    assert_eq!(f.client.stat(listing.node.unwrap(), &[]).unwrap().ino, dir.ino);
    let mut entries = listing.entries;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(entries.len(), 2);
    assert_eq!((&*entries[0].name, entries[0].kind), (&b"lib"[..], FileKind::Symlink));
    assert_eq!(entries[0].target.as_deref(), Some(&b"usr/lib"[..]));
    assert_eq!((&*entries[1].name, entries[1].kind), (&b"usr"[..], FileKind::Directory));
    for entry in &entries {
        let attr = f.client.stat(f.root, &[&entry.name]).unwrap();
        assert_eq!(entry.attr, Some(attr));
        assert_eq!(entry.ino, attr.ino);
    }
    let error = f.client.list(f.root, &names("usr/bin/tool"), false, ListOptions::default());
    assert_eq!(error.unwrap_err().errno(), Errno::ENOTDIR);
}

#[test]
fn large_directories_come_in_pages() {
    let dir = TempDir::new();
    for index in 0..1000 {
        std::fs::write(dir.join(&format!("{index:0200}")), "").unwrap();
    }
    for index in 0..50 {
        symlink("t".repeat(4000), dir.join(&format!("link{index}"))).unwrap();
    }
    let f = read_only(dir);
    let listing = f.client.list(f.root, &[], false, ListOptions::default()).unwrap();
    assert!(listing.complete);
    let mut seen: Vec<_> = listing.entries.iter().map(|entry| entry.name.clone()).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 1050);
    let links = listing.entries.iter().filter(|entry| entry.target.is_some());
    assert!(links.clone().all(|link| link.target.as_ref().unwrap().len() == 4000));
    assert_eq!(links.count(), 50);
    // Beyond the limit only names.
    let options = ListOptions { attr_limit: 300, targets: false };
    let listing = f.client.list(f.root, &[], false, options).unwrap();
    assert!(!listing.complete);
    assert_eq!(listing.entries.len(), 1050);
    assert_eq!(listing.entries.iter().filter(|entry| entry.attr.is_some()).count(), 300);
    assert!(listing.entries.iter().all(|entry| entry.kind != FileKind::Unknown));
}

#[test]
fn hidden_directories_look_empty() {
    let dir = tree();
    dir.file("proc/secret", "");
    dir.file("usr/deep/secret", "");
    let hide = ["proc", "usr/deep", "missing"].map(PathBuf::from).to_vec();
    for isolate in [true, false] {
        let exports = vec![Export { hide: hide.clone(), ..Export::new(dir.path(), false) }];
        let options = gofer::process::Options { isolate, ..gofer::process::Options::new(exports) };
        let f = Fixture::start(TempDir::new(), options);
        for path in ["proc", "usr/deep"] {
            let listing =
                f.client.list(f.root, &names(path), true, ListOptions::default()).unwrap();
            assert!(listing.entries.is_empty(), "{path}");
            assert_eq!(listing.dir.mode, libc::S_IFDIR | 0o555);
            let secret = format!("{path}/secret");
            let node = f.client.walk(f.root, &names(path), true).unwrap().node.unwrap();
            let walked = f.client.walk(node, &[b"secret"], true).unwrap();
            assert_eq!(walked.error, Some(Errno::ENOENT));
            let walked = f.client.walk(f.root, &names(&secret), false).unwrap();
            assert_eq!(walked.error, Some(Errno::ENOENT));
            let error = f.client.open(f.root, &names(&secret), OpenFlags::READ).unwrap_err();
            assert_eq!(error.errno(), Errno::ENOENT);
            let error = f.client.mkdir(node, &[b"new"], 0o755, None).unwrap_err();
            assert!(matches!(error.errno(), Errno::EACCES | Errno::EROFS), "{error}");
            // Not to be moved out of the way either.
            let to = names("elsewhere");
            let error = f
                .client
                .rename(f.root, &names(path), f.root, &to, gofer::RenameFlags::empty())
                .unwrap_err();
            assert_eq!(error.errno(), Errno::EBUSY);
            assert!(f.client.statfs(node, &[]).is_ok());
        }
        let parent = f.client.list(f.root, &[], false, ListOptions::default()).unwrap();
        let entry = parent.entries.iter().find(|entry| &*entry.name == b"proc").unwrap();
        assert_eq!(entry.attr.unwrap().mode, libc::S_IFDIR | 0o555);
    }
}

#[test]
fn the_host_root_shows_no_kernel_file_systems() {
    for isolate in [true, false] {
        let exports = vec![Export { hide: Vec::new(), ..Export::host_root() }, Export::host_root()];
        let options = gofer::process::Options { isolate, ..gofer::process::Options::new(exports) };
        let f = Fixture::start(TempDir::new(), options);
        let (hiding, ..) = f.client.attach(1).unwrap();
        for root in [f.root, hiding] {
            for path in ["proc", "sys"] {
                let listing =
                    f.client.list(root, &names(path), false, ListOptions::default()).unwrap();
                assert!(listing.entries.is_empty(), "{path}");
            }
            for path in ["proc/self/root", "proc/1/root/etc/passwd", "proc/sys/kernel/hostname"] {
                let walked = f.client.walk(root, &names(path), true).unwrap();
                assert_eq!((walked.attrs.len(), walked.error), (1, Some(Errno::ENOENT)));
                assert!(f.client.open(root, &names(path), OpenFlags::READ).is_err());
            }
            assert!(f.client.walk(root, &names("etc/passwd"), false).unwrap().error.is_none());
        }
        let dev = f.client.list(hiding, &names("dev"), false, ListOptions::default()).unwrap();
        assert!(dev.entries.is_empty());
    }
}

#[test]
fn exports_can_be_files_and_descriptors() {
    let dir = tree();
    let fd = std::os::fd::OwnedFd::from(std::fs::File::open(dir.path()).unwrap());
    let f = Fixture::over(dir, |path| {
        vec![
            Export::new(path.join("usr/bin/tool"), true),
            Export { source: gofer::server::Source::Fd(fd), ..Export::new("/", true) },
        ]
    });
    assert_eq!(f.client.exports(), 2);
    let (fd, attr) = f.client.open(f.root, &[], OpenFlags::READ).unwrap();
    assert_eq!(attr.kind(), FileKind::Regular);
    drop(fd);
    assert_eq!(f.client.walk(f.root, &[b"x"], true).unwrap().error, Some(Errno::ENOTDIR));
    let (root, ..) = f.client.attach(1).unwrap();
    assert_eq!(f.client.readlink(root, &names("lib")).unwrap(), b"usr/lib");
    assert_eq!(f.client.attach(2).unwrap_err().errno(), Errno::ENOENT);
}

#[test]
fn file_systems_are_described() {
    let f = read_only(tree());
    let statfs = f.client.statfs(f.root, &names("usr")).unwrap();
    let host = rustix::fs::statfs(f.dir.path()).unwrap();
    assert_eq!(statfs.kind, host.f_type as u64);
    assert_eq!((statfs.blocks, statfs.name_length), (host.f_blocks, 255));
}

#[test]
fn all_of_it_without_privileges() {
    common::rerun_unprivileged();
}

#[test]
fn changes_of_a_watched_directory_are_told() {
    let f = read_only(tree());
    let watcher = f.client.new_watcher().unwrap();
    let events = || {
        let mut buffer = [0; 4096];
        match rustix::io::read(&watcher.fd, &mut buffer) {
            Ok(n) => buffer[..n].to_vec(),
            Err(rustix::io::Errno::AGAIN) => Vec::new(),
            Err(error) => panic!("reading events: {error}"),
        }
    };
    let number = f.client.watch(&watcher, f.root, &names("usr/bin")).unwrap();
    assert_eq!(f.client.watch(&watcher, f.root, &names("usr/bin")), Ok(number));
    assert!(events().is_empty());
    f.dir.file("usr/bin/other", "");
    let told = events();
    assert_eq!(told[..4], number.to_ne_bytes());
    assert!(told.windows(5).any(|name| name == b"other"));
    f.dir.file("usr/lib/other", "");
    assert!(events().is_empty());
    f.client.unwatch(&watcher, number).unwrap();
    assert!(!events().is_empty(), "IN_IGNORED");
    f.dir.file("usr/bin/third", "");
    assert!(events().is_empty());
    for (path, errno) in [("usr/bin/tool", Errno::ENOTDIR), ("usr/nothing", Errno::ENOENT)] {
        let refused = f.client.watch(&watcher, f.root, &names(path));
        assert_eq!(refused, Err(ClientError::Errno(errno)));
    }
    assert_eq!(f.client.unwatch(&watcher, number), Err(ClientError::Errno(Errno::EINVAL)));
    while f.client.new_watcher().is_ok() {}
    assert_eq!(f.client.new_watcher().unwrap_err(), ClientError::Errno(Errno::EMFILE));
}
