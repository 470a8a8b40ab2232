//! `/proc/config.gz`: what this kernel offers, in the words of Linux's configuration.
//!
//! Test suites and container engines decide by it what they may expect. Only options with an effect that
//! programs can see are named.

use crate::errno::Result;
use crate::fs::pseudo::Text;

/// Options that are there.
const SET: &[&str] = &[
    "64BIT",
    "X86_64",
    "MMU",
    "SMP",
    "MULTIUSER",
    "POSIX_TIMERS",
    "HIGH_RES_TIMERS",
    "SYSVIPC",
    "SYSVIPC_SYSCTL",
    "POSIX_MQUEUE",
    "POSIX_MQUEUE_SYSCTL",
    "CROSS_MEMORY_ATTACH",
    "PROC_FS",
    "PROC_SYSCTL",
    "PROC_PID_CPUSET",
    "SYSFS",
    "TMPFS",
    "TMPFS_POSIX_ACL",
    "TMPFS_XATTR",
    "DEVTMPFS",
    "OVERLAY_FS",
    "FUSE_FS",
    "NAMESPACES",
    "UTS_NS",
    "TIME_NS",
    "IPC_NS",
    "USER_NS",
    "PID_NS",
    "NET_NS",
    "CGROUPS",
    "FUTEX",
    "FUTEX_PI",
    "EPOLL",
    "SIGNALFD",
    "TIMERFD",
    "EVENTFD",
    "AIO",
    "IO_URING",
    "SHMEM",
    "ADVISE_SYSCALLS",
    "MEMBARRIER",
    "KCMP",
    "CHECKPOINT_RESTORE",
    "MEMFD_CREATE",
    "USERFAULTFD",
    "HAVE_ARCH_USERFAULTFD_WP",
    "DNOTIFY",
    "INOTIFY_USER",
    "FANOTIFY",
    "FANOTIFY_ACCESS_PERMISSIONS",
    "FILE_LOCKING",
    "BINFMT_ELF",
    "BINFMT_SCRIPT",
    "COREDUMP",
    "ELF_CORE",
    "UNIX98_PTYS",
    "TTY",
    "SECCOMP",
    "SECCOMP_FILTER",
    "FHANDLE",
    "KEYS",
    "SECURITY",
    "SECURITY_LANDLOCK",
    "NET",
    "UNIX",
    "AF_UNIX_OOB",
    "INET",
    "IPV6",
];

/// Options that programs ask for and that are not.
const UNSET: &[&str] = &[
    "BPF_SYSCALL",
    "BSD_PROCESS_ACCT",
    "COMPAT",
    "IA32_EMULATION",
    "MODULES",
    "NUMA",
    "PERF_EVENTS_USER",
    "QUOTA",
    "RSEQ",
    "SECRETMEM",
    "SWAP",
    "X86_X32_ABI",
];

fn text() -> String {
    let mut out = String::from("#\n# Automatically generated file; DO NOT EDIT.\n#\n");
    for name in SET {
        out.push_str(&format!("CONFIG_{name}=y\n"));
    }
    for name in UNSET {
        out.push_str(&format!("# CONFIG_{name} is not set\n"));
    }
    out
}

/// The check sum of gzip (RFC 1952).
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            crc >> 1 ^ if crc & 1 != 0 { 0xedb8_8320 } else { 0 }
        })
    };
    !bytes.iter().fold(!0, step)
}

/// The file.
pub struct ConfigGz;

impl Text for ConfigGz {
    fn read(&self) -> Result<Vec<u8>> {
        Ok(config_gz())
    }
}

/// A gzip member with the text as it is, in stored blocks (RFC 1951).
fn config_gz() -> Vec<u8> {
    let text = text().into_bytes();
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let chunks = text.chunks(usize::from(u16::MAX));
    let last = chunks.len().saturating_sub(1);
    for (i, chunk) in chunks.enumerate() {
        let len = chunk.len() as u16;
        out.push(u8::from(i == last));
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&(!len).to_le_bytes());
        out.extend_from_slice(chunk);
    }
    out.extend_from_slice(&crc32(&text).to_le_bytes());
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_sum_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
