//! What cases execute as another program.

use crate::cases::pkeys::rdpkru;
use crate::sys::fs::fcntl;
use crate::sys::signal::{action, names, sigmask};
use crate::sys::{at, at_mut, sc};
use crate::transcript::say;

/// Runs one helper; returns the exit code.
pub fn main(args: &[&str]) -> u8 {
    match args {
        ["exit", code, ..] => code.parse().unwrap_or(99),
        ["args", ..] => {
            for (i, arg) in std::env::args().enumerate().skip(1) {
                say!("arg {i}: {}", short(&arg));
            }
            0
        }
        ["argc", ..] => {
            say!("argc {} argv[0] {}", std::env::args().count(), argv0());
            0
        }
        ["env", ..] => {
            std::env::vars().for_each(|(k, v)| say!("{k}={}", short(&v)));
            0
        }
        ["signals", ..] => {
            for sig in [libc::SIGUSR1, libc::SIGUSR2, libc::SIGCHLD, libc::SIGPIPE] {
                say!("{}: {}", crate::sys::errno::signal(sig), action(sig));
            }
            say!("mask {}", names(sigmask(libc::SIG_BLOCK, 0)));
            say!("pending {}", crate::sys::signal::pending());
            0
        }
        ["altstack", ..] => {
            let mut old = [0u64; 3];
            sc!(SYS_sigaltstack, 0u64, at_mut(&mut old));
            // The Rust runtime installs its own, so only a foreign one is told apart by size.
            say!("altstack of the old program: {}", old[2] == 0x4_2000);
            0
        }
        ["tsc", ..] => {
            let mut mode = -1_i32;
            say!("{} {mode}", sc!(SYS_prctl, libc::PR_GET_TSC, at_mut(&mut mode)).ok());
            0
        }
        ["pkeys", ..] => {
            say!("rights {:#x} {}", rdpkru(), sc!(SYS_pkey_free, 1));
            0
        }
        ["fds", list @ ..] => {
            for fd in list {
                say!("fd {fd}: {}", fcntl(fd.parse().unwrap_or(-1), libc::F_GETFD, 0).ok());
            }
            0
        }
        ["ids", ..] => {
            ids();
            0
        }
        ["caps", ..] => {
            caps();
            0
        }
        ["cat", path, ..] => match std::ffi::CString::new(*path) {
            Ok(path) => {
                say!("{}", crate::sys::fs::get(&path));
                0
            }
            Err(_) => 99,
        },
        ["comm", ..] => {
            let mut name = [0u8; 16];
            sc!(SYS_prctl, libc::PR_GET_NAME, &mut name);
            say!("comm {}", name.escape_ascii().to_string().replace("\\x00", ""));
            0
        }
        ["limits", ..] => {
            let mut both = [0u64; 2];
            sc!(SYS_prlimit64, 0, libc::RLIMIT_NOFILE, 0u64, at_mut(&mut both));
            say!("nofile {} {}", both[0], both[1]);
            0
        }
        ["write", fd, text, ..] => {
            let fd: i32 = fd.parse().unwrap_or(-1);
            say!("write {}", sc!(SYS_write, fd, at(text.as_bytes()), text.len()));
            0
        }
        ["pause", ..] => loop {
            sc!(SYS_pause);
        },
        _ => 99,
    }
}

/// Arguments longer than a line are named by their length; paths by their last part.
fn short(arg: &str) -> String {
    match arg.rsplit_once('/') {
        _ if arg.len() > 200 => format!("{} bytes", arg.len()),
        Some((_, last)) if arg.starts_with('/') => format!("/.../{last}"),
        _ => arg.to_string(),
    }
}

fn argv0() -> String {
    short(&std::env::args().next().unwrap_or_default())
}

/// Prints the user and group ids.
pub fn ids() {
    let (mut uid, mut gid) = ([0u32; 3], [0u32; 3]);
    sc!(SYS_getresuid, at_mut(&mut uid[0]), at_mut(&mut uid[1]), at_mut(&mut uid[2]));
    sc!(SYS_getresgid, at_mut(&mut gid[0]), at_mut(&mut gid[1]), at_mut(&mut gid[2]));
    let mut groups = [0u32; 64];
    let n = sc!(SYS_getgroups, 64, at_mut(&mut groups));
    let groups = groups.get(..n.0.max(0) as usize).unwrap_or(&[]);
    say!("uid {uid:?} gid {gid:?} groups {groups:?}");
}

/// Prints which of a few capabilities are effective, permitted and inheritable.
pub fn caps() {
    let header = [0x2008_0522u32, 0];
    let mut data = [0u32; 6];
    let ret = sc!(SYS_capget, at(&header), at_mut(&mut data));
    say!("capget {ret}");
    for (name, bit) in [("CHOWN", 0), ("KILL", 5), ("SETUID", 7), ("NET_BIND", 10)] {
        let has = |word: u32| if word >> bit & 1 == 1 { 'y' } else { 'n' };
        say!("{name}: e{} p{} i{}", has(data[0]), has(data[1]), has(data[2]));
    }
}
