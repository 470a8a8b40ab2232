//! Where a core dump goes: `kernel.core_pattern` with its `%` filled in (`core(5)`).

use super::Settings;
use crate::kernel::{CurrentTask, Rlimit, SigInfo};
use crate::time::NANOS;
use std::sync::atomic::Ordering;

/// The path, relative to the working directory unless it begins with a slash.
pub fn path(t: &CurrentTask, settings: &Settings, info: &SigInfo) -> Vec<u8> {
    let pattern = settings.pattern();
    let mut out = Vec::new();
    let mut has_pid = false;
    let mut bytes = pattern.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let Some(what) = bytes.next() else { break };
        has_pid |= what == b'p';
        out.extend(part(t, info, what));
    }
    if !has_pid && settings.uses_pid.load(Ordering::Relaxed) != 0 {
        out.extend(format!(".{}", t.ns_tgid()).into_bytes());
    }
    out
}

/// What stands for `%` and a letter; nothing for one that means nothing.
fn part(t: &CurrentTask, info: &SigInfo, what: u8) -> Vec<u8> {
    let creds = t.creds();
    let number = |n: u64| n.to_string().into_bytes();
    match what {
        b'%' => b"%".to_vec(),
        b'p' => t.ns_tgid().to_string().into_bytes(),
        b'P' => t.tgid().to_string().into_bytes(),
        b'i' => t.ns_tid().to_string().into_bytes(),
        b'I' => t.tid().to_string().into_bytes(),
        b'u' => number(creds.uid.into()),
        b'g' => number(creds.gid.into()),
        b'd' => number(t.group().dumpable.load(Ordering::Relaxed).into()),
        b's' => info.signal.number().to_string().into_bytes(),
        b't' => number(t.kernel().time.realtime() / NANOS),
        b'h' => flat(&t.namespaces().uts.names.read().host),
        b'e' => flat(&t.comm()),
        b'f' => {
            let program = program(t);
            flat(program.rsplit(|b| *b == b'/').next().unwrap_or_default())
        }
        b'E' => flat(&program(t)),
        b'c' => number(t.limit(Rlimit::Core).soft),
        _ => Vec::new(),
    }
}

/// The path of the program's file.
fn program(t: &CurrentTask) -> Vec<u8> {
    let exec = t.mm().exec_info();
    let path = exec.exe.as_ref().and_then(|file| file.path());
    path.map_or_else(|| t.comm(), |path| path.to_bytes(&t.fs().root()))
}

/// Without slashes: one component of a path.
fn flat(name: &[u8]) -> Vec<u8> {
    name.iter().map(|b| if *b == b'/' { b'!' } else { *b }).collect()
}
