//! A small image, read whole; and the same with damage anywhere.

use super::directory;
use super::image::Image;
use super::xattr;
use crate::errno::{Errno, Result};
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const BLOCK: usize = 4096;
/// Inodes stand at the beginnings of blocks from the second on; the data of files follows.
const DATA: u32 = 6;

fn put(image: &mut [u8], at: usize, bytes: &[u8]) {
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

/// A compact inode with this number, whose extended attributes and tail follow.
fn inode(
    image: &mut [u8],
    block: usize,
    layout: u16,
    mode: u16,
    size: u32,
    data: u32,
    behind: &[u8],
) {
    let at = (1 + block) * BLOCK;
    let xattrs: u16 = if mode & 0o170000 == 0o100000 && layout == 0 { 3 } else { 0 };
    for (offset, value) in [(0, layout << 1), (2, xattrs), (4, mode), (6, 1), (24, 7), (26, 8)] {
        put(image, at + offset, &value.to_le_bytes());
    }
    put(image, at + 8, &size.to_le_bytes());
    put(image, at + 16, &data.to_le_bytes());
    put(image, at + 32, behind);
}

fn directory_block(entries: &[(&str, u64, u8)]) -> Vec<u8> {
    let mut head = Vec::new();
    let mut names = Vec::new();
    for (name, block, kind) in entries {
        let offset = entries.len() * 12 + names.len();
        head.extend((block * BLOCK as u64 / 32).to_le_bytes());
        head.extend((offset as u16).to_le_bytes());
        head.extend([*kind, 0]);
        names.extend(name.bytes());
    }
    [head, names].concat()
}

/// The bytes of an image.
fn sample() -> Vec<u8> {
    let mut image = vec![0; (DATA as usize + 4) * BLOCK];
    let head = &mut image[1024..];
    put(head, 0, &0xe0f5_e1e2_u32.to_le_bytes());
    head[12] = 12;
    put(head, 16, &5_u64.to_le_bytes());
    put(head, 24, &1000_u64.to_le_bytes());
    put(head, 36, &(DATA + 4).to_le_bytes());
    put(head, 40, &1_u32.to_le_bytes());
    put(head, 80, &4_u32.to_le_bytes());
    let root = directory_block(&[
        (".", 0, 2),
        ("..", 0, 2),
        ("chunks", 1, 1),
        ("link", 2, 7),
        ("plain", 3, 1),
    ]);
    inode(&mut image, 0, 2, 0o040755, root.len() as u32, 0, &root);
    // Two chunks of a block, of which the first is a hole.
    let table = [u32::MAX.to_le_bytes(), (DATA + 2).to_le_bytes()].concat();
    inode(&mut image, 1, 4, 0o100644, BLOCK as u32 + 3, 0, &table);
    inode(&mut image, 2, 2, 0o120777, 5, 0, b"plain");
    // Two words of attributes behind the header: `user.a` is `xyz`.
    let xattrs = [&[0; 12][..], &[1, 1, 3, 0], b"axyz"].concat();
    inode(&mut image, 3, 0, 0o100600, BLOCK as u32 + 2, DATA, &xattrs);
    image[DATA as usize * BLOCK..][..BLOCK + 2].fill(b'p');
    put(&mut image, (DATA as usize + 2) * BLOCK, b"end");
    image
}

fn open(bytes: &[u8]) -> Result<Image> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("erofs-{}-{n}", std::process::id()));
    let mut options = File::options();
    let mut file = options.read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    Image::open(Arc::new(OwnedFd::from(file)))
}

/// Everything there is, as far down as a few levels.
fn walk(image: &Image, number: u64, depth: u32, seen: &mut Vec<String>) -> Result<()> {
    let record = image.inode(number)?;
    let attributes = xattr::all(image, &record)?;
    let data = image.read(&record, 0, 1 << 16)?;
    seen.push(format!("{:o} {} {} {}", record.mode, record.size, data.len(), attributes.len()));
    let mut at = 0;
    while let Some((_, len)) = image.place(&record, at)? {
        at += len;
        if at > 1 << 20 {
            break;
        }
    }
    if record.mode & 0o170000 == 0o040000 && depth > 0 {
        for name in [&b"chunks"[..], b"link", b"plain", b"none", b"."] {
            if let Some(child) = directory::find(image, &record, name)?
                && name != b"."
            {
                walk(image, child, depth - 1, seen)?;
            }
        }
    }
    Ok(())
}

#[test]
fn reads() {
    let image = open(&sample()).unwrap();
    let mut seen = Vec::new();
    walk(&image, image.root(), 2, &mut seen).unwrap();
    let expected = ["40755 87 87 0", "100644 4099 4099 0", "120777 5 5 0", "100600 4098 4098 1"];
    assert_eq!(seen[1..], expected[1..]);
    let root = image.inode(image.root()).unwrap();
    let plain = directory::find(&image, &root, b"plain").unwrap().unwrap();
    let plain = image.inode(plain).unwrap();
    assert_eq!((plain.uid, plain.gid, plain.mtime), (7, 8, 1_000_000_000_000));
    assert_eq!(xattr::all(&image, &plain).unwrap()[0], (b"user.a".to_vec(), b"xyz".to_vec()));
    let chunks = directory::find(&image, &root, b"chunks").unwrap().unwrap();
    let bytes = image.read(&image.inode(chunks).unwrap(), 4094, 100).unwrap();
    assert_eq!(bytes, b"\0\0end");
}

#[test]
fn refusals() {
    let mut bytes = sample();
    assert_eq!(open(&bytes[..100]).err(), Some(Errno::EINVAL));
    // A property that is not known, and a compressed file.
    bytes[1024 + 80] = 2;
    assert_eq!(open(&bytes).err(), Some(Errno::EOPNOTSUPP));
    let mut bytes = sample();
    bytes[4 * BLOCK] = 3 << 1;
    let image = open(&bytes).unwrap();
    let mut seen = Vec::new();
    assert_eq!(walk(&image, image.root(), 2, &mut seen), Err(Errno::EOPNOTSUPP));
    bytes[1024] = 0;
    assert_eq!(open(&bytes).err(), Some(Errno::EINVAL));
}

/// Damage is an error, or other data: never a panic, nor without end.
#[test]
fn damage() {
    let good = sample();
    let mut state = 7_u64;
    let mut random = |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    // Where something else than data stands.
    let blocks = (1..5).flat_map(|block| block * BLOCK..block * BLOCK + 160);
    let places: Vec<usize> = (1024..1152).chain(blocks).collect();
    for _ in 0..5_000 {
        let mut bytes = good.clone();
        for _ in 0..1 + random(4) {
            bytes[places[random(places.len())]] =
                [0, 1, 0x7f, 0x80, 0xff, random(256) as u8][random(6)];
        }
        bytes.truncate(bytes.len() - random(2) * random(bytes.len()));
        if let Ok(image) = open(&bytes) {
            let _ = walk(&image, image.root(), 3, &mut Vec::new());
        }
    }
}
