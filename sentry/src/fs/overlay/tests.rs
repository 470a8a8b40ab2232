//! Tests of the overlay, with a tmpfs as lower layer.

use super::mount;
use crate::errno::Errno;
use crate::fs::tmpfs::{Tmpfs, TmpfsOptions};
use crate::io::{BufSink, BufSource};
use crate::vfs::{File, FileType, Inode, OpenFlags, Owner, SetAttr};
use platform::MemoryFile;
use std::sync::Arc;

const ME: Owner = Owner { uid: 0, gid: 0 };
const FILE: u32 = FileType::Regular as u32 | 0o644;

/// An overlay over `lower/{file, dir/{a, b}}`: its root and the lower root.
fn layers() -> (Arc<dyn Inode>, Arc<dyn Inode>) {
    platform::safecopy::install().unwrap();
    let memory = MemoryFile::new().unwrap();
    let tmpfs = || Tmpfs::mount(memory.clone(), TmpfsOptions::default()) as Arc<dyn Inode>;
    let (upper, lower) = (tmpfs(), tmpfs());
    let file = lower.create(b"file", FILE, 0, ME).unwrap();
    write(&file, b"lower");
    let dir = lower.mkdir(b"dir", 0o755, ME).unwrap();
    dir.create(b"a", FILE, 0, ME).unwrap();
    dir.create(b"b", FILE, 0, ME).unwrap();
    (mount(upper, lower.clone()), lower)
}

fn open(inode: &Arc<dyn Inode>, flags: OpenFlags) -> Arc<File> {
    use crate::vfs::{Dentry, Mount, MountFlags, Path};
    let mount = Mount::new(inode.fs(), inode.clone(), b"test", MountFlags::empty());
    let path = Path { mount, dentry: Dentry::new_unlinked(inode.clone(), b"") };
    let ops = inode.clone().open(&path, flags).unwrap();
    File::new(ops, Some(path), flags)
}

fn write(inode: &Arc<dyn Inode>, data: &[u8]) {
    let file = open(inode, OpenFlags::RDWR);
    assert_eq!(file.ops().write(&file, &mut BufSource::new(data), 0), Ok(data.len()));
}

fn read(inode: &Arc<dyn Inode>) -> Vec<u8> {
    let file = open(inode, OpenFlags::empty());
    let mut buf = vec![0; 64];
    let n = file.ops().read(&file, &mut BufSink::new(&mut buf), 0).unwrap();
    buf.truncate(n);
    buf
}

#[test]
fn the_archive_is_the_upper_layer() {
    let (root, lower) = layers();
    let (dir, file) = (root.lookup(b"dir").unwrap(), root.create(b"new", FILE, 0, ME).unwrap());
    write(&file, b"data");
    root.link(b"again", &file).unwrap();
    root.unlink(b"file").unwrap();
    dir.unlink(b"a").unwrap();
    root.symlink(&[b'l'; 120], &[b't'; 150], ME).unwrap();
    root.mkdir(b"made", 0o700, ME).unwrap();
    let mut bytes = Vec::new();
    super::archive(&root, &mut |more| {
        bytes.extend_from_slice(more);
        Ok(())
    })
    .unwrap();
    let (blocks, _) = bytes.as_chunks::<512>();
    let heads: Vec<(String, u8)> = blocks
        .iter()
        .filter(|block| &block[257..262] == b"ustar")
        .map(|block| {
            let name = block[..100].split(|b| *b == 0).next().unwrap();
            (String::from_utf8_lossy(name).into_owned(), block[156])
        })
        .collect();
    let has = |name: &str, kind: u8| heads.iter().any(|head| *head == (name.into(), kind));
    assert!(has("./", b'5') && has("./dir/", b'5') && has("./made/", b'5'), "{heads:?}");
    assert!(has("./file", b'3') && has("./dir/a", b'3'), "whiteouts: {heads:?}");
    assert!(has("./new", b'0') != has("./again", b'0') && has("pax", b'x'), "{heads:?}");
    assert!(!has("./dir/b", b'0'), "unchanged: {heads:?}");
    assert!(super::archive(&lower, &mut |_| Ok(())) == Err(Errno::EINVAL));
}

fn names(dir: &Arc<dyn Inode>) -> Vec<String> {
    let file = open(dir, OpenFlags::DIRECTORY);
    let mut names = Vec::new();
    file.ops()
        .readdir(&file, 2, &mut |entry| {
            names.push(String::from_utf8_lossy(entry.name).into_owned());
            true
        })
        .unwrap();
    names.sort();
    names
}

#[test]
fn writing_copies_up() {
    let (root, lower) = layers();
    let file = root.lookup(b"file").unwrap();
    let before = file.attr().unwrap();
    assert_eq!(read(&file), b"lower");
    write(&file, b"UP");
    assert_eq!(read(&file), b"UPwer");
    assert_eq!(read(&lower.lookup(b"file").unwrap()), b"lower");
    // A new look-up finds the copy, under the same number.
    let again = root.lookup(b"file").unwrap();
    assert_eq!(read(&again), b"UPwer");
    assert_eq!(again.attr().unwrap().ino, before.ino);
}

#[test]
fn truncation_copies_nothing() {
    let (root, _) = layers();
    let file = root.lookup(b"file").unwrap();
    file.set_attr(&SetAttr { size: Some(0), ..SetAttr::default() }).unwrap();
    assert_eq!(file.attr().unwrap().size, 0);
    assert_eq!(read(&root.lookup(b"file").unwrap()), b"");
}

#[test]
fn removed_names_stay_removed() {
    let (root, lower) = layers();
    root.unlink(b"file").unwrap();
    assert_eq!(root.lookup(b"file").err(), Some(Errno::ENOENT));
    assert_eq!(names(&root), ["dir"]);
    assert!(lower.lookup(b"file").is_ok());
    let new = root.create(b"file", FILE, 0, ME).unwrap();
    assert_eq!(read(&new), b"");
    root.unlink(b"file").unwrap();
    assert_eq!(root.lookup(b"file").err(), Some(Errno::ENOENT));
}

#[test]
fn directories_merge() {
    let (root, _) = layers();
    let dir = root.lookup(b"dir").unwrap();
    dir.create(b"c", FILE, 0, ME).unwrap();
    dir.unlink(b"a").unwrap();
    assert_eq!(names(&dir), ["b", "c"]);
    assert_eq!(names(&root.lookup(b"dir").unwrap()), ["b", "c"]);
    assert_eq!(root.rmdir(b"dir"), Err(Errno::ENOTEMPTY));
    dir.unlink(b"b").unwrap();
    dir.unlink(b"c").unwrap();
    root.rmdir(b"dir").unwrap();
    // A new directory of that name shows nothing of the old one.
    let dir = root.mkdir(b"dir", 0o755, ME).unwrap();
    assert!(names(&dir).is_empty());
    assert!(names(&root.lookup(b"dir").unwrap()).is_empty());
}

#[test]
fn renames() {
    let (root, _) = layers();
    root.rename(b"file", &root, b"moved", 0).unwrap();
    assert_eq!(root.lookup(b"file").err(), Some(Errno::ENOENT));
    assert_eq!(read(&root.lookup(b"moved").unwrap()), b"lower");
    assert_eq!(root.rename(b"dir", &root, b"d2", 0), Err(Errno::EXDEV));
    let own = root.mkdir(b"own", 0o755, ME).unwrap();
    own.create(b"x", FILE, 0, ME).unwrap();
    assert_eq!(root.rename(b"own", &root, b"dir", 0), Err(Errno::ENOTEMPTY));
    root.rename(b"own", &root, b"file", 0).unwrap();
    assert_eq!(names(&root.lookup(b"file").unwrap()), ["x"]);
    // Over an emptied directory of the lower layer, which must not shine through.
    let dir = root.lookup(b"dir").unwrap();
    dir.unlink(b"a").unwrap();
    dir.unlink(b"b").unwrap();
    root.rename(b"file", &root, b"dir", 0).unwrap();
    assert_eq!(names(&root.lookup(b"dir").unwrap()), ["x"]);
    assert_eq!(names(&root), ["dir", "moved"]);
}

#[test]
fn hard_links_share_the_copy() {
    let (root, _) = layers();
    let file = root.lookup(b"file").unwrap();
    root.link(b"other", &file).unwrap();
    let other = root.lookup(b"other").unwrap();
    assert_eq!(other.attr().unwrap().ino, file.attr().unwrap().ino);
    assert_eq!(other.attr().unwrap().nlink, 2);
    write(&other, b"both!");
    assert_eq!(read(&root.lookup(b"file").unwrap()), b"both!");
}

#[test]
fn private_attributes_do_not_show() {
    let (root, _) = layers();
    root.rmdir(b"dir").unwrap_err();
    let dir = root.lookup(b"dir").unwrap();
    for name in [b"a", b"b"] {
        dir.unlink(name).unwrap();
    }
    root.rmdir(b"dir").unwrap();
    let dir = root.mkdir(b"dir", 0o755, ME).unwrap();
    assert_eq!(dir.list_xattr(), Ok(Vec::new()));
    assert_eq!(root.create(b"w", FileType::CharDevice as u32, 0, ME).err(), Some(Errno::EPERM));
}
