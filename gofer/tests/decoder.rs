//! The decoder by itself: everything that is sent comes back, and nothing else makes it stumble.

#[path = "common/random.rs"]
mod random;

use gofer::protocol::{
    At, Bytes, Envelope, MAX_MESSAGE, NodeId, Reply, Request, WireEntry, components,
};
use gofer::{
    Attr, CreateFlags, FileKind, ListOptions, OpenFlags, Owner, RenameFlags, SetAttr, Statfs,
    TimeUpdate, Timestamp, XattrFlags,
};
use random::Random;

/// Numbers of all magnitudes, the extreme ones among them.
fn number(random: &mut Random) -> u64 {
    let shift = random.below(65) as u32;
    random.next().checked_shr(shift).unwrap_or(0)
}

fn bytes(random: &mut Random, limit: usize) -> Vec<u8> {
    (0..random.below(limit + 1)).map(|_| random.next() as u8).collect()
}

fn time(random: &mut Random) -> Timestamp {
    Timestamp { sec: number(random) as i64, nsec: number(random) as u32 }
}

fn attr(random: &mut Random) -> Attr {
    Attr {
        mode: number(random) as u32,
        nlink: number(random) as u32,
        uid: number(random) as u32,
        gid: number(random) as u32,
        ino: number(random),
        size: number(random),
        blocks: number(random),
        blksize: number(random) as u32,
        dev: number(random),
        rdev: number(random),
        mount_id: number(random),
        mount_root: random.below(2) == 0,
        atime: time(random),
        mtime: time(random),
        ctime: time(random),
        btime: (random.below(2) == 0).then(|| time(random)),
    }
}

fn maybe<T>(random: &mut Random, make: impl FnOnce(&mut Random) -> T) -> Option<T> {
    if random.below(2) == 0 { None } else { Some(make(random)) }
}

fn at<'a>(random: &mut Random, path: &'a [u8]) -> At<'a> {
    At { node: NodeId(number(random)), path: Bytes::borrowed(path) }
}

/// Any request, and its number.
fn request<'a>(random: &mut Random, a: &'a [u8], b: &'a [u8]) -> Request<'a> {
    let want_node = random.below(2) == 0;
    let mode = number(random) as u32;
    let owner =
        maybe(random, |random| Owner { uid: number(random) as u32, gid: number(random) as u32 });
    let (from, to, data) = (at(random, a), at(random, b), Bytes::borrowed(b));
    let at = from.clone();
    match random.below(28) {
        0 => Request::Hello { magic: mode, version: mode },
        1 => Request::Nop,
        2 => Request::Attach { export: mode },
        3 => Request::Walk { at, want_node },
        4 => Request::Stat { at },
        5 => {
            let options = ListOptions { attr_limit: mode, targets: want_node };
            Request::List { at, want_node, options }
        }
        6 => Request::ListNext,
        7 => Request::Open { at, flags: OpenFlags::from_bits_retain(mode), want_node },
        8 => {
            let flags = CreateFlags::from_bits_retain(mode);
            Request::Create { at, mode, flags, owner }
        }
        9 => Request::Mkdir { at, mode, owner, want_node },
        10 => Request::Symlink { at, target: data, owner },
        11 => Request::Mknod { at, mode, owner },
        12 => Request::Link { from, to },
        13 => Request::Unlink { at },
        14 => Request::Rmdir { at },
        15 => Request::Rename { from, to, flags: RenameFlags::from_bits_retain(mode) },
        16 => {
            let set = SetAttr {
                mode: maybe(random, |random| number(random) as u32),
                uid: maybe(random, |random| number(random) as u32),
                gid: maybe(random, |random| number(random) as u32),
                size: maybe(random, number),
                atime: maybe(random, |_| TimeUpdate::Now),
                mtime: maybe(random, |random| TimeUpdate::To(time(random))),
            };
            Request::SetAttr { at, set }
        }
        17 => Request::Readlink { at },
        18 => Request::Statfs { at },
        19 => Request::Fsync { at, data_only: want_node },
        20 => Request::GetXattr { at, name: data },
        21 => {
            let (name, flags) = (data.clone(), XattrFlags::from_bits_retain(mode));
            Request::SetXattr { at, name, value: data, flags }
        }
        22 => Request::RemoveXattr { at, name: data },
        23 => Request::Watch { watcher: mode, at },
        24 => Request::Unwatch { watcher: mode, number: number(random) as i32 },
        25 => Request::NewWatcher,
        26 => Request::CreateUnnamed { at, mode, owner },
        _ => Request::Connect { at, kind: mode as i32 },
    }
}

fn reply<'a>(random: &mut Random, data: &'a [u8]) -> Reply<'a> {
    let node = maybe(random, |random| NodeId(number(random)));
    let bytes = Bytes::borrowed(data);
    match random.below(8) {
        0 => Reply::Error(number(random) as i32),
        1 => Reply::Hello { version: number(random) as u32, exports: number(random) as u32 },
        2 => Reply::Done,
        3 => Reply::Node { node, attr: attr(random) },
        4 => Reply::Walk {
            attrs: (0..random.below(20)).map(|_| attr(random)).collect(),
            node,
            target: maybe(random, |_| bytes),
            error: maybe(random, |random| number(random) as i32),
        },
        5 => Reply::List {
            dir: maybe(random, attr),
            node,
            count: number(random) as u32,
            entries: bytes,
            more: random.below(2) == 0,
        },
        6 => Reply::Bytes(bytes),
        _ => Reply::Statfs(Statfs {
            kind: number(random),
            block_size: number(random),
            blocks: number(random),
            blocks_free: number(random),
            blocks_available: number(random),
            files: number(random),
            files_free: number(random),
            name_length: number(random),
            fragment_size: number(random),
            flags: number(random),
        }),
    }
}

#[test]
fn what_is_sent_comes_back_and_nothing_shorter_does() {
    let mut random = Random(1);
    for _ in 0..5000 {
        let (a, b) = (bytes(&mut random, 300), bytes(&mut random, 300));
        let forget = (0..random.below(4)).map(|_| NodeId(number(&mut random))).collect();
        let envelope = Envelope { forget, request: request(&mut random, &a, &b) };
        let encoded = postcard::to_stdvec(&envelope).unwrap();
        let decoded = postcard::take_from_bytes::<Envelope<'_>>(&encoded).unwrap();
        assert_eq!(decoded, (envelope, &[][..]));
        let cut = random.below(encoded.len());
        assert!(postcard::take_from_bytes::<Envelope<'_>>(&encoded[..cut]).is_err());

        let reply = reply(&mut random, &a);
        let encoded = postcard::to_stdvec(&reply).unwrap();
        let decoded = postcard::take_from_bytes::<Reply<'_>>(&encoded).unwrap();
        assert_eq!(decoded, (reply, &[][..]));
        let cut = random.below(encoded.len());
        assert!(postcard::take_from_bytes::<Reply<'_>>(&encoded[..cut]).is_err());

        let entry = WireEntry {
            name: Bytes::borrowed(&a),
            ino: number(&mut random),
            kind: FileKind::from_mode(number(&mut random) as u32),
            attr: maybe(&mut random, attr),
            target: maybe(&mut random, |_| Bytes::borrowed(&b)),
        };
        let encoded = postcard::to_stdvec(&entry).unwrap();
        let decoded = postcard::take_from_bytes::<WireEntry<'_>>(&encoded).unwrap();
        assert_eq!(decoded, (entry, &[][..]));
    }
}

#[test]
fn any_bytes_decode_or_fail() {
    let mut random = Random(2);
    let mut decoded = 0;
    for round in 0..200_000 {
        let mut message = if round % 2 == 0 {
            bytes(&mut random, 60)
        } else {
            // Close to the truth.
            let (a, b) = (bytes(&mut random, 20), bytes(&mut random, 20));
            let forget = Vec::new();
            let request = request(&mut random, &a, &b);
            postcard::to_stdvec(&Envelope { forget, request }).unwrap()
        };
        for _ in 0..random.below(4) {
            if !message.is_empty() {
                let index = random.below(message.len());
                message[index] = random.next() as u8;
            }
        }
        decoded += usize::from(postcard::take_from_bytes::<Envelope<'_>>(&message).is_ok());
        decoded += usize::from(postcard::take_from_bytes::<Reply<'_>>(&message).is_ok());
        decoded += usize::from(postcard::take_from_bytes::<WireEntry<'_>>(&message).is_ok());
        let _ = components(&message).map(Iterator::count);
    }
    assert!(decoded > 10_000, "{decoded}");
}

/// A length that promises more than there is must not be believed before it is read.
#[test]
fn promised_lengths_take_no_memory() {
    for length in [1_u64 << 20, 1 << 32, 1 << 40, u64::MAX] {
        let mut message = postcard::to_stdvec(&length).unwrap();
        message.push(1);
        // As the identifiers to forget, and as the attributes of a walk.
        assert!(postcard::take_from_bytes::<Envelope<'_>>(&message).is_err());
        message.insert(0, 4);
        assert!(postcard::take_from_bytes::<Reply<'_>>(&message).is_err());
    }
    // It must fit the socket buffers of an unprivileged process.
    const { assert!(MAX_MESSAGE < 200_000) };
}
