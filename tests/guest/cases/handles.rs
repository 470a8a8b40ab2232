//! File handles.

use crate::prelude::*;
use std::ffi::CStr;

/// Length, type and room for the largest handle.
type Handle = [u32; 34];

fn empty(room: u32) -> Handle {
    let mut handle = [0; 34];
    handle[0] = room;
    handle
}

fn name(path: &CStr, handle: &mut Handle, flags: i32) -> Ret {
    let mut mount = 0i32;
    sc!(SYS_name_to_handle_at, AT_FDCWD, path, at_mut(handle), at_mut(&mut mount), flags)
}

fn reopen(dir: i32, handle: &Handle, flags: i32) -> Ret {
    sc!(SYS_open_by_handle_at, dir, at(handle), flags)
}

fn opening_again() {
    put(c"f", "contents");
    mkdir(c"d", 0o755);
    symlink(c"f", c"l");
    let mut handle = empty(128);
    p!(name(c"f", &mut handle, 0), handle[0] > 0);
    let fd = reopen(AT_FDCWD, &handle, O_RDONLY).fd();
    p!(fd >= 0, stat(c"f").st.st_ino == fstat(fd).st.st_ino);
    p!(reopen(AT_FDCWD, &handle, O_DIRECTORY), reopen(AT_FDCWD, &handle, O_PATH).ok());
    p!(rename(c"f", c"g"), reopen(AT_FDCWD, &handle, O_RDWR).ok());
    let mut dir = empty(128);
    p!(
        name(c"d", &mut dir, 0),
        reopen(AT_FDCWD, &dir, O_DIRECTORY).ok(),
        reopen(AT_FDCWD, &dir, O_RDWR)
    );
    let mut link = empty(128);
    p!(
        name(c"l", &mut link, 0),
        reopen(AT_FDCWD, &link, O_RDONLY),
        reopen(AT_FDCWD, &link, O_PATH).ok()
    );
    p!(name(c"l", &mut link, 0x400), name(c"", &mut link, 0), name(c"", &mut link, AT_EMPTY_PATH));
}

fn errors_of_naming() {
    put(c"f", "");
    let mut none = empty(0);
    p!(name(c"f", &mut none, 0), none[0] > 0, name(c"f", &mut none, 0));
    p!(name(c"f", &mut empty(129), 0), name(c"missing", &mut empty(128), 0));
    p!(name(c"f", &mut empty(128), 0x8000), name(c"f", &mut empty(128), 0x202));
    p!(
        name(c"/proc/self/status", &mut empty(128), 0),
        name(c"/proc/version", &mut empty(128), 0x200)
    );
    let mut mount = 0i32;
    p!(sc!(SYS_name_to_handle_at, AT_FDCWD, c"f", 8u64, at_mut(&mut mount), 0));
    p!(sc!(SYS_name_to_handle_at, AT_FDCWD, c"f", at_mut(&mut empty(128)), 8u64, 0));
    p!(sc!(SYS_name_to_handle_at, 999, c"f", at_mut(&mut empty(128)), at_mut(&mut mount), 0));
}

fn errors_of_opening() {
    put(c"f", "");
    let mut handle = empty(128);
    name(c"f", &mut handle, 0);
    p!(reopen(999, &handle, O_RDONLY), reopen(AT_FDCWD, &empty(0), O_RDONLY));
    p!(reopen(AT_FDCWD, &empty(129), O_RDONLY), sc!(SYS_open_by_handle_at, AT_FDCWD, 8u64, 0));
    p!(reopen(pipe(0)[0], &handle, O_RDONLY));
    let proc_dir = open(c"/proc", O_RDONLY, 0).fd();
    p!(reopen(proc_dir, &handle, O_RDONLY), unlink(c"f"), reopen(AT_FDCWD, &handle, O_RDONLY));
    p!(run(|| {
        sc!(SYS_setresuid, 1000, 1000, 1000);
        p!(reopen(AT_FDCWD, &handle, O_RDONLY), reopen(999, &handle, O_RDONLY));
        0
    }));
}

cases![opening_again, errors_of_naming, errors_of_opening];
