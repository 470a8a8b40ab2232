//! What every file of cases uses. Our wrappers shadow the C library's functions of the same name.

pub(crate) use crate::registry::{Case, cases};
pub(crate) use crate::sys::call::{syscall, zeroed};
pub(crate) use crate::sys::errno::signal as signame;
pub(crate) use crate::sys::fs::{
    Got, access, chdir, chmod, chown, close, dirents, dup, dup2, fcntl, fstat, fstatat, ftruncate,
    get, getcwd, ioctl, iov, link, list, lseek, lstat, mkdir, open, openat, pipe, pread, put,
    pwrite, rd, readlink, rename, rmdir, stat, symlink, unlink, wr, writev,
};
pub(crate) use crate::sys::inet::set as set_int;
pub(crate) use crate::sys::inet::{
    addr, bind_to, closed_port, connect_to, dial, drain, get_bytes, get_int, ioctl_int, listener,
    own_name, peer_name, port_of, recv_from, recv_message, recv_soon, send_to, set_bytes, socket4,
    socket6, spell_ip, stuff, tcp_pair, udp,
};
pub(crate) use crate::sys::mem::{
    PAGE, Touch, anon, call, copy, fill, mmap, mprotect, munmap, peek, poke, shared, word,
};
pub(crate) use crate::sys::poll::{epoll, epoll_ctl, epoll_wait, poll, ppoll, select, timeval};
pub(crate) use crate::sys::process::{
    Status, child, exec, exec_helper, exit, fresh_uid, getpid, getppid, gettid, helper, kill, me,
    pointers, prctl, run, strings, wait, wait_opt, waitid,
};
pub(crate) use crate::sys::signal::{
    Extra, Fault, action, altstack, attempt, bit, block, catch, catch_with, caught, count, default,
    fault, fp_survives, hits, ignore, names, pending, queue, raise, set, set_action, sigmask,
    sigwait, unblock,
};
pub(crate) use crate::sys::sock::{
    accept, address, bind, client, cmsg, connect, creds, getopt, listen, name_of, pair, recv,
    recvmsg, rights, send, sendmsg, sendto, server, setopt, shutdown, socket, spell,
};
pub(crate) use crate::sys::thread::{
    THREAD, await_change, futex, futex_wait, futex_wake, publish, spawn, wake_all,
};
pub(crate) use crate::sys::time::{
    clock, clock_nanosleep, itimerspec, itimerval, library_clock, nap, setitimer, span, took, until,
};
pub(crate) use crate::sys::{Ret, at, at_mut, sc};
pub(crate) use crate::transcript::{ok, p, say};
pub(crate) use libc::{AT_FDCWD as CWD, *};
pub(crate) use std::ffi::{CStr, CString};
pub(crate) use std::sync::atomic::Ordering::SeqCst;
