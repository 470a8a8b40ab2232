//! Events of system calls that matter for security (`--trace`): a line of JSON for each, when the call has ended.
//!
//! `time` is in seconds since the epoch, `pid` and `tid` are the numbers in the process's own pid namespace, paths are as
//! the program gave them. A call that failed has `error`, others have `result`.

use super::{SysResult, table};
use crate::errno::Errno;
use crate::kernel::CurrentTask;
use crate::kernel::seccomp::action;
use crate::kernel::trace::EventKinds;
use crate::mm::UserAddr;
use crate::vfs::OpenFlags;
use std::fmt::Write;

/// Most arguments of a program that an event shows, and bytes of each.
const ARGS_MAX: usize = 32;
const ARG_MAX: usize = 512;
/// Longest path that is shown, in bytes.
const PATH_MAX: usize = 4095;
/// Longest socket address, in bytes (`struct sockaddr_storage`).
const ADDRESS_MAX: usize = 128;

/// What is known of a call before it is made.
pub struct Before {
    kind: EventKinds,
    /// Members of the JSON object, each after a comma.
    details: String,
}

/// Looks at a call that is about to be made: paths and buffers are shown as they are given, and exec replaces the
/// memory. `None` if nobody wants to know of it.
pub fn before(t: &CurrentTask, nr: u64, args: [u64; 6]) -> Option<Before> {
    let kind = kind_of(t, nr, args);
    // Any call may turn out to be refused.
    let wanted = t.kernel().call_logs.event_kinds();
    if !wanted.intersects(kind.union(EventKinds::REFUSED)) {
        return None;
    }
    let mut details = String::new();
    let [a, b, c, ..] = args;
    match nr {
        _ if kind.is_empty() => {}
        EXECVEAT => exec(t, b, c, &mut details),
        EXECVE => exec(t, a, b, &mut details),
        OPENAT | OPENAT2 => path(t, b, &mut details),
        OPEN | CREAT | CHROOT | PIVOT_ROOT => path(t, a, &mut details),
        CONNECT => address(t, b, c, &mut details),
        CAPSET | SETGROUPS => {}
        _ => {
            let _ = write!(details, ",\"args\":[{},{},{}]", a as i32, b as i32, c as i32);
        }
    }
    Some(Before { kind, details })
}

/// Tells of a call that has been made.
pub fn after(t: &CurrentTask, nr: u64, before: Before, result: &SysResult) {
    let refused = matches!(result, Err(Errno::EPERM | Errno::EACCES));
    let mut kinds = before.kind;
    kinds.set(EventKinds::REFUSED, refused);
    if kinds.is_empty() {
        return;
    }
    let mut more = before.details;
    let _ = match result {
        Ok(value) => write!(more, ",\"result\":{}", *value as i64),
        // It is made again, and tells then.
        Err(e) if e.is_restart() => return,
        Err(e) => write!(more, ",\"error\":\"{}\"", e.name().unwrap_or("?")),
    };
    emit(t, nr, kinds, &more);
}

/// Tells of a call that a filter (`seccomp(2)`) has not let pass.
pub fn filtered(t: &CurrentTask, nr: u64, value: u32) {
    if !t.kernel().call_logs.event_kinds().contains(EventKinds::REFUSED) {
        return;
    }
    let what = match value & action::MASK {
        action::ERRNO => "errno",
        action::TRAP => "trap",
        action::KILL_THREAD => "kill_thread",
        action::KILL_PROCESS => "kill_process",
        action::TRACE => "trace",
        _ => "notify",
    };
    let mut more = format!(",\"seccomp\":\"{what}\"");
    if value & action::MASK == action::ERRNO {
        let errno = Errno::from_raw((value & !action::MASK) as i32);
        let _ = write!(more, ",\"error\":\"{}\"", errno.name().unwrap_or("?"));
    }
    emit(t, nr, EventKinds::REFUSED, &more);
}

fn emit(t: &CurrentTask, nr: u64, kinds: EventKinds, more: &str) {
    let logs = &t.kernel().call_logs;
    let wanted = kinds.intersection(logs.event_kinds());
    if wanted.is_empty() {
        return;
    }
    let now = t.kernel().time.realtime();
    let (seconds, micros) = (now / 1_000_000_000, now / 1000 % 1_000_000);
    let creds = t.creds();
    let mut line = format!("{{\"time\":{seconds}.{micros:06},\"event\":\"{}\"", wanted.name());
    text(&mut line, "container", &t.kernel().container_of(&t.group().cgroup()));
    let _ = write!(
        line,
        ",\"pid\":{},\"tid\":{},\"uid\":{},\"euid\":{},\"gid\":{}",
        t.ns_tgid(),
        t.local_id(t.tid()),
        creds.uid,
        creds.euid,
        creds.gid
    );
    text(&mut line, "comm", &t.comm());
    match table::lookup(nr) {
        Some(entry) => text(&mut line, "call", entry.name.as_bytes()),
        None => text(&mut line, "call", format!("syscall_{}", nr as i64).as_bytes()),
    }
    line.push_str(more);
    line.push('}');
    logs.event(kinds, &line);
}

const OPEN: u64 = 2;
const CREAT: u64 = 85;
const OPENAT: u64 = 257;
const OPENAT2: u64 = 437;
const CONNECT: u64 = 42;
const EXECVE: u64 = 59;
const EXECVEAT: u64 = 322;
const CHROOT: u64 = 161;
const PIVOT_ROOT: u64 = 155;
const SETGROUPS: u64 = 116;
const CAPSET: u64 = 126;
/// setuid, setgid, setreuid, setregid, setresuid, setresgid, setfsuid, setfsgid, unshare, setns
const IDS_AND_NAMESPACES: [u64; 10] = [105, 106, 113, 114, 117, 119, 122, 123, 272, 308];

fn kind_of(t: &CurrentTask, nr: u64, args: [u64; 6]) -> EventKinds {
    let [_, b, c, ..] = args;
    let writes = |flags: u64| {
        let flags = OpenFlags::from_bits_retain(flags as u32);
        flags.writable() || flags.intersects(OpenFlags::CREAT | OpenFlags::TRUNC)
    };
    let opens = match nr {
        CREAT => true,
        OPEN => writes(b),
        OPENAT => writes(c),
        // The first member of `struct open_how`.
        OPENAT2 => t.mm().read_obj::<u64>(UserAddr(c)).is_ok_and(writes),
        _ => false,
    };
    match nr {
        _ if opens => EventKinds::OPEN,
        EXECVE | EXECVEAT => EventKinds::EXEC,
        CONNECT => EventKinds::CONNECT,
        CHROOT | PIVOT_ROOT | SETGROUPS | CAPSET => EventKinds::PRIVILEGE,
        _ if IDS_AND_NAMESPACES.contains(&nr) => EventKinds::PRIVILEGE,
        _ => EventKinds::empty(),
    }
}

fn path(t: &CurrentTask, at: u64, out: &mut String) {
    // A bad pointer has no path; the call says so.
    if let Ok(path) = t.mm().read_cstr(UserAddr(at), PATH_MAX) {
        text(out, "path", &path);
    }
}

fn exec(t: &CurrentTask, program: u64, argv: u64, out: &mut String) {
    path(t, program, out);
    out.push_str(",\"args\":[");
    for i in 0..ARGS_MAX as u64 {
        let Ok(at) = t.mm().read_obj::<u64>(UserAddr(argv).offset(i * 8)) else { break };
        if at == 0 {
            break;
        }
        let mut arg = vec![0; ARG_MAX];
        let arg = match t.mm().read_cstr(UserAddr(at), ARG_MAX) {
            Ok(whole) => whole,
            Err(Errno::ENAMETOOLONG) if t.mm().read(UserAddr(at), &mut arg).is_ok() => arg,
            Err(_) => break,
        };
        if i > 0 {
            out.push(',');
        }
        string(out, &arg);
    }
    out.push(']');
}

fn address(t: &CurrentTask, at: u64, len: u64, out: &mut String) {
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(ADDRESS_MAX).min(ADDRESS_MAX)];
    if t.mm().read(UserAddr(at), &mut bytes).is_err() {
        return;
    }
    let shown = match bytes
        .split_first_chunk::<2>()
        .map(|(family, rest)| (u16::from_le_bytes(*family), rest))
    {
        Some((1, rest)) => {
            let named = rest.first().is_some_and(|b| *b != 0);
            let path = rest.split(|b| *b == 0 && named).next().unwrap_or_default();
            text(out, "family", b"unix");
            return text(out, "path", path);
        }
        Some((2, &[p, q, a, b, c, d, ..])) => {
            let ip = std::net::Ipv4Addr::new(a, b, c, d);
            std::net::SocketAddr::from((ip, u16::from_be_bytes([p, q])))
        }
        Some((10, &[p, q, _, _, _, _, ref ip @ ..])) if ip.len() >= 16 => {
            let ip = ip.first_chunk::<16>().copied().unwrap_or_default();
            std::net::SocketAddr::from((ip, u16::from_be_bytes([p, q])))
        }
        Some((family, _)) => {
            let _ = write!(out, ",\"family\":{family}");
            return;
        }
        None => return,
    };
    text(out, "family", if shown.is_ipv4() { b"inet" } else { b"inet6" });
    text(out, "address", shown.to_string().as_bytes());
}

/// A further member of an object.
fn text(out: &mut String, key: &str, value: &[u8]) {
    let _ = write!(out, ",\"{key}\":");
    string(out, value);
}

/// A JSON string. Bytes that are not UTF-8 become U+FFFD.
fn string(out: &mut String, bytes: &[u8]) {
    out.push('"');
    for c in String::from_utf8_lossy(bytes).chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c < ' ' || c == '\x7f' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::string;

    #[test]
    fn strings_are_json() {
        let mut out = String::new();
        string(&mut out, b"a\"b\\c\n\xff\x01");
        assert_eq!(out, "\"a\\\"b\\\\c\\u000a\u{fffd}\\u0001\"");
    }
}
