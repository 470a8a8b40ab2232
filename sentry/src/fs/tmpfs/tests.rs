use super::*;
use crate::io::{BufSink, BufSource};
use crate::vfs::{File, Inode, Mappable, Mount, OpenFlags, SetAttr};
use platform::MapSource;

const OWNER: Owner = Owner { uid: 0, gid: 0 };
const REG: u32 = FileType::Regular as u32 | 0o644;

fn new(size: u64) -> Arc<TmpfsInode> {
    let options = TmpfsOptions { size, inodes: 100, ..TmpfsOptions::default() };
    Tmpfs::mount(MemoryFile::new().unwrap(), options)
}

fn open(root: &Arc<TmpfsInode>, inode: Arc<dyn Inode>, flags: OpenFlags) -> Arc<File> {
    let mount = Mount::new(root.fs(), root.clone(), b"none", Default::default());
    let ops = inode.open(&mount.root_path(), flags).unwrap();
    File::new(ops, Some(mount.root_path()), flags)
}

fn write(file: &File, bytes: &[u8], at: u64) -> Result<usize> {
    file.ops().write(file, &mut BufSource::new(bytes), at)
}

fn read(file: &File, at: u64, len: usize) -> Vec<u8> {
    let mut buf = vec![0xee; len];
    let n = file.ops().read(file, &mut BufSink::new(&mut buf), at).unwrap();
    buf.truncate(n);
    buf
}

#[test]
fn sparse_reads_and_writes() {
    let root = new(1 << 20);
    let inode = root.create(b"f", REG, 0, OWNER).unwrap();
    let file = open(&root, inode.clone(), OpenFlags::RDWR);
    assert_eq!(write(&file, b"hello", 10_000), Ok(5));
    assert_eq!(inode.attr().unwrap().size, 10_005);
    assert_eq!(inode.attr().unwrap().blocks, 8);
    assert_eq!(read(&file, 9_998, 100), b"\0\0hello");
    assert_eq!(file.ops().seek_data(0, true), Ok(8192));
    assert_eq!(file.ops().seek_data(8192, false), Ok(10_005));
    assert_eq!(read(&file, 20_000, 10), b"");
    // Shrinking and growing again shows zeroes.
    inode.set_attr(&SetAttr { size: Some(10_001), ..SetAttr::default() }).unwrap();
    inode.set_attr(&SetAttr { size: Some(10_005), ..SetAttr::default() }).unwrap();
    assert_eq!(read(&file, 10_000, 100), b"h\0\0\0\0");
}

#[test]
fn small_appends_stay_in_one_extent() {
    let root = new(64 << 20);
    let inode = root.create(b"f", REG, 0, OWNER).unwrap();
    let file = open(&root, inode.clone(), OpenFlags::WRONLY | OpenFlags::APPEND);
    for i in 0..2000u32 {
        assert_eq!(write(&file, &[i as u8; 1000], 0), Ok(1000));
    }
    let reader = open(&root, inode, OpenFlags::empty());
    let all = read(&reader, 0, 3_000_000);
    assert_eq!(all.len(), 2_000_000);
    assert!(all.chunks(1000).enumerate().all(|(i, c)| c.iter().all(|b| *b == i as u8)));
}

#[test]
fn full() {
    let root = new(8 << 12);
    let inode = root.create(b"f", REG, 0, OWNER).unwrap();
    let file = open(&root, inode.clone(), OpenFlags::RDWR);
    assert_eq!(write(&file, &[1; 40_000], 0), Ok(32_768));
    assert_eq!(write(&file, &[1; 10], 32_768), Err(Errno::ENOSPC));
    file.ops().allocate(3, 0, 8192).unwrap();
    assert_eq!(write(&file, &[1; 10], 32_768), Ok(10));
    assert_eq!(read(&file, 0, 5), [0; 5]);
    drop(file);
    drop(inode);
    root.unlink(b"f").unwrap();
    let free = root.fs().statfs().unwrap();
    assert_eq!(free.blocks[0], free.blocks[1]);
    assert_eq!(free.files[1], 99);
    for i in 0..99u8 {
        root.create(&[i + 1], REG, 0, OWNER).unwrap();
    }
    assert_eq!(root.create(b"one more", REG, 0, OWNER).err(), Some(Errno::ENOSPC));
}

#[test]
fn mappings_follow_the_file() {
    let root = new(1 << 20);
    let inode = root.create(b"f", REG, 0, OWNER).unwrap();
    let file = open(&root, inode.clone(), OpenFlags::RDWR);
    write(&file, &[7; 5000], 0).unwrap();
    let mappable: &dyn Mappable = inode.as_any().downcast_ref::<TmpfsInode>().unwrap();
    let (len, source) = mappable.translate(0, 1 << 20, true).unwrap().unwrap();
    assert_eq!(len, 8192);
    let MapSource::Frames(frames) = source else { panic!("not frames") };
    frames.write(1, b"mapped").unwrap();
    assert_eq!(read(&file, 0, 8), b"\x07mapped\x07");
    assert!(mappable.translate(8192, 4096, false).unwrap().is_none());
    // Truncated and grown again, the file has other pages, and those who mapped it ask again.
    inode.set_attr(&SetAttr { size: Some(0), ..SetAttr::default() }).unwrap();
    write(&file, b"new", 0).unwrap();
    let Some((4096, MapSource::Frames(again))) = mappable.translate(0, 1 << 20, true).unwrap()
    else {
        panic!("not one page")
    };
    let mut seen = [0; 4];
    again.read(0, &mut seen).unwrap();
    assert_eq!(&seen, b"new\0");
    frames.read(0, &mut seen).unwrap();
    assert_eq!(&seen, b"\x07map");
}

#[test]
fn names() {
    let root = new(1 << 20);
    let a = root.mkdir(b"a", 0o755, OWNER).unwrap();
    let b = root.mkdir(b"b", 0o755, OWNER).unwrap();
    assert_eq!(root.attr().unwrap().nlink, 4);
    a.create(b"f", REG, 0, OWNER).unwrap();
    assert_eq!(root.rmdir(b"a"), Err(Errno::ENOTEMPTY));
    assert_eq!(a.create(b"f", REG, 0, OWNER).err(), Some(Errno::EEXIST));
    let f = a.lookup(b"f").unwrap();
    b.link(b"g", &f).unwrap();
    assert_eq!(f.attr().unwrap().nlink, 2);
    assert_eq!(a.rename(b"f", &b, b"g", 1), Err(Errno::EEXIST));
    // Two names of one file: nothing happens.
    a.rename(b"f", &b, b"g", 0).unwrap();
    assert!(a.lookup(b"f").is_ok());
    a.unlink(b"f").unwrap();
    root.rename(b"a", &b, b"sub", 0).unwrap();
    assert_eq!(root.attr().unwrap().nlink, 3);
    assert_eq!(b.attr().unwrap().nlink, 3);
    b.rename(b"sub", &b, b"g", 2).unwrap();
    assert!(b.lookup(b"g").unwrap().attr().unwrap().is_dir());
    b.rmdir(b"g").unwrap();
    assert_eq!(a.create(b"f", REG, 0, OWNER).err(), Some(Errno::ENOENT));
}

#[test]
fn reading_a_directory_that_changes() {
    let root = new(1 << 20);
    for name in [b"a", b"b", b"c", b"d"] {
        root.create(name, REG, 0, OWNER).unwrap();
    }
    let dir = open(&root, root.clone(), OpenFlags::DIRECTORY);
    let list = |pos, max: usize| {
        let (mut names, mut next) = (Vec::new(), pos);
        dir.ops()
            .readdir(&dir, pos, &mut |e| {
                if names.len() == max {
                    return false;
                }
                names.push(e.name.to_vec());
                next = e.next;
                true
            })
            .unwrap();
        (names, next)
    };
    let (names, pos) = list(0, 4);
    assert_eq!(names, [&b"."[..], b"..", b"a", b"b"]);
    root.unlink(b"a").unwrap();
    root.unlink(b"c").unwrap();
    root.create(b"e", REG, 0, OWNER).unwrap();
    assert_eq!(list(pos, 10).0, [b"d", b"e"]);
}

#[test]
fn a_deep_tree_goes_without_recursion() {
    let options = TmpfsOptions { inodes: 200_000, ..TmpfsOptions::default() };
    let root = Tmpfs::mount(MemoryFile::new().unwrap(), options);
    let mut at: Arc<dyn Inode> = root.clone();
    for _ in 0..100_000 {
        at = at.mkdir(b"d", 0o755, OWNER).unwrap();
    }
    drop(at);
    let fs = root.tmpfs().clone();
    drop(root);
    assert_eq!(fs.inodes.load(Ordering::Relaxed), 0);
}

#[test]
fn seals() {
    let root = new(1 << 20);
    let named = root.create(b"f", REG, 0, OWNER).unwrap();
    let named: &TmpfsInode = named.as_any().downcast_ref().unwrap();
    assert_eq!(named.add_seals(2), Err(Errno::EPERM));
    let inode = TmpfsInode::new(root.tmpfs(), REG, OWNER, Kind::file()).unwrap();
    let file = open(&root, inode.clone(), OpenFlags::RDWR);
    write(&file, &[1; 100], 0).unwrap();
    inode.add_seals(2 | 4).unwrap();
    assert_eq!(write(&file, &[1; 100], 50), Ok(50));
    assert_eq!(write(&file, &[1], 100), Err(Errno::EPERM));
    let size = |n| SetAttr { size: Some(n), ..SetAttr::default() };
    assert_eq!(inode.set_attr(&size(1)), Err(Errno::EPERM));
    assert_eq!(inode.set_attr(&size(200)), Err(Errno::EPERM));
    inode.add_seals(8 | 1).unwrap();
    assert_eq!(write(&file, &[1], 0), Err(Errno::EPERM));
    assert_eq!(inode.add_seals(16), Err(Errno::EPERM));
}
