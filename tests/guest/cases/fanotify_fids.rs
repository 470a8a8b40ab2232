//! `fanotify(7)` with file handles instead of descriptors: which records events have, what they say of names, and who may have them.

use super::fanotify::{look, touch};
use crate::prelude::*;

const ACCESS: u64 = 0x1;
const MODIFY: u64 = 0x2;
const ATTRIB: u64 = 0x4;
const CLOSE_WRITE: u64 = 0x8;
const CLOSE_NOWRITE: u64 = 0x10;
const OPEN: u64 = 0x20;
const MOVED: u64 = 0xc0;
const CREATE: u64 = 0x100;
const DELETE: u64 = 0x200;
const DELETE_SELF: u64 = 0x400;
const MOVE_SELF: u64 = 0x800;
const FS_ERROR: u64 = 0x8000;
const OPEN_PERM: u64 = 0x1_0000;
const RENAME: u64 = 0x1000_0000;
const ON_CHILD: u64 = 0x0800_0000;
const ONDIR: u64 = 0x4000_0000;
const NONBLOCK: u32 = 2;
const CONTENT: u32 = 4;
const TID: u32 = 0x100;
const FID: u32 = 0x200;
const DIR_FID: u32 = 0x400;
const NAME: u32 = 0x800;
const TARGET: u32 = 0x1000;
const NAMES: u32 = DIR_FID | NAME;
const ALL_NAMES: u32 = FID | NAMES;
const EACH: [u32; 6] = [FID, DIR_FID, FID | DIR_FID, NAMES, ALL_NAMES, ALL_NAMES | TARGET];
const ADD: u32 = 1;
const REMOVE: u32 = 2;
const MOUNT: u32 = 0x10;
const IGNORED: u32 = 0x20;
const SURVIVES: u32 = 0x40;
const FILESYSTEM: u32 = 0x100;

fn init(flags: u32) -> i32 {
    sc!(SYS_fanotify_init, flags | NONBLOCK, O_RDONLY).fd()
}

fn mark(group: i32, flags: u32, mask: u64, path: &CStr) -> Ret {
    sc!(SYS_fanotify_mark, group, flags, mask, CWD, path)
}

fn number(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    word.map_or(0, |word| u32::from_ne_bytes(*word))
}

fn word_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(number(bytes, at)) | u64::from(number(bytes, at + 4)) << 32
}

/// One record: its type, the name of what its handle opens, and the name that it has.
fn record(bytes: &[u8], fsid: u64) -> String {
    let handle = bytes.get(12..).unwrap_or_default();
    let len = number(handle, 0) as usize;
    let mut room = [0u32; 34];
    for (i, word) in room.iter_mut().enumerate().take(2 + len.div_ceil(4)) {
        *word = number(handle, 4 * i);
    }
    let fd = sc!(SYS_open_by_handle_at, CWD, at(&room), O_PATH);
    let what = match fd.0 {
        // Any of the names may be found.
        opened @ 0.. if stat_of(opened as i32).st_nlink > 1 && !is_dir(opened as i32) => {
            close(opened as i32);
            "several".to_owned()
        }
        fd @ 0.. => {
            let link = CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default();
            let path = readlink(&link, 200).text();
            close(fd as i32);
            path.rsplit('/').next().unwrap_or_default().to_owned()
        }
        _ => fd.to_string(),
    };
    let name = handle.get(8 + len..).unwrap_or_default();
    let name: Vec<u8> = name.iter().copied().take_while(|b| *b != 0).collect();
    let whose = if word_at(bytes, 4) == fsid { "" } else { " elsewhere" };
    let kind = bytes.first().copied().unwrap_or_default();
    format!("{kind}:{what}/{}{whose}", String::from_utf8_lossy(&name))
}

/// Reads this process's events.
fn events(group: i32) -> String {
    let got = rd(group, 8192);
    let Ok(bytes) = &got.0 else { return got.to_string() };
    let mut words = [0u64; 15];
    sc!(SYS_statfs, c".", at_mut(&mut words));
    let (mut rest, mut all) = (&bytes[..], Vec::new());
    while rest.len() >= 24 {
        let (event, next) = rest.split_at((number(rest, 0) as usize).clamp(24, rest.len()));
        rest = next;
        let (mut left, mut records) = (&event[24..], Vec::new());
        while left.len() >= 4 {
            let len = usize::from(u16::from_ne_bytes([left[2], left[3]]));
            let (one, more) = left.split_at(len.clamp(4, left.len()));
            records.push(record(one, words[7]));
            left = more;
        }
        let fd = number(event, 16) as i32;
        let whose = match number(event, 20) as i32 {
            pid if pid == getpid() => "",
            0 => " of nobody",
            _ => " of another",
        };
        all.push(format!("{:#x} {fd}{whose} {}", word_at(event, 8), records.join(" ")));
    }
    all.join("\n")
}

fn stat_of(fd: i32) -> stat {
    fstat(fd).st
}

fn is_dir(fd: i32) -> bool {
    stat_of(fd).st_mode & S_IFMT == S_IFDIR
}

fn groups() {
    let new = |flags: u32| sc!(SYS_fanotify_init, flags, O_RDONLY).ok();
    for flags in EACH {
        p!(new(flags));
    }
    p!(new(NAME), new(FID | NAME), new(TARGET), new(FID | TARGET), new(NAMES | TARGET));
    p!(new(FID | CONTENT), new(FID | 8), new(DIR_FID | CONTENT), new(FID | TID), new(FID | 0x30));
    p!(run(|| {
        let uid = fresh_uid();
        p!(sc!(SYS_setresuid, uid, uid, uid));
        p!(new(0), new(FID), new(ALL_NAMES | TARGET), new(FID | 0x10), new(FID | 0x20));
        p!(new(FID | TID), new(FID | CONTENT));
        0
    }));
}

fn errors_of_marks() {
    mkdir(c"d", 0o755);
    put(c"f", "x");
    let (plain, fid, names) = (init(0), init(FID), init(ALL_NAMES));
    for mask in [ATTRIB, CREATE, MOVED, DELETE_SELF, MOVE_SELF, RENAME, FS_ERROR] {
        p!(mark(plain, ADD, mask, c"d"), mark(fid, ADD, mask, c"d"), mark(names, ADD, mask, c"d"));
        p!(mark(fid, ADD | MOUNT, mask, c"d"));
    }
    p!(mark(fid, ADD, OPEN_PERM, c"d"), mark(fid, ADD | MOUNT, OPEN, c"d").ok());
    p!(mark(fid, ADD, CREATE, c"f"), mark(names, ADD, RENAME, c"f"), mark(names, ADD, ONDIR, c"f"));
    let target = init(ALL_NAMES | TARGET);
    p!(mark(target, ADD, CREATE, c"f"), mark(target, ADD, OPEN | ONDIR, c"f"));
    p!(mark(target, ADD, OPEN | ON_CHILD, c"f"), mark(target, ADD, OPEN, c"f"));
    p!(mark(fid, REMOVE, CREATE, c"none"), mark(fid, ADD, OPEN, c"/proc"));
    p!(mark(fid, ADD | FILESYSTEM, OPEN, c"/proc"));
    p!(run(|| {
        let uid = fresh_uid();
        p!(chown(c"f", uid, uid), sc!(SYS_setresuid, uid, uid, uid));
        let group = init(FID);
        p!(mark(group, ADD, OPEN, c"f"), mark(group, ADD | MOUNT, OPEN, c"f"));
        p!(mark(group, ADD | FILESYSTEM, OPEN, c"f"), mark(fid, ADD | FILESYSTEM, OPEN, c"f"));
        p!(mark(fid, ADD, ATTRIB, c"f"));
        0
    }));
}

fn an_object() {
    mkdir(c"home", 0o755);
    chdir(c"home");
    for flags in EACH {
        put(c"f", "contents");
        let group = init(flags);
        let own =
            OPEN | ACCESS | MODIFY | CLOSE_WRITE | CLOSE_NOWRITE | ATTRIB | DELETE_SELF | MOVE_SELF;
        p!(flags, mark(group, ADD, own, c"f"));
        look(c"f");
        say!("{}", events(group));
        chmod(c"f", 0o600);
        say!("{}", events(group));
        link(c"f", c"g");
        rename(c"f", c"h");
        say!("{}", events(group));
        unlink(c"g");
        say!("{}", events(group));
        unlink(c"h");
        say!("{}", events(group));
        close(group);
    }
}

fn a_directory() {
    for flags in EACH {
        let group = init(flags);
        mkdir(c"d", 0o755);
        let all = OPEN | CLOSE_NOWRITE | CLOSE_WRITE | ATTRIB | DELETE_SELF | MOVE_SELF;
        p!(flags, mark(group, ADD, all | CREATE | DELETE | MOVED | ON_CHILD | ONDIR, c"d"));
        touch(c"d/f");
        say!("{}", events(group));
        mkdir(c"d/e", 0o755);
        close(open(c"d/e", O_RDONLY, 0));
        close(open(c"d", O_RDONLY, 0));
        say!("{}", events(group));
        chmod(c"d/f", 0o600);
        chmod(c"d/e", 0o700);
        chmod(c"d", 0o700);
        say!("{}", events(group));
        rename(c"d/f", c"d/g");
        say!("{}", events(group));
        rename(c"d/g", c"out");
        rename(c"out", c"d/in");
        say!("{}", events(group));
        link(c"d/in", c"d/other");
        symlink(c"nowhere", c"d/link");
        say!("{}", events(group));
        unlink(c"d/in");
        unlink(c"d/other");
        unlink(c"d/link");
        rmdir(c"d/e");
        say!("{}", events(group));
        rename(c"d", c"moved");
        rmdir(c"moved");
        say!("{}", events(group));
        close(group);
    }
}

fn moves() {
    for flags in [NAMES, ALL_NAMES, ALL_NAMES | TARGET] {
        mkdir(c"a", 0o755);
        mkdir(c"b", 0o755);
        put(c"a/f", "x");
        mkdir(c"a/d", 0o755);
        let group = init(flags);
        p!(flags, mark(group, ADD, RENAME, c"a"));
        rename(c"a/f", c"a/g");
        rename(c"a/g", c"b/g");
        rename(c"b/g", c"a/f");
        rename(c"a/d", c"a/e");
        say!("{}", events(group));
        p!(mark(group, ADD, RENAME | ONDIR, c"b"));
        rename(c"a/f", c"b/f");
        rename(c"b/f", c"a/f");
        rename(c"a/e", c"b/e");
        say!("{}", events(group));
        p!(mark(group, ADD, RENAME | MOVED | ONDIR, c"a"));
        rename(c"b/e", c"a/e");
        put(c"b/x", "over");
        rename(c"a/f", c"b/x");
        sc!(SYS_renameat2, CWD, c"b/x", CWD, c"a/e", 2);
        say!("{}", events(group));
        close(group);
        for path in [c"a/e", c"b/x"] {
            unlink(path);
            rmdir(path);
        }
        rmdir(c"a");
        rmdir(c"b");
    }
}

fn events_are_merged() {
    mkdir(c"d", 0o755);
    for flags in [FID, DIR_FID, ALL_NAMES] {
        let group = init(flags);
        p!(flags, mark(group, ADD, CREATE | DELETE | OPEN | CLOSE_WRITE | ON_CHILD | ONDIR, c"d"));
        for _ in 0..2 {
            touch(c"d/f");
            touch(c"d/g");
            unlink(c"d/f");
            unlink(c"d/g");
            mkdir(c"d/e", 0o755);
            rmdir(c"d/e");
        }
        say!("{}", events(group));
        close(group);
    }
}

fn a_file_system() {
    mkdir(c"m", 0o755);
    p!(run(|| {
        p!(sc!(SYS_unshare, CLONE_NEWNS));
        p!(sc!(SYS_mount, c"x", c"/", 0u64, MS_REC | MS_PRIVATE, 0u64));
        p!(sc!(SYS_mount, c"none", c"m", c"tmpfs", 0, 0u64), chdir(c"m"));
        for flags in [FID, ALL_NAMES, ALL_NAMES | TARGET] {
            let group = init(flags);
            let mask = CREATE | DELETE | MOVED | OPEN | ATTRIB | DELETE_SELF | MOVE_SELF | ONDIR;
            p!(flags, mark(group, ADD | FILESYSTEM, mask, c"."));
            mkdir(c"a", 0o755);
            touch(c"a/f");
            chmod(c"a/f", 0o600);
            rename(c"a/f", c"g");
            say!("{}", events(group));
            if flags != FID {
                p!(mark(group, ADD | FILESYSTEM, RENAME, c"."));
            }
            rename(c"g", c"a/h");
            unlink(c"a/h");
            rmdir(c"a");
            say!("{}", events(group));
            close(group);
            let group = init(flags);
            touch(c"f");
            p!(mark(group, ADD | MOUNT, OPEN, c"."), mark(group, ADD | IGNORED, OPEN, c"f"));
            look(c"f");
            close(open(c".", O_RDONLY, 0));
            say!("{}", events(group));
            p!(mark(group, ADD | IGNORED | SURVIVES, OPEN, c"f"), unlink(c"f"));
            close(group);
        }
        0
    }));
}

fn users_are_told_less() {
    mkdir(c"d", 0o777);
    chmod(c"d", 0o777);
    p!(run(|| {
        let uid = fresh_uid();
        p!(sc!(SYS_setresuid, uid, uid, uid), prctl(PR_SET_DUMPABLE, 1));
        let group = init(ALL_NAMES);
        p!(mark(group, ADD, CREATE | OPEN | ON_CHILD, c"d"));
        touch(c"d/own");
        p!(run(|| {
            touch(c"d/other");
            0
        }));
        say!("{}", events(group));
        0
    }));
}

fn room_for_records() {
    mkdir(c"d", 0o755);
    let group = init(ALL_NAMES);
    mark(group, ADD, CREATE, c"d");
    touch(c"d/a-name-that-is-longer-than-others");
    touch(c"d/f");
    let mut pending = 0u32;
    p!(ioctl(group, 0x541b, at_mut(&mut pending)).ok(), rd(group, 24), rd(group, 40));
    let first = rd(group, 4096);
    p!(first.bytes().len() as u32 == pending, number(first.bytes(), 0) % 4, rd(group, 4096));
}

cases![
    groups,
    errors_of_marks,
    an_object,
    a_directory,
    moves,
    events_are_merged,
    a_file_system,
    users_are_told_less,
    room_for_records,
];
