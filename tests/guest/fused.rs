//! A FUSE daemon for cases: a small file system in memory, which speaks the protocol itself, and misbehaves for
//! files of certain names.

use crate::prelude::*;
use std::collections::BTreeMap;

/// How the daemon behaves.
#[derive(Clone, Copy, Default)]
pub struct Manner {
    /// For how many seconds names and attributes may be believed.
    pub timeout: u64,
    /// The mount option `default_permissions`.
    pub default_permissions: bool,
    /// The mount option `allow_other`.
    pub allow_other: bool,
    /// Requests with these numbers are answered with `ENOSYS`.
    pub unknown: &'static [u32],
}

#[derive(Default, Clone)]
struct Node {
    mode: u32,
    owner: (u32, u32),
    nlink: u32,
    data: Vec<u8>,
    names: BTreeMap<Vec<u8>, u64>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    times: [(u64, u32); 2],
    rdev: u32,
}

struct Daemon {
    fd: i32,
    manner: Manner,
    nodes: BTreeMap<u64, Node>,
    next: u64,
    /// How often each operation was asked for; 0: how many requests have got no answer.
    seen: BTreeMap<u32, u64>,
    /// Requests that are answered only when they are interrupted.
    kept: Vec<u64>,
}

type Reply = Result<Vec<u8>, i32>;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_ne_bytes)
}

fn name_at(bytes: &[u8], at: usize) -> Vec<u8> {
    let rest = bytes.get(at..).unwrap_or_default();
    rest.iter().copied().take_while(|b| *b != 0).collect()
}

fn words(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

impl Daemon {
    fn node(&mut self, id: u64) -> Result<&mut Node, i32> {
        self.nodes.get_mut(&id).ok_or(ENOENT)
    }

    fn attr(&mut self, id: u64) -> Result<Vec<u8>, i32> {
        let node = self.node(id)?.clone();
        let [atime, mtime] = node.times;
        let mut out = Vec::new();
        let size = node.data.len() as u64;
        for word in [id, size, size.div_ceil(512), atime.0, mtime.0, mtime.0] {
            out.extend_from_slice(&word.to_ne_bytes());
        }
        let (uid, gid) = node.owner;
        for word in [atime.1, mtime.1, mtime.1, node.mode, node.nlink, uid, gid, node.rdev, 4096, 0]
        {
            out.extend_from_slice(&word.to_ne_bytes());
        }
        Ok(out)
    }

    fn attr_out(&mut self, id: u64) -> Reply {
        let attr = self.attr(id)?;
        Ok(words(&[&self.manner.timeout.to_ne_bytes(), &[0; 8], &attr]))
    }

    fn entry_out(&mut self, id: u64) -> Reply {
        let (attr, timeout) = (self.attr(id)?, self.manner.timeout.to_ne_bytes());
        Ok(words(&[&id.to_ne_bytes(), &[0; 8], &timeout, &timeout, &[0; 8], &attr]))
    }

    fn make(&mut self, dir: u64, name: Vec<u8>, mode: u32, owner: (u32, u32)) -> Result<u64, i32> {
        if self.node(dir)?.names.contains_key(&name) {
            return Err(EEXIST);
        }
        self.next += 1;
        let id = self.next;
        let nlink = if mode & S_IFMT == S_IFDIR { 2 } else { 1 };
        let times = [(1_000_000_000, 5); 2];
        self.nodes.insert(id, Node { mode, owner, nlink, times, ..Node::default() });
        self.node(dir)?.names.insert(name, id);
        Ok(id)
    }

    fn child(&mut self, dir: u64, name: &[u8]) -> Result<u64, i32> {
        self.node(dir)?.names.get(name).copied().ok_or(ENOENT)
    }

    fn remove(&mut self, dir: u64, name: &[u8], directory: bool) -> Reply {
        let id = self.child(dir, name)?;
        if directory && !self.node(id)?.names.is_empty() {
            return Err(ENOTEMPTY);
        }
        self.node(dir)?.names.remove(name);
        let node = self.node(id)?;
        node.nlink = node.nlink.saturating_sub(if directory { 2 } else { 1 });
        Ok(Vec::new())
    }

    fn set_attr(&mut self, id: u64, body: &[u8]) -> Reply {
        let what = u32_at(body, 0);
        let (size, mode) = (u64_at(body, 16), u32_at(body, 68));
        let (uid, gid) = (u32_at(body, 76), u32_at(body, 80));
        let given = [(u64_at(body, 32), u32_at(body, 56)), (u64_at(body, 40), u32_at(body, 60))];
        let node = self.node(id)?;
        if what & 1 != 0 {
            node.mode = node.mode & S_IFMT | mode & 0o7777;
        }
        if what & 2 != 0 {
            node.owner.0 = uid;
        }
        if what & 4 != 0 {
            node.owner.1 = gid;
        }
        if what & 8 != 0 {
            node.data.resize(size as usize, 0);
        }
        for (i, (bit, now)) in [(16, 128), (32, 256)].into_iter().enumerate() {
            if what & now != 0 {
                node.times[i] = (2_000_000_000, 0);
            } else if what & bit != 0 {
                node.times[i] = given[i];
            }
        }
        self.attr_out(id)
    }

    fn read_dir(&mut self, id: u64, body: &[u8]) -> Reply {
        let (offset, size) = (u64_at(body, 8), u32_at(body, 16) as usize);
        let names = self.node(id)?.names.clone();
        let mut all: Vec<(Vec<u8>, u64)> = vec![(b".".to_vec(), id), (b"..".to_vec(), 1)];
        all.extend(names);
        let mut out = Vec::new();
        for (i, (name, node)) in all.iter().enumerate().skip(offset as usize) {
            let name = if name == b"slash" { &b"a/b"[..] } else { name };
            let name = if name == b"nameless" { &b""[..] } else { name };
            let kind = self.node(*node)?.mode >> 12;
            let next = i as u64 + 1;
            let mut entry = words(&[
                &node.to_ne_bytes(),
                &next.to_ne_bytes(),
                &(name.len() as u32).to_ne_bytes(),
                &kind.to_ne_bytes(),
                name,
            ]);
            entry.resize(entry.len().next_multiple_of(8), 0);
            if out.len() + entry.len() > size {
                break;
            }
            out.extend(entry);
        }
        Ok(out)
    }

    fn rename(&mut self, id: u64, body: &[u8], names: usize, flags: u32) -> Reply {
        let to = u64_at(body, 0);
        let from_name = name_at(body, names);
        let to_name = name_at(body, names + from_name.len() + 1);
        let moved = self.child(id, &from_name)?;
        let there = self.child(to, &to_name).ok();
        match (flags, there) {
            (1, Some(_)) => return Err(EEXIST),
            (2, Some(other)) => {
                self.node(id)?.names.insert(from_name, other);
            }
            (0 | 1, there) => {
                if let Some(other) = there {
                    if !self.node(other)?.names.is_empty() {
                        return Err(ENOTEMPTY);
                    }
                    self.node(other)?.nlink = 0;
                }
                self.node(id)?.names.remove(&from_name);
            }
            _ => return Err(EINVAL),
        }
        self.node(to)?.names.insert(to_name, moved);
        Ok(Vec::new())
    }

    /// What names the daemon misbehaves for; `Some(None)`: no reply at all.
    fn trick(&mut self, name: &[u8], unique: u64) -> Option<Option<Reply>> {
        Some(match name {
            b"silent" | b"silent2" => {
                self.kept.push(unique);
                *self.seen.entry(0).or_default() += 1;
                None
            }
            b"die" => exit(3),
            b"short" => Some(Ok(vec![0; 10])),
            b"long" => Some(Ok(vec![0; 3000])),
            b"untyped" => {
                let mut entry = vec![0; 128];
                entry[0] = 77;
                Some(Ok(entry))
            }
            b"root" => Some(self.entry_out(1)),
            b"error" => Some(Err(ELIBBAD)),
            b"unknown-id" => {
                p_reply(self.fd, unique + 1000, 0, &[]);
                p_reply(self.fd, unique + 1001, 0, &[]);
                wr(self.fd, "short");
                p_reply(self.fd, 0, 2, &[0; 24]);
                p_reply(self.fd, unique, 5, &[]);
                Some(Err(ENOENT))
            }
            _ => return None,
        })
    }

    fn answer(
        &mut self,
        op: u32,
        id: u64,
        unique: u64,
        owner: (u32, u32),
        body: &[u8],
    ) -> Option<Reply> {
        *self.seen.entry(op).or_default() += 1;
        if self.manner.unknown.contains(&op) {
            return Some(Err(ENOSYS));
        }
        Some(match op {
            1 => {
                let name = name_at(body, 0);
                if let Some(trick) = self.trick(&name, unique) {
                    return trick;
                }
                match self.child(id, &name) {
                    Err(ENOENT) if self.manner.timeout > 0 => {
                        let timeout = self.manner.timeout.to_ne_bytes();
                        Ok(words(&[&[0; 16], &timeout, &[0; 104]]))
                    }
                    other => other.and_then(|id| self.entry_out(id)),
                }
            }
            3 => self.attr_out(id),
            4 => self.set_attr(id, body),
            5 => self.node(id).map(|node| node.data.clone()),
            6 => {
                let name = name_at(body, 0);
                let target = name_at(body, name.len() + 1);
                self.make(id, name, S_IFLNK | 0o777, owner).and_then(|id| {
                    self.node(id)?.data = target;
                    self.entry_out(id)
                })
            }
            8 => self.make(id, name_at(body, 16), u32_at(body, 0), owner).and_then(|id| {
                self.node(id)?.rdev = u32_at(body, 4);
                self.entry_out(id)
            }),
            9 => self
                .make(id, name_at(body, 8), S_IFDIR | u32_at(body, 0), owner)
                .and_then(|id| self.entry_out(id)),
            10 => self.remove(id, &name_at(body, 0), false),
            11 => self.remove(id, &name_at(body, 0), true),
            12 => self.rename(id, body, 8, 0),
            45 => self.rename(id, body, 16, u32_at(body, 8)),
            13 => {
                let target = u64_at(body, 0);
                let name = name_at(body, 8);
                self.node(target).map(|node| node.nlink += 1).and_then(|()| {
                    self.node(id)?.names.insert(name, target);
                    self.entry_out(target)
                })
            }
            14 | 27 => Ok(words(&[&7u64.to_ne_bytes(), &[0; 8]])),
            35 => self.make(id, name_at(body, 16), u32_at(body, 4), owner).and_then(|id| {
                let entry = self.entry_out(id)?;
                Ok(words(&[&entry, &9u64.to_ne_bytes(), &[0; 8]]))
            }),
            15 => self.node(id).map(|node| {
                let from = (u64_at(body, 8) as usize).min(node.data.len());
                let to = (from + u32_at(body, 16) as usize).min(node.data.len());
                node.data[from..to].to_vec()
            }),
            16 => self.node(id).map(|node| {
                let (at, len) = (u64_at(body, 8) as usize, u32_at(body, 16) as usize);
                let data = body.get(40..40 + len).unwrap_or_default();
                if node.data.len() < at + len {
                    node.data.resize(at + len, 0);
                }
                node.data[at..at + len].copy_from_slice(data);
                words(&[&(len as u32).to_ne_bytes(), &[0; 4]])
            }),
            17 => {
                let numbers: [u64; 5] = [100, 50, 40, 30, 20];
                let mut out: Vec<u8> = numbers.iter().flat_map(|n| n.to_ne_bytes()).collect();
                for word in [512u32, 99, 1024] {
                    out.extend_from_slice(&word.to_ne_bytes());
                }
                out.resize(80, 0);
                Ok(out)
            }
            21 => {
                let (size, flags, name) =
                    (u32_at(body, 0) as usize, u32_at(body, 4), name_at(body, 8));
                let value = body.get(9 + name.len()..).unwrap_or_default();
                let value = value.get(..size).unwrap_or_default().to_vec();
                self.node(id).and_then(|node| {
                    match (flags, node.xattrs.contains_key(&name)) {
                        (1, true) => return Err(EEXIST),
                        (2, false) => return Err(ENODATA),
                        _ => node.xattrs.insert(name, value),
                    };
                    Ok(Vec::new())
                })
            }
            22 | 23 => {
                let (size, name) = (u32_at(body, 0) as usize, name_at(body, 8));
                self.node(id).and_then(|node| {
                    let value = if op == 22 {
                        node.xattrs.get(&name).cloned().ok_or(ENODATA)?
                    } else {
                        let names = node.xattrs.keys();
                        names.flat_map(|name| [name.as_slice(), &[0]].concat()).collect()
                    };
                    match size {
                        0 => Ok(words(&[&(value.len() as u32).to_ne_bytes(), &[0; 4]])),
                        size if size < value.len() => Err(ERANGE),
                        _ => Ok(value),
                    }
                })
            }
            24 => {
                let name = name_at(body, 0);
                self.node(id)
                    .and_then(|node| node.xattrs.remove(&name).map(|_| Vec::new()).ok_or(ENODATA))
            }
            26 => {
                let mut out = Vec::new();
                // Writes may be large, and look-ups under way at once.
                for word in [7u32, 31, 65536, 0x4_0020, 0, 65536] {
                    out.extend_from_slice(&word.to_ne_bytes());
                }
                out.resize(64, 0);
                Ok(out)
            }
            28 => self.read_dir(id, body),
            34 => {
                match u32_at(body, 0) & 2 != 0 && self.node(id).is_ok_and(|n| n.mode & 0o200 == 0) {
                    true => Err(EACCES),
                    false => Ok(Vec::new()),
                }
            }
            36 => {
                let of = u64_at(body, 0);
                if self.kept.contains(&of) {
                    self.kept.retain(|kept| *kept != of);
                    p_reply(self.fd, of, -EINTR, &[]);
                }
                return None;
            }
            18 | 20 | 25 | 29 | 30 => Ok(Vec::new()),
            2 | 42 => return None,
            _ => Err(ENOSYS),
        })
    }

    /// Files that tell what the daemon has seen: `seen-N`, how often operation N was asked for.
    fn count(&mut self, op: u32, id: u64, body: &[u8]) {
        if op != 1 || id != 1 {
            return;
        }
        let name = String::from_utf8_lossy(&name_at(body, 0)).into_owned();
        let Some(of) = name.strip_prefix("seen-").and_then(|n| n.parse::<u32>().ok()) else {
            return;
        };
        let text = self.seen.get(&of).copied().unwrap_or(0).to_string();
        let made = self.make(1, name.clone().into_bytes(), S_IFREG | 0o444, (0, 0));
        let id = made.or_else(|_| self.child(1, name.as_bytes()));
        if let Ok(node) = id.and_then(|id| self.node(id)) {
            node.data = text.into_bytes();
        }
    }
}

/// Writes a reply.
fn p_reply(fd: i32, unique: u64, error: i32, body: &[u8]) -> Ret {
    let len = 16 + body.len() as u32;
    wr(fd, words(&[&len.to_ne_bytes(), &error.to_ne_bytes(), &unique.to_ne_bytes(), body]))
}

/// Serves until the file system is unmounted.
fn serve(fd: i32, manner: Manner) -> i32 {
    let mut daemon = Daemon {
        fd,
        manner,
        nodes: BTreeMap::new(),
        next: 1,
        seen: BTreeMap::new(),
        kept: Vec::new(),
    };
    let root = Node { mode: S_IFDIR | 0o755, nlink: 2, ..Node::default() };
    daemon.nodes.insert(1, root);
    loop {
        let message = rd(fd, 256 << 10);
        let bytes = match &message.0 {
            Ok(bytes) => bytes,
            Err(e) if e.errno() == EINTR || e.errno() == ENOENT => continue,
            Err(e) => return if e.errno() == ENODEV { 0 } else { e.errno() },
        };
        let (op, unique, id) = (u32_at(bytes, 4), u64_at(bytes, 8), u64_at(bytes, 16));
        let owner = (u32_at(bytes, 24), u32_at(bytes, 28));
        let body = bytes.get(40..).unwrap_or_default();
        daemon.count(op, id, body);
        let ret = match daemon.answer(op, id, unique, owner, body) {
            None => continue,
            Some(Ok(out)) => p_reply(fd, unique, 0, &out),
            Some(Err(e)) => p_reply(fd, unique, -e, &[]),
        };
        let _ = ret;
    }
}

/// Mounts a daemon's file system on `m` in a mount namespace of its own, and does `f` beside it.
pub fn with(manner: Manner, f: impl FnOnce(i32)) {
    p!(run(|| {
        ok!(sc!(SYS_unshare, CLONE_NEWNS));
        ok!(sc!(SYS_mount, c"", c"/", c"", MS_REC | MS_PRIVATE, c""), mkdir(c"m", 0o755));
        let fd = open(c"/dev/fuse", O_RDWR, 0);
        ok!(fd);
        let mut options = format!("fd={},rootmode=40000,user_id=0,group_id=0", fd.fd());
        for (set, name) in [
            (manner.default_permissions, ",default_permissions"),
            (manner.allow_other, ",allow_other"),
        ] {
            if set {
                options.push_str(name);
            }
        }
        let options = CString::new(options).unwrap_or_default();
        p!(sc!(SYS_mount, c"daemon", c"m", c"fuse.case", 0, &options));
        // Only when something is mounted can requests be read.
        let daemon = child(|| serve(fd.fd(), manner));
        close(fd);
        f(daemon);
        sc!(SYS_umount2, c"m", MNT_DETACH);
        p!(wait(daemon));
        0
    }));
}
