//! Creating, removing, moving and changing.

mod common;

use std::io::{Read, Seek, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use common::{Fixture, TempDir, names};
use gofer::process::Options;
use gofer::server::Export;
use gofer::{
    CreateFlags, FileKind, OpenFlags, Owner, Reach, RenameFlags, SetAttr, TimeUpdate, Timestamp,
    XattrFlags,
};
use nix::errno::Errno;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn create_gives_an_open_file() {
    let f = Fixture::writable();
    f.dir.file("dir/x", "");
    let flags = CreateFlags::OPEN | CreateFlags::NODE;
    let created = f.client.create(f.root, &names("dir/new"), 0o4751, flags, None).unwrap();
    assert_eq!(created.attr.mode, libc::S_IFREG | 0o4751);
    let mut file = std::fs::File::from(created.fd.unwrap());
    file.write_all(b"hello").unwrap();
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    assert_eq!(std::fs::read(f.dir.join("dir/new")).unwrap(), b"hello");
    assert_eq!(f.client.stat(created.node.unwrap(), &[]).unwrap().size, 5);
    let again = f.client.create(f.root, &names("dir/new"), 0o644, flags, None).unwrap_err();
    assert_eq!(again.errno(), Errno::EEXIST);
    let plain = f.client.create(f.root, &names("y"), 0, CreateFlags::empty(), None).unwrap();
    assert!(plain.fd.is_none() && plain.node.is_none());
    assert_eq!(plain.attr.mode, libc::S_IFREG);
}

#[test]
fn a_file_without_a_name_can_get_one() {
    let f = Fixture::writable();
    f.dir.file("dir/x", "");
    let (fd, node, attr) = f.client.create_unnamed(f.root, &[b"dir"], 0o640, None).unwrap();
    assert_eq!((attr.mode, attr.nlink), (libc::S_IFREG | 0o640, 0));
    std::fs::File::from(fd).write_all(b"hello").unwrap();
    assert_eq!(std::fs::read_dir(f.dir.join("dir")).unwrap().count(), 1);
    assert_eq!(f.client.link(node, f.root, &names("dir/new")).unwrap().nlink, 1);
    assert_eq!(std::fs::read(f.dir.join("dir/new")).unwrap(), b"hello");
    let nowhere = f.client.create_unnamed(f.root, &names("dir/x"), 0o640, None).unwrap_err();
    assert_eq!(nowhere.errno(), Errno::ENOTDIR);
}

#[test]
fn append_is_passed_on() {
    let f = Fixture::writable();
    let flags = CreateFlags::OPEN | CreateFlags::APPEND;
    let created = f.client.create(f.root, &[b"log"], 0o644, flags, None).unwrap();
    let mut file = std::fs::File::from(created.fd.unwrap());
    file.write_all(b"one").unwrap();
    file.rewind().unwrap();
    file.write_all(b"two").unwrap();
    let flags = OpenFlags::WRITE | OpenFlags::APPEND;
    let mut file = std::fs::File::from(f.client.open(f.root, &[b"log"], flags).unwrap().0);
    file.write_all(b"three").unwrap();
    assert_eq!(std::fs::read(f.dir.join("log")).unwrap(), b"onetwothree");
    let flags = OpenFlags::WRITE | OpenFlags::TRUNCATE;
    assert_eq!(f.client.open(f.root, &[b"log"], flags).unwrap().1.size, 0);
    assert_eq!(std::fs::metadata(f.dir.join("log")).unwrap().len(), 0);
}

#[test]
fn owners_are_set_by_root_only() {
    let f = Fixture::writable();
    let owner = Some(Owner { uid: 1234, gid: 4321 });
    let created = f.client.create(f.root, &[b"file"], 0o6755, CreateFlags::OPEN, owner);
    if !is_root() {
        assert_eq!(created.unwrap_err().errno(), Errno::EPERM);
        assert!(!f.dir.join("file").exists(), "a failed creation leaves nothing");
        return;
    }
    let attr = created.unwrap().attr;
    assert_eq!((attr.uid, attr.gid, attr.mode & 0o7777), (1234, 4321, 0o6755));
    let (_, attr) = f.client.mkdir(f.root, &[b"dir"], 0o3770, owner).unwrap();
    assert_eq!((attr.uid, attr.gid, attr.mode & 0o7777), (1234, 4321, 0o3770));
    let attr = f.client.symlink(f.root, &[b"link"], b"file", owner).unwrap();
    assert_eq!((attr.uid, attr.gid), (1234, 4321));
    let attr = f.client.mknod(f.root, &[b"fifo"], libc::S_IFIFO | 0o640, owner).unwrap();
    assert_eq!((attr.uid, attr.gid, attr.mode), (1234, 4321, libc::S_IFIFO | 0o640));
    // The link's target is still root's gift of before.
    let host = std::fs::symlink_metadata(f.dir.join("link")).unwrap();
    assert_eq!((host.uid(), host.gid()), (1234, 4321));
    // And files of others can be used.
    let set = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    assert_eq!(f.client.setattr(f.root, &[b"file"], set).unwrap().mode & 0o7777, 0o600);
    assert!(f.client.open(f.root, &[b"file"], OpenFlags::READ | OpenFlags::WRITE).is_ok());
}

#[test]
fn every_kind_of_name_can_be_made_and_removed() {
    let f = Fixture::writable();
    let (node, attr) = f.client.mkdir(f.root, &[b"dir"], 0o1777, None).unwrap();
    assert_eq!(attr.mode, libc::S_IFDIR | 0o1777);
    let attr = f.client.symlink(node, &[b"link"], b"/anywhere/../x", None).unwrap();
    assert_eq!((attr.kind(), attr.size), (FileKind::Symlink, 14));
    assert_eq!(f.client.readlink(node, &[b"link"]).unwrap(), b"/anywhere/../x");
    for (name, mode) in [
        (&b"fifo"[..], libc::S_IFIFO | 0o600),
        (b"socket", libc::S_IFSOCK | 0o644),
        (b"regular", libc::S_IFREG | 0o222),
    ] {
        assert_eq!(f.client.mknod(node, &[name], mode, None).unwrap().mode, mode);
    }
    assert!(std::fs::metadata(f.dir.join("dir/fifo")).unwrap().file_type().is_fifo());
    let block = f.client.mknod(node, &[b"dev"], libc::S_IFBLK | 0o666, None);
    assert_eq!(block.unwrap_err().errno(), Errno::EPERM);
    assert_eq!(
        f.client.mknod(node, &[b"odd"], libc::S_IFDIR, None).unwrap_err().errno(),
        Errno::EINVAL
    );
    assert_eq!(f.client.rmdir(f.root, &[b"dir"]).unwrap_err().errno(), Errno::ENOTEMPTY);
    assert_eq!(f.client.unlink(f.root, &[b"dir"]).unwrap_err().errno(), Errno::EISDIR);
    assert_eq!(f.client.rmdir(node, &[b"fifo"]).unwrap_err().errno(), Errno::ENOTDIR);
    for name in [&b"link"[..], b"fifo", b"socket", b"regular"] {
        f.client.unlink(node, &[name]).unwrap();
    }
    f.client.rmdir(f.root, &[b"dir"]).unwrap();
    assert_eq!(f.client.unlink(f.root, &[b"dir"]).unwrap_err().errno(), Errno::ENOENT);
    for target in [&b""[..], &[b'x'; 4096]] {
        assert!(f.client.symlink(f.root, &[b"link"], target, None).is_err());
    }
}

#[test]
fn whiteouts_are_made() {
    let f = Fixture::writable();
    f.dir.file("lower", "L");
    let whiteout = |name: &str| {
        let host = std::fs::symlink_metadata(f.dir.join(name)).unwrap();
        host.file_type().is_char_device() && host.rdev() == 0
    };
    let attr = f.client.mknod(f.root, &[b"gone"], libc::S_IFCHR | 0o640, None).unwrap();
    assert_eq!((attr.mode, attr.rdev), (libc::S_IFCHR | 0o640, 0));
    assert!(whiteout("gone"));
    // It leads nowhere, whoever opens it.
    let error = f.client.open(f.root, &[b"gone"], OpenFlags::READ).unwrap_err();
    assert_eq!(error.errno(), Errno::ENXIO);
    assert!(std::fs::File::open(f.dir.join("gone")).is_err());
    f.client.unlink(f.root, &[b"gone"]).unwrap();
    let rename = |flags| f.client.rename(f.root, &[b"lower"], f.root, &[b"upper"], flags);
    let both = RenameFlags::WHITEOUT | RenameFlags::EXCHANGE;
    assert_eq!(rename(both).unwrap_err().errno(), Errno::EINVAL);
    rename(RenameFlags::WHITEOUT | RenameFlags::NO_REPLACE).unwrap();
    assert!(whiteout("lower"));
    assert_eq!(std::fs::read(f.dir.join("upper")).unwrap(), b"L");
}

#[test]
fn hard_links_and_renames() {
    let f = Fixture::writable();
    f.dir.file("a", "A");
    f.dir.file("b", "B");
    f.client.mkdir(f.root, &[b"dir"], 0o755, None).unwrap();
    let node = f.client.walk(f.root, &[b"a"], true).unwrap().node.unwrap();
    assert_eq!(f.client.link(node, f.root, &names("dir/link")).unwrap().nlink, 2);
    let error = f.client.link(node, f.root, &[b"b"]).unwrap_err();
    assert_eq!(error.errno(), Errno::EEXIST);
    let symlink = f.client.symlink(f.root, &[b"symlink"], b"a", None).unwrap();
    let symlink_node = f.client.walk(f.root, &[b"symlink"], true).unwrap().node.unwrap();
    let linked = f.client.link(symlink_node, f.root, &[b"symlink2"]).unwrap();
    assert_eq!((linked.ino, linked.kind()), (symlink.ino, FileKind::Symlink));
    let dir = f.client.walk(f.root, &[b"dir"], true).unwrap().node.unwrap();
    assert_eq!(f.client.link(dir, f.root, &[b"dir2"]).unwrap_err().errno(), Errno::EPERM);

    let rename = |from: &str, to: &str, flags| {
        f.client.rename(f.root, &names(from), f.root, &names(to), flags)
    };
    let none = RenameFlags::empty();
    assert_eq!(rename("a", "b", RenameFlags::NO_REPLACE).unwrap_err().errno(), Errno::EEXIST);
    rename("a", "b", RenameFlags::EXCHANGE).unwrap();
    assert_eq!(std::fs::read(f.dir.join("a")).unwrap(), b"B");
    rename("a", "dir/c", none).unwrap();
    assert_eq!(rename("a", "d", none).unwrap_err().errno(), Errno::ENOENT);
    assert_eq!(rename("b", "dir", none).unwrap_err().errno(), Errno::EISDIR);
    assert_eq!(rename("dir", "dir/in", none).unwrap_err().errno(), Errno::EINVAL);
    assert_eq!(rename("b", "e", RenameFlags::all()).unwrap_err().errno(), Errno::EINVAL);
    assert_eq!(std::fs::read(f.dir.join("dir/c")).unwrap(), b"B");
    // The node still names the file, wherever it went.
    assert_eq!(f.client.stat(node, &[]).unwrap().nlink, 2);
}

#[test]
fn nothing_goes_from_one_export_to_another() {
    let dir = TempDir::new();
    dir.file("one/a", "");
    dir.file("two/b", "");
    let f = Fixture::over(dir, |path| {
        vec![
            Export::new(path.join("one"), false),
            Export::new(path.join("two"), false),
            Export::new(path.join("two"), true),
        ]
    });
    let (two, ..) = f.client.attach(1).unwrap();
    let (read_only, ..) = f.client.attach(2).unwrap();
    let node = f.client.walk(f.root, &[b"a"], true).unwrap().node.unwrap();
    assert_eq!(f.client.link(node, two, &[b"c"]).unwrap_err().errno(), Errno::EXDEV);
    let none = RenameFlags::empty();
    let error = f.client.rename(f.root, &[b"a"], two, &[b"c"], none).unwrap_err();
    assert_eq!(error.errno(), Errno::EXDEV);
    let error = f.client.rename(read_only, &[b"b"], f.root, &[b"c"], none).unwrap_err();
    assert_eq!(error.errno(), Errno::EROFS);
    let node = f.client.walk(read_only, &[b"b"], true).unwrap().node.unwrap();
    assert_eq!(f.client.link(node, two, &[b"c"]).unwrap_err().errno(), Errno::EROFS);
}

#[test]
fn attributes_change() {
    let f = Fixture::writable();
    f.dir.file("a", "12345");
    std::os::unix::fs::symlink("a", f.dir.join("link")).unwrap();
    let set = |name: &[u8], set| f.client.setattr(f.root, &[name], set);
    let attr = set(b"a", SetAttr { mode: Some(0o4711), ..SetAttr::default() }).unwrap();
    assert_eq!(attr.mode, libc::S_IFREG | 0o4711);
    let attr = set(b"a", SetAttr { size: Some(100_000), ..SetAttr::default() }).unwrap();
    assert_eq!(attr.size, 100_000);
    let time = Timestamp { sec: -5, nsec: 123_456_789 };
    let times = SetAttr { mtime: Some(TimeUpdate::To(time)), ..SetAttr::default() };
    let before = f.client.stat(f.root, &[b"a"]).unwrap();
    let attr = set(b"a", times).unwrap();
    assert_eq!((attr.mtime, attr.atime), (time, before.atime));
    let attr = set(b"link", times).unwrap();
    assert_eq!((attr.mtime, attr.kind()), (time, FileKind::Symlink));
    let now = SetAttr { atime: Some(TimeUpdate::Now), mtime: times.mtime, ..SetAttr::default() };
    let attr = set(b"a", now).unwrap();
    assert!(attr.atime.sec > 1_000_000_000 && attr.mtime == time);
    let wrong = TimeUpdate::To(Timestamp { sec: 0, nsec: 1_000_000_000 });
    let wrong = SetAttr { atime: Some(wrong), ..SetAttr::default() };
    assert_eq!(set(b"a", wrong).unwrap_err().errno(), Errno::EINVAL);
    let mode = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    assert_eq!(set(b"link", mode).unwrap_err().errno(), Errno::EOPNOTSUPP);
    let size = SetAttr { size: Some(1), ..SetAttr::default() };
    assert_eq!(set(b"link", size).unwrap_err().errno(), Errno::EINVAL);
    assert_eq!(f.client.setattr(f.root, &[], size).unwrap_err().errno(), Errno::EISDIR);
    let huge = SetAttr { size: Some(u64::MAX), ..SetAttr::default() };
    assert_eq!(set(b"a", huge).unwrap_err().errno(), Errno::EINVAL);
    let nobody = SetAttr { uid: Some(u32::MAX), ..SetAttr::default() };
    assert_eq!(set(b"a", nobody).unwrap_err().errno(), Errno::EINVAL);
    if is_root() {
        let all = SetAttr { uid: Some(7), gid: Some(8), mode: Some(0o6777), ..SetAttr::default() };
        let attr = set(b"a", all).unwrap();
        assert_eq!((attr.uid, attr.gid, attr.mode & 0o7777), (7, 8, 0o6777));
        let own = SetAttr { uid: Some(9), ..SetAttr::default() };
        assert_eq!(set(b"link", own).unwrap().uid, 9);
        assert_eq!(f.client.stat(f.root, &[b"a"]).unwrap().uid, 7);
    }
}

#[test]
fn files_and_directories_reach_the_disk() {
    let f = Fixture::writable();
    f.dir.file("a", "x");
    f.client.fsync(f.root, &[b"a"], true).unwrap();
    f.client.fsync(f.root, &[], false).unwrap();
    f.client.mknod(f.root, &[b"fifo"], libc::S_IFIFO | 0o600, None).unwrap();
    assert_eq!(f.client.fsync(f.root, &[b"fifo"], false).unwrap_err().errno(), Errno::EINVAL);
}

#[test]
fn extended_attributes() {
    let f = Fixture::writable();
    f.dir.file("a", "x");
    let none = XattrFlags::empty();
    let set = |name: &[u8], value: &[u8], flags| {
        f.client.setxattr(f.root, &[b"a"], name, value, flags).map_err(|error| error.errno())
    };
    let get = |name: &[u8]| f.client.getxattr(f.root, &[b"a"], name).map_err(|error| error.errno());
    if set(b"user.test", b"value", none) == Err(Errno::EOPNOTSUPP) {
        panic!("the temporary directory's file system has no user attributes");
    }
    assert_eq!(get(b"user.test").unwrap(), b"value");
    assert_eq!(set(b"user.test", b"", XattrFlags::CREATE), Err(Errno::EEXIST));
    assert_eq!(set(b"user.none", b"", XattrFlags::REPLACE), Err(Errno::ENODATA));
    assert_eq!(get(b"user.none"), Err(Errno::ENODATA));
    set(b"user.empty", b"", none).unwrap();
    assert_eq!(get(b"user.empty").unwrap(), b"");
    let listed = f.client.listxattr(f.root, &[b"a"]).unwrap();
    assert_eq!(listed.split(|&byte| byte == 0).filter(|name| !name.is_empty()).count(), 2);
    for name in [&b"trusted.overlay.opaque"[..], b"security.selinux", b"system.posix_acl_access"] {
        assert_eq!(get(name), Err(Errno::EOPNOTSUPP));
        assert_eq!(set(name, b"x", none), Err(Errno::EOPNOTSUPP));
    }
    assert_eq!(get(b"security.capability"), Err(Errno::ENODATA));
    assert_eq!(set(b"security.capability", b"x", none), Err(Errno::EOPNOTSUPP));
    assert_eq!(get(b"user."), Err(Errno::EINVAL));
    assert_eq!(get(b""), Err(Errno::ERANGE));
    assert_eq!(get(&[b'u'; 256]), Err(Errno::ERANGE));
    for size in [65_537, 1_000_000] {
        assert_eq!(set(b"user.big", &vec![0; size], none), Err(Errno::E2BIG));
    }
    f.client.removexattr(f.root, &[b"a"], b"user.test").unwrap();
    let error = f.client.removexattr(f.root, &[b"a"], b"user.test").unwrap_err();
    assert_eq!(error.errno(), Errno::ENODATA);
    f.client.symlink(f.root, &[b"link"], b"a", None).unwrap();
    let error = f.client.getxattr(f.root, &[b"link"], b"user.x").unwrap_err();
    assert_eq!(error.errno(), Errno::ENODATA);
}

#[test]
fn read_only_exports_stay_as_they_are() {
    let dir = TempDir::new();
    dir.file("a", "x");
    dir.file("dir/b", "x");
    for isolate in [true, false] {
        let exports = vec![Export::new(dir.path(), true)];
        let options = Options { isolate, ..Options::new(exports) };
        let f = Fixture::start(TempDir::new(), options);
        let (client, root) = (&f.client, f.root);
        let node = client.walk(root, &[b"a"], true).unwrap().node.unwrap();
        let owner = None;
        let results = [
            client.create(root, &[b"n"], 0o644, CreateFlags::OPEN, owner).map(drop),
            client.create_unnamed(root, &[], 0o644, owner).map(drop),
            client.mkdir(root, &[b"n"], 0o755, owner).map(drop),
            client.symlink(root, &[b"n"], b"a", owner).map(drop),
            client.mknod(root, &[b"n"], libc::S_IFIFO, owner).map(drop),
            client.link(node, root, &[b"n"]).map(drop),
            client.unlink(root, &[b"a"]),
            client.rmdir(root, &[b"dir"]),
            client.rename(root, &[b"a"], root, &[b"n"], RenameFlags::empty()),
            client.setattr(node, &[], SetAttr::default()).map(drop),
            client.setxattr(node, &[], b"user.x", b"", XattrFlags::empty()),
            client.removexattr(node, &[], b"user.x"),
            client.open(node, &[], OpenFlags::WRITE).map(drop),
            client.open(node, &[], OpenFlags::READ | OpenFlags::WRITE).map(drop),
        ];
        for (index, result) in results.into_iter().enumerate() {
            assert_eq!(result.unwrap_err().errno(), Errno::EROFS, "call {index}");
        }
        let host = std::fs::metadata(dir.join("a")).unwrap();
        assert_eq!((host.len(), host.permissions().mode() & 0o7777), (1, 0o644));
    }
}

#[test]
fn sockets_are_connected_to_where_that_is_allowed() {
    let dir = TempDir::new();
    let listener = std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
    for isolate in [true, false] {
        let exports = vec![
            Export { reach: Reach::CONNECT, ..Export::new(dir.path(), true) },
            Export::new(dir.path(), true),
        ];
        let options = Options { isolate, ..Options::new(exports) };
        let f = Fixture::start(TempDir::new(), options);
        let fd = f.client.connect_socket(f.root, &[b"socket"], libc::SOCK_STREAM).unwrap();
        let mut ours = std::os::unix::net::UnixStream::from(fd);
        let (mut theirs, _) = listener.accept().unwrap();
        ours.write_all(b"hi").unwrap();
        drop(ours);
        let mut text = String::new();
        theirs.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hi");
        let (refusing, ..) = f.client.attach(1).unwrap();
        let error = f.client.connect_socket(refusing, &[b"socket"], libc::SOCK_STREAM);
        assert_eq!(error.unwrap_err().errno(), Errno::ECONNREFUSED);
    }
}

#[test]
fn sockets_are_bound_where_that_is_allowed() {
    for isolate in [true, false] {
        let dir = TempDir::new();
        std::fs::create_dir(dir.join("no")).unwrap();
        let exports = vec![
            Export { reach: Reach::BIND, ..Export::new(dir.path(), false) },
            Export::new(dir.join("no"), false),
        ];
        let options = Options { isolate, ..Options::new(exports) };
        let f = Fixture::start(dir, options);
        let bind = |dir, name: &[u8], kind| f.client.bind_socket(dir, &[name], kind, 0o640, None);
        let (fd, attr) = bind(f.root, b"socket", libc::SOCK_STREAM).unwrap();
        assert_eq!(attr.mode, libc::S_IFSOCK | 0o640);
        let mut theirs = std::os::unix::net::UnixStream::connect(f.dir.join("socket")).unwrap();
        let listener = std::os::unix::net::UnixListener::from(fd);
        listener.set_nonblocking(false).unwrap();
        let (mut ours, _) = listener.accept().unwrap();
        theirs.write_all(b"hi").unwrap();
        drop(theirs);
        let mut text = String::new();
        ours.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hi");
        // Names that are taken, also by a link that leads out, and what is not for connections.
        std::os::unix::fs::symlink("/tmp/elsewhere", f.dir.join("link")).unwrap();
        for name in [&b"socket"[..], b"link"] {
            let error = bind(f.root, name, libc::SOCK_STREAM).unwrap_err();
            assert_eq!(error.errno(), Errno::EADDRINUSE);
        }
        let error = bind(f.root, b"dgram", libc::SOCK_DGRAM).unwrap_err();
        assert_eq!(error.errno(), Errno::EPROTOTYPE);
        assert!(!f.dir.join("dgram").exists());
        let (refusing, ..) = f.client.attach(1).unwrap();
        let error = bind(refusing, b"socket", libc::SOCK_STREAM).unwrap_err();
        assert_eq!(error.errno(), Errno::EPERM);
        assert!(!f.dir.join("no/socket").exists());
        let error = f.client.connect_socket(f.root, &[b"socket"], libc::SOCK_STREAM).unwrap_err();
        assert_eq!(error.errno(), Errno::ECONNREFUSED, "connecting is another permission");
    }
}

#[test]
fn fifos_are_opened_where_that_is_allowed() {
    let dir = TempDir::new();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let fifo = dir.join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let f = Fixture::over(dir, |path| {
        let reaching = |read_only| Export { reach: Reach::FIFO, ..Export::new(path, read_only) };
        vec![reaching(false), reaching(true), Export::new(path, false)]
    });
    let open = |dir, flags| f.client.open(dir, &[b"fifo"], flags);
    // It never waits for the other side.
    assert_eq!(open(f.root, OpenFlags::WRITE).unwrap_err().errno(), Errno::ENXIO);
    let mut reader = std::fs::File::from(open(f.root, OpenFlags::READ).unwrap().0);
    let mut writer = std::fs::File::from(open(f.root, OpenFlags::WRITE).unwrap().0);
    writer.write_all(b"x").unwrap();
    drop(writer);
    let mut text = [0; 2];
    assert_eq!(reader.read(&mut text).unwrap(), 1);
    // The end comes when the gofer, too, has let go of the writing end.
    let end = loop {
        match reader.read(&mut text) {
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => std::thread::yield_now(),
            end => break end.unwrap(),
        }
    };
    assert_eq!(end, 0);
    let (read_only, ..) = f.client.attach(1).unwrap();
    assert!(open(read_only, OpenFlags::READ).is_ok());
    assert_eq!(open(read_only, OpenFlags::WRITE).unwrap_err().errno(), Errno::EROFS);
    let (refusing, ..) = f.client.attach(2).unwrap();
    assert_eq!(open(refusing, OpenFlags::READ).unwrap_err().errno(), Errno::ENXIO);
}

#[test]
fn all_of_it_without_privileges() {
    common::rerun_unprivileged();
}
