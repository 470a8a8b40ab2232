//! Files: descriptors, paths and attributes.

use super::call::zeroed;
use super::{Arg, Ret, at, at_mut, sc};
use libc::{AT_FDCWD, AT_SYMLINK_NOFOLLOW, O_CREAT, O_RDONLY, O_TRUNC, O_WRONLY};
use std::fmt;

/// open(2) relative to the working directory.
pub fn open(path: impl Arg, flags: i32, mode: u32) -> Ret {
    sc!(SYS_openat, AT_FDCWD, path, flags, mode)
}
/// openat(2).
pub fn openat(dir: impl Arg, path: impl Arg, flags: i32, mode: u32) -> Ret {
    sc!(SYS_openat, dir, path, flags, mode)
}
/// close(2).
pub fn close(fd: impl Arg) -> Ret {
    sc!(SYS_close, fd)
}
/// lseek(2).
pub fn lseek(fd: impl Arg, offset: i64, whence: i32) -> Ret {
    sc!(SYS_lseek, fd, offset, whence)
}
/// dup(2).
pub fn dup(fd: impl Arg) -> Ret {
    sc!(SYS_dup, fd)
}
/// dup2(2).
pub fn dup2(fd: impl Arg, to: i32) -> Ret {
    sc!(SYS_dup2, fd, to)
}
/// fcntl(2) with any third argument.
pub fn fcntl(fd: impl Arg, cmd: i32, arg: impl Arg) -> Ret {
    sc!(SYS_fcntl, fd, cmd, arg)
}
/// ioctl(2) with any third argument.
pub fn ioctl(fd: impl Arg, cmd: u64, arg: impl Arg) -> Ret {
    sc!(SYS_ioctl, fd, cmd, arg)
}
/// ftruncate(2).
pub fn ftruncate(fd: impl Arg, len: i64) -> Ret {
    sc!(SYS_ftruncate, fd, len)
}
/// mkdir(2).
pub fn mkdir(path: impl Arg, mode: u32) -> Ret {
    sc!(SYS_mkdir, path, mode)
}
/// rmdir(2).
pub fn rmdir(path: impl Arg) -> Ret {
    sc!(SYS_rmdir, path)
}
/// unlink(2).
pub fn unlink(path: impl Arg) -> Ret {
    sc!(SYS_unlink, path)
}
/// rename(2).
pub fn rename(from: impl Arg, to: impl Arg) -> Ret {
    sc!(SYS_rename, from, to)
}
/// link(2).
pub fn link(from: impl Arg, to: impl Arg) -> Ret {
    sc!(SYS_link, from, to)
}
/// symlink(2).
pub fn symlink(target: impl Arg, path: impl Arg) -> Ret {
    sc!(SYS_symlink, target, path)
}
/// access(2).
pub fn access(path: impl Arg, mode: i32) -> Ret {
    sc!(SYS_access, path, mode)
}
/// chmod(2).
pub fn chmod(path: impl Arg, mode: u32) -> Ret {
    sc!(SYS_chmod, path, mode)
}
/// chown(2).
pub fn chown(path: impl Arg, uid: u32, gid: u32) -> Ret {
    sc!(SYS_chown, path, uid, gid)
}
/// chdir(2).
pub fn chdir(path: impl Arg) -> Ret {
    sc!(SYS_chdir, path)
}

/// Bytes that came back from the kernel, or the error instead of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Got(pub Result<Vec<u8>, Ret>);

impl Got {
    /// The bytes; none after an error.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(&[])
    }
    /// The bytes as text, with what is not UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }
}

impl fmt::Display for Got {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Err(e) => write!(f, "{e}"),
            Ok(b) if b.len() > 80 => write!(f, "{} bytes", b.len()),
            Ok(b) => write!(f, "\"{}\"", b.escape_ascii()),
        }
    }
}

/// Makes a [`Got`] from a buffer and the count the kernel returned.
pub fn got(mut buf: Vec<u8>, ret: Ret) -> Got {
    if !ret.ok() {
        return Got(Err(ret));
    }
    buf.truncate(ret.0 as usize);
    Got(Ok(buf))
}

/// read(2) of up to `len` bytes.
pub fn rd(fd: impl Arg, len: usize) -> Got {
    let mut buf = vec![0; len];
    let ret = sc!(SYS_read, fd, buf.as_mut_slice(), len);
    got(buf, ret)
}
/// pread64(2) of up to `len` bytes.
pub fn pread(fd: impl Arg, len: usize, offset: i64) -> Got {
    let mut buf = vec![0; len];
    let ret = sc!(SYS_pread64, fd, buf.as_mut_slice(), len, offset);
    got(buf, ret)
}
/// write(2).
pub fn wr(fd: impl Arg, data: impl AsRef<[u8]>) -> Ret {
    sc!(SYS_write, fd, data.as_ref(), data.as_ref().len())
}
/// pwrite64(2).
pub fn pwrite(fd: impl Arg, data: impl AsRef<[u8]>, offset: i64) -> Ret {
    sc!(SYS_pwrite64, fd, data.as_ref(), data.as_ref().len(), offset)
}
/// readlink(2) into a buffer of `len` bytes.
pub fn readlink(path: impl Arg, len: usize) -> Got {
    let mut buf = vec![0; len];
    let ret = sc!(SYS_readlink, path, buf.as_mut_slice(), len);
    got(buf, ret)
}
/// getcwd(2), without the terminating zero.
pub fn getcwd(len: usize) -> Got {
    let mut buf = vec![0; len];
    let ret = sc!(SYS_getcwd, buf.as_mut_slice(), len);
    got(buf, if ret.ok() { Ret(ret.0 - 1) } else { ret })
}

/// Creates or replaces a file with these contents.
pub fn put(path: impl Arg, data: impl AsRef<[u8]>) -> Ret {
    let fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0o644);
    if !fd.ok() {
        return fd;
    }
    let ret = wr(fd, data);
    close(fd);
    ret
}
/// The whole contents of a file of at most a mebibyte.
pub fn get(path: impl Arg) -> Got {
    let fd = open(path, O_RDONLY, 0);
    if !fd.ok() {
        return Got(Err(fd));
    }
    let mut all = Vec::new();
    let result = loop {
        let part = rd(fd, 4096);
        match &part.0 {
            Err(_) => break part,
            Ok(b) if b.is_empty() || all.len() > 1 << 20 => break Got(Ok(all)),
            Ok(b) => all.extend_from_slice(b),
        }
    };
    close(fd);
    result
}

/// pipe2(2): the read end and the write end.
pub fn pipe(flags: i32) -> [i32; 2] {
    let mut fds = [-1i32; 2];
    sc!(SYS_pipe2, at_mut(&mut fds), flags);
    fds
}

/// What a stat call returned.
pub struct Stat {
    /// The call's result.
    pub ret: Ret,
    /// The attributes; zero after an error.
    pub st: libc::stat,
}

impl fmt::Display for Stat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.ret.ok() {
            return write!(f, "{}", self.ret);
        }
        let kind = match self.st.st_mode & libc::S_IFMT {
            libc::S_IFREG => "file",
            libc::S_IFDIR => "dir",
            libc::S_IFLNK => "symlink",
            libc::S_IFCHR => "char",
            libc::S_IFBLK => "block",
            libc::S_IFIFO => "fifo",
            libc::S_IFSOCK => "socket",
            0 => "anon",
            _ => "?",
        };
        let (uid, gid) = (self.st.st_uid, self.st.st_gid);
        write!(f, "{kind} {:04o} {uid}:{gid}", self.st.st_mode & 0o7777)?;
        match kind {
            "dir" => Ok(()),
            "file" => write!(f, " links {} size {}", self.st.st_nlink, self.st.st_size),
            _ => write!(f, " links {}", self.st.st_nlink),
        }
    }
}

/// newfstatat(2).
pub fn fstatat(dir: impl Arg, path: impl Arg, flags: i32) -> Stat {
    let mut st: libc::stat = zeroed();
    let ret = sc!(SYS_newfstatat, dir, path, at_mut(&mut st), flags);
    Stat { ret, st }
}
/// stat(2).
pub fn stat(path: impl Arg) -> Stat {
    fstatat(AT_FDCWD, path, 0)
}
/// lstat(2).
pub fn lstat(path: impl Arg) -> Stat {
    fstatat(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW)
}
/// fstat(2).
pub fn fstat(fd: impl Arg) -> Stat {
    let mut st: libc::stat = zeroed();
    let ret = sc!(SYS_fstat, fd, at_mut(&mut st));
    Stat { ret, st }
}

/// The names in a directory, sorted, each with its d_type letter, through getdents64(2).
pub fn list(path: impl Arg) -> String {
    let fd = open(path, O_RDONLY | libc::O_DIRECTORY, 0);
    if !fd.ok() {
        return fd.to_string();
    }
    let mut names = Vec::new();
    let mut buf = [0u8; 2048];
    loop {
        let n = sc!(SYS_getdents64, fd, &mut buf, buf.len());
        if !n.ok() {
            close(fd);
            return n.to_string();
        }
        if n.0 == 0 {
            break;
        }
        names.extend(dirents(&buf[..n.0 as usize]).into_iter().map(|d| d.label()));
    }
    close(fd);
    names.sort();
    names.join(" ")
}

/// One directory entry.
pub struct Dirent {
    /// Its name.
    pub name: String,
    /// Its d_type.
    pub kind: u8,
    /// Its d_ino.
    pub ino: u64,
}

impl Dirent {
    /// The name with a letter for the type, as `ls -F` does.
    pub fn label(&self) -> String {
        let mark = match self.kind {
            libc::DT_DIR => "/",
            libc::DT_LNK => "@",
            libc::DT_FIFO => "|",
            libc::DT_SOCK => "=",
            libc::DT_CHR => "%",
            libc::DT_REG => "",
            _ => "?",
        };
        format!("{}{mark}", self.name)
    }
}

/// Decodes a getdents64(2) buffer.
pub fn dirents(mut buf: &[u8]) -> Vec<Dirent> {
    let mut out = Vec::new();
    while let (Some(head), Some(ino)) = (buf.get(16..19), word(buf, 0)) {
        let reclen = usize::from(u16::from_le_bytes([head[0], head[1]]));
        let Some(name) = buf.get(19..reclen) else { break };
        let end = name.iter().position(|&c| c == 0).unwrap_or(name.len());
        let name = String::from_utf8_lossy(&name[..end]).into_owned();
        out.push(Dirent { name, kind: head[2], ino });
        buf = &buf[reclen..];
    }
    out
}

fn word(buf: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(buf.get(offset..offset + 8)?.try_into().ok()?))
}

/// A `struct iovec` array for `readv` and friends, from address and length pairs.
pub fn iov(parts: &[(u64, usize)]) -> Vec<u64> {
    parts.iter().flat_map(|&(base, len)| [base, len as u64]).collect()
}

/// writev(2) of these pieces.
pub fn writev(fd: impl Arg, parts: &[&[u8]]) -> Ret {
    let vec = iov(&parts.iter().map(|p| (at(*p), p.len())).collect::<Vec<_>>());
    sc!(SYS_writev, fd, at(vec.as_slice()), parts.len())
}
