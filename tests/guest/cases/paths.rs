//! Paths and directories: making, removing, renaming, linking, listing and resolving.

use crate::prelude::*;

fn mkdir_and_rmdir() {
    p!(mkdir(c"d", 0o777), stat(c"d"), mkdir(c"d", 0o777), mkdir(c"d/e", 0o700), rmdir(c"d"));
    p!(rmdir(c"d/e"), rmdir(c"d"), rmdir(c"d"), stat(c"d"));
}

fn mkdir_errors() {
    put(c"f", "");
    p!(mkdir(c"", 0o755), mkdir(c"a/b", 0o755), mkdir(c"f/x", 0o755), mkdir(c"f", 0o755));
    p!(mkdir(8u64, 0o755));
    p!(mkdir(c".", 0o755), mkdir(c"..", 0o755), mkdir(c"/", 0o755), mkdir(c"trailing/", 0o755));
    p!(stat(c"trailing"));
}

fn rmdir_errors() {
    put(c"f", "");
    mkdir(c"d", 0o755);
    symlink(c"d", c"l");
    p!(rmdir(c"f"), rmdir(c""), rmdir(c"."), rmdir(c".."), rmdir(c"d/."), rmdir(c"d/.."));
    p!(rmdir(c"none"));
    p!(rmdir(c"l"), rmdir(c"l/"), rmdir(c"/"), rmdir(c"d/"));
}

fn link_counts_of_directories() {
    mkdir(c"d", 0o755);
    let links = |p: &CStr| stat(p).st.st_nlink;
    let before = links(c"d");
    mkdir(c"d/a", 0o755);
    mkdir(c"d/b", 0o755);
    put(c"d/f", "");
    p!(links(c"d") == before || links(c"d") == before + 2, list(c"d"));
}

fn removed_directory_as_working_directory() {
    mkdir(c"d", 0o755);
    chdir(c"d");
    p!(rmdir(c"../d"), getcwd(4096), put(c"f", ""), mkdir(c"x", 0o755));
    p!(open(c".", O_RDONLY, 0).ok(), list(c"."));
    p!(stat(c".").ret, chdir(c".."), access(c"..", F_OK));
}

fn unlink_errors() {
    mkdir(c"d", 0o755);
    put(c"f", "");
    p!(unlink(c"d"), unlink(c"none"), unlink(c""), unlink(c"f/"), unlink(c"f/x"), unlink(c"d/"));
    p!(unlink(8u64));
    p!(sc!(SYS_unlinkat, CWD, c"d", AT_REMOVEDIR), sc!(SYS_unlinkat, CWD, c"f", AT_REMOVEDIR));
    p!(sc!(SYS_unlinkat, CWD, c"f", 1), sc!(SYS_unlinkat, CWD, c"f", 0));
    p!(sc!(SYS_unlinkat, 999, c"f", 0));
}

fn unlink_of_a_symlink_keeps_the_target() {
    put(c"f", "kept");
    symlink(c"f", c"l");
    p!(unlink(c"l"), get(c"f"), lstat(c"l"));
}

fn hard_links() {
    put(c"a", "same");
    p!(link(c"a", c"b"), stat(c"a"), stat(c"a").st.st_ino == stat(c"b").st.st_ino);
    p!(link(c"a", c"b"));
    p!(put(c"b", "changed"), get(c"a"), unlink(c"a"), stat(c"b"), get(c"b"));
}

fn hard_link_errors() {
    mkdir(c"d", 0o755);
    put(c"f", "");
    symlink(c"f", c"l");
    symlink(c"none", c"dangling");
    p!(link(c"d", c"x"), link(c"none", c"x"), link(c"f", c"no/x"), link(c"f", c"d"));
    p!(link(c"f", c"f/x"));
    p!(link(c"l", c"x"), lstat(c"x"), link(c"dangling", c"y"), lstat(c"y"), link(c"", c"z"));
    p!(sc!(SYS_linkat, CWD, c"l", CWD, c"followed", AT_SYMLINK_FOLLOW), lstat(c"followed"));
    p!(sc!(SYS_linkat, CWD, c"f", CWD, c"q", 0x10), link(c"f", c"q/"));
}

fn link_by_descriptor() {
    put(c"f", "x");
    let fd = open(c"f", O_RDONLY, 0);
    p!(sc!(SYS_linkat, fd, c"", CWD, c"g", AT_EMPTY_PATH), stat(c"g"));
    p!(sc!(SYS_linkat, fd, c"", CWD, c"h", 0));
}

fn symlinks() {
    p!(symlink(c"target", c"l"), lstat(c"l"), lstat(c"l").st.st_size, readlink(c"l", 100));
    p!(readlink(c"l", 3));
    p!(stat(c"l"), open(c"l", O_RDONLY, 0), put(c"l", "through"), get(c"target"));
    p!(readlink(c"l", 0));
    p!(readlink(c"target", 10), readlink(c"none", 10), symlink(c"", c"e"), symlink(c"x", c"l"));
    p!(symlink(c"x", c""));
    p!(readlink(c".", 10), sc!(SYS_readlink, c"l", 8u64, 10));
}

fn symlink_loops() {
    symlink(c"b", c"a");
    symlink(c"a", c"b");
    symlink(c"self", c"self");
    p!(stat(c"a"), open(c"self", O_RDONLY, 0), lstat(c"a"), stat(c"a/x"));
    p!(open(c"a", O_CREAT | O_WRONLY, 0o644));
    p!(unlink(c"a"), mkdir(c"self", 0o755), chdir(c"b"));
}

fn symlink_chain_length() {
    put(c"l0", "end");
    for i in 1..=41 {
        let name = CString::new(format!("l{i}")).unwrap_or_default();
        symlink(&CString::new(format!("l{}", i - 1)).unwrap_or_default(), &name);
    }
    p!(get(c"l39"), get(c"l40"), get(c"l41"));
}

fn symlink_trailing_and_dots() {
    mkdir(c"d", 0o755);
    put(c"d/f", "found");
    symlink(c"d", c"l");
    symlink(c"d/", c"slash");
    symlink(c"../d/../d/./f", c"d/round");
    p!(get(c"l/f"), get(c"slash/f"), get(c"d/round"), lstat(c"l/"), lstat(c"l"), get(c"l/../d/f"));
    p!(list(c"l"));
    p!(open(c"l", O_RDONLY | O_NOFOLLOW, 0), open(c"l/", O_RDONLY | O_NOFOLLOW, 0).ok());
    p!(open(c"l", O_RDONLY | O_NOFOLLOW | O_DIRECTORY, 0));
    p!(open(c"l/f", O_RDONLY | O_NOFOLLOW, 0).ok());
}

fn dangling_symlinks_and_creation() {
    symlink(c"new", c"l");
    p!(open(c"l", O_CREAT | O_EXCL | O_WRONLY, 0o644), open(c"l", O_CREAT | O_WRONLY, 0o644).ok());
    p!(lstat(c"new"));
    symlink(c"no/where", c"m");
    p!(open(c"m", O_CREAT | O_WRONLY, 0o644), mkdir(c"m", 0o755), access(c"m", F_OK));
}

fn rename_basics() {
    put(c"a", "A");
    put(c"b", "B");
    p!(rename(c"a", c"c"), get(c"c"), stat(c"a"), rename(c"c", c"b"), get(c"b"), list(c"."));
    p!(rename(c"b", c"b"), link(c"b", c"hard"), rename(c"b", c"hard"), list(c"."));
}

fn rename_directories() {
    mkdir(c"d", 0o755);
    put(c"d/f", "x");
    mkdir(c"empty", 0o755);
    mkdir(c"full", 0o755);
    put(c"full/y", "");
    put(c"file", "");
    p!(rename(c"d", c"full"), rename(c"d", c"file"), rename(c"file", c"d"), rename(c"d", c"empty"));
    p!(list(c"empty"));
    p!(rename(c"empty", c"empty/inner"), rename(c"full", c"empty/full"), list(c"empty"));
    p!(rename(c"empty/full", c"."));
    p!(rename(c".", c"x"), rename(c"empty/..", c"x"), rename(c"empty/", c"moved/"), list(c"moved"));
}

fn rename_errors() {
    put(c"f", "");
    p!(rename(c"none", c"x"), rename(c"f", c"no/x"), rename(c"", c"x"), rename(c"f", c""));
    p!(rename(c"f", c"x/"));
    p!(rename(c"f/", c"x"), rename(c"f", c"f/x"), rename(8u64, c"x"));
}

fn rename_of_symlinks_does_not_follow() {
    put(c"f", "target");
    symlink(c"f", c"l");
    p!(rename(c"l", c"m"), readlink(c"m", 10), put(c"g", "new"), rename(c"g", c"m"), lstat(c"m"));
    p!(get(c"f"));
}

fn renameat2_flags() {
    put(c"a", "A");
    put(c"b", "B");
    mkdir(c"d", 0o755);
    let re = |from: &CStr, to: &CStr, flags: u32| sc!(SYS_renameat2, CWD, from, CWD, to, flags);
    p!(re(c"a", c"b", RENAME_NOREPLACE), re(c"a", c"c", RENAME_NOREPLACE));
    p!(re(c"c", c"b", RENAME_EXCHANGE));
    p!(get(c"b"), get(c"c"), re(c"b", c"d", RENAME_EXCHANGE), stat(c"b"), get(c"d"));
    p!(re(c"b", c"none", RENAME_EXCHANGE), re(c"b", c"x", 3), re(c"b", c"x", 0x100));
    p!(re(c"b", c"b/x", RENAME_EXCHANGE));
}

fn open_file_survives_rename_over() {
    put(c"a", "old");
    put(c"b", "new");
    let fd = open(c"a", O_RDONLY, 0);
    p!(rename(c"b", c"a"), rd(fd, 10), get(c"a"), fstat(fd));
}

fn long_names() {
    let name = |n: usize| CString::new("n".repeat(n)).unwrap_or_default();
    p!(put(&name(255), "long"), get(&name(255)), put(&name(256), ""), mkdir(&name(256), 0o755));
    p!(stat(&name(256)));
    let path = |n: usize| CString::new("./".repeat(n / 2)).unwrap_or_default();
    p!(access(&path(4094), F_OK), access(&path(4096), F_OK), access(&path(10000), F_OK));
    p!(symlink(&path(4096), c"s"), symlink(&path(4094), c"s"), access(c"s", F_OK));
}

fn dots_and_slashes() {
    mkdir(c"d", 0o755);
    put(c"f", "x");
    p!(get(c"./f"), get(c"d/../f"), get(c".//d/..///f"), stat(c"f/."), stat(c"f/.."), stat(c"d/."));
    p!(stat(c"d//"));
    p!(stat(c"/..").st.st_ino == stat(c"/").st.st_ino, get(c"none/../f"), stat(c"d/../d/../d"));
}

fn working_directory() {
    mkdir(c"d", 0o755);
    let before = getcwd(4096).text();
    p!(chdir(c"d"), getcwd(4096).text().trim_end_matches('\0') == format!("{before}/d"));
    p!(chdir(c"none"), chdir(c""), chdir(8u64), getcwd(3), getcwd(0), sc!(SYS_getcwd, 8u64, 4096));
    let fd = open(c"..", O_RDONLY, 0);
    p!(sc!(SYS_fchdir, fd), getcwd(4096).text() == before, put(c"f", ""), chdir(c"f"));
    p!(sc!(SYS_fchdir, 999));
    p!(sc!(SYS_fchdir, open(c"f", O_RDONLY, 0)));
    p!(chdir(c"d"), rename(c"../d", c"../e"), getcwd(4096).text() == format!("{before}/e"));
}

fn chroot_into_a_directory() {
    mkdir(c"root", 0o755);
    put(c"root/f", "inside");
    p!(run(|| {
        p!(sc!(SYS_chroot, c"root"), get(c"/f"), chdir(c"/"), getcwd(100), get(c"../../f"));
        p!(access(c"/etc", F_OK));
        0
    }));
    p!(sc!(SYS_chroot, c"root/f"), sc!(SYS_chroot, c"none"));
}

fn outside_a_chroot_the_path_is_unreachable() {
    mkdir(c"root", 0o755);
    p!(run(|| {
        sc!(SYS_chroot, c"root");
        p!(getcwd(4096).text().starts_with("(unreachable)"), access(c"root", F_OK));
        0
    }));
}

fn at_functions() {
    mkdir(c"d", 0o755);
    put(c"d/f", "in d");
    put(c"f", "here");
    let dir = open(c"d", O_RDONLY | O_DIRECTORY, 0).fd();
    p!(rd(openat(dir, c"f", O_RDONLY, 0), 10), sc!(SYS_mkdirat, dir, c"sub", 0o700));
    p!(fstatat(dir, c"sub", 0));
    p!(sc!(SYS_symlinkat, c"f", dir, c"l"), sc!(SYS_readlinkat, dir, c"l", at(&[0u8; 9]), 9));
    p!(sc!(SYS_renameat, dir, c"f", CWD, c"g"), get(c"g"), sc!(SYS_unlinkat, dir, c"l", 0));
    p!(list(c"d"));
    p!(openat(999, c"f", O_RDONLY, 0), openat(open(c"f", O_RDONLY, 0), c"x", O_RDONLY, 0));
    p!(fstatat(dir, c"", AT_EMPTY_PATH), fstatat(dir, c"", 0), fstatat(dir, c"sub", 0x10));
    p!(fstatat(-5, c"f", 0));
}

fn getdents_of_a_directory() {
    mkdir(c"d", 0o755);
    put(c"d/file", "");
    mkdir(c"d/dir", 0o755);
    symlink(c"x", c"d/link");
    sc!(SYS_mknod, c"d/fifo", S_IFIFO | 0o644, 0u64);
    p!(list(c"d"), list(c"none"));
    let fd = open(c"d", O_RDONLY, 0).fd();
    let mut buf = [0u8; 1024];
    let n = sc!(SYS_getdents64, fd, &mut buf, 1024);
    let all = dirents(&buf[..n.0 as usize]);
    p!(all.iter().all(|d| d.ino == stat_ino(&d.name)), sc!(SYS_getdents64, fd, &mut buf, 1024));
    p!(lseek(fd, 0, SEEK_SET), sc!(SYS_getdents64, fd, &mut buf, 1024) == n);
    p!(sc!(SYS_getdents64, fd, &mut buf, 1024));
    p!(lseek(fd, 0, SEEK_SET), sc!(SYS_getdents64, fd, &mut buf, 10));
    p!(sc!(SYS_getdents64, fd, 8u64, 1024));
    p!(sc!(SYS_getdents64, open(c"d/file", O_RDONLY, 0), &mut buf, 1024));
    p!(sc!(SYS_getdents64, 999, &mut buf, 1024));
}

fn stat_ino(name: &str) -> u64 {
    let path = CString::new(format!("d/{name}")).unwrap_or_default();
    lstat(&path).st.st_ino
}

fn getdents_continues_where_it_stopped() {
    mkdir(c"d", 0o755);
    for i in 0..100 {
        put(&CString::new(format!("d/name{i:03}")).unwrap_or_default(), "");
    }
    let fd = open(c"d", O_RDONLY, 0).fd();
    let mut names = Vec::new();
    let mut calls = 0;
    let mut buf = [0u8; 200];
    loop {
        let n = sc!(SYS_getdents64, fd, &mut buf, 200);
        if n.0 <= 0 {
            p!(n);
            break;
        }
        calls += 1;
        names.extend(dirents(&buf[..n.0 as usize]).into_iter().map(|d| d.name));
    }
    names.sort();
    names.dedup();
    p!(names.len(), calls > 10);
}

fn entries_added_and_removed_while_listing() {
    mkdir(c"d", 0o755);
    for i in 0..20 {
        put(&CString::new(format!("d/{i:02}")).unwrap_or_default(), "");
    }
    let fd = open(c"d", O_RDONLY, 0).fd();
    let mut buf = [0u8; 128];
    let mut seen = Vec::new();
    loop {
        let n = sc!(SYS_getdents64, fd, &mut buf, 128);
        if n.0 <= 0 {
            break;
        }
        for d in dirents(&buf[..n.0 as usize]) {
            unlink(&CString::new(format!("d/{}", d.name)).unwrap_or_default());
            seen.push(d.name);
        }
    }
    seen.sort();
    p!(seen.join(" "), list(c"d"), rmdir(c"d"));
}

fn mknod_kinds() {
    let mknod = |name: &CStr, mode: u32, dev: u64| sc!(SYS_mknod, name, mode, dev);
    p!(mknod(c"fifo", S_IFIFO | 0o644, 0), stat(c"fifo"), mknod(c"file", S_IFREG | 0o600, 0));
    p!(stat(c"file"));
    p!(mknod(c"plain", 0o640, 0), stat(c"plain"), mknod(c"sock", S_IFSOCK | 0o600, 0));
    p!(stat(c"sock"));
    p!(mknod(c"fifo", S_IFIFO, 0), mknod(c"dir", S_IFDIR | 0o755, 0));
    p!(mknod(c"x", S_IFLNK | 0o755, 0));
    p!(mknod(c"none/x", S_IFIFO, 0), open(c"sock", O_RDONLY, 0), mknod(c"odd", 0o150_000, 0));
}

fn statfs_fields() {
    let mut buf = [0u64; 15];
    p!(sc!(SYS_statfs, c".", at_mut(&mut buf)), buf[1] > 0, buf[2] > 0, buf[8]);
    p!(sc!(SYS_statfs, c"none", at_mut(&mut buf)));
    p!(
        sc!(SYS_fstatfs, pipe(0)[0], at_mut(&mut buf)),
        buf[0],
        sc!(SYS_fstatfs, 999, at_mut(&mut buf))
    );
    p!(sc!(SYS_statfs, c".", 8u64));
    p!(sc!(SYS_statfs, c"/proc", at_mut(&mut buf)), buf[0]);
    p!(sc!(SYS_statfs, c"/dev/shm", at_mut(&mut buf)), buf[0]);
}

cases![
    mkdir_and_rmdir,
    mkdir_errors,
    rmdir_errors,
    link_counts_of_directories,
    removed_directory_as_working_directory,
    unlink_errors,
    unlink_of_a_symlink_keeps_the_target,
    hard_links,
    hard_link_errors,
    link_by_descriptor,
    symlinks,
    symlink_loops,
    symlink_chain_length,
    symlink_trailing_and_dots,
    dangling_symlinks_and_creation,
    rename_basics,
    rename_directories,
    rename_errors,
    rename_of_symlinks_does_not_follow,
    renameat2_flags,
    open_file_survives_rename_over,
    long_names,
    dots_and_slashes,
    working_directory,
    chroot_into_a_directory,
    outside_a_chroot_the_path_is_unreachable,
    at_functions,
    getdents_of_a_directory,
    getdents_continues_where_it_stopped,
    entries_added_and_removed_while_listing,
    mknod_kinds,
    statfs_fields,
];
