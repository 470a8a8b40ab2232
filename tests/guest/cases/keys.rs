//! Keys and keyrings.

use crate::prelude::*;
use std::ffi::{CStr, CString};

const SESSION: i32 = -3;
const PROCESS: i32 = -2;
const THREAD: i32 = -1;

fn keyctl(op: i32, a: impl crate::sys::Arg, b: u64, c: u64, d: u64) -> Ret {
    sc!(SYS_keyctl, op, a, b, c, d)
}

fn add(kind: &CStr, description: &CStr, payload: &[u8], ring: i32) -> Ret {
    sc!(SYS_add_key, kind, description, payload, payload.len(), ring)
}

fn number(made: Ret) -> i32 {
    made.0 as i32
}

/// In a child with a session keyring of its own, so that nothing is left behind.
fn alone(f: impl FnOnce()) {
    p!(run(|| {
        p!(keyctl(1, 0u64, 0, 0, 0).ok());
        f();
        0
    }));
}

fn describe(key: i32) -> String {
    let mut text = [0u8; 200];
    let n = keyctl(6, key, at_mut(&mut text), 200, 0);
    match usize::try_from(n.0) {
        Ok(n) => String::from_utf8_lossy(&text[..n.saturating_sub(1)]).into_owned(),
        Err(_) => n.to_string(),
    }
}

fn read(key: i32) -> String {
    let mut text = [0u8; 64];
    let n = keyctl(11, key, at_mut(&mut text), 64, 0);
    match usize::try_from(n.0) {
        Ok(n) => format!("{n} {}", String::from_utf8_lossy(&text[..n.min(64)])),
        Err(_) => n.to_string(),
    }
}

fn adding_and_reading() {
    alone(|| {
        let key = number(add(c"user", c"a:b", b"payload", SESSION));
        p!(
            key > 0,
            describe(key),
            read(key),
            number(add(c"user", c"a:b", b"other", SESSION)) == key
        );
        p!(read(key), keyctl(2, key, at(b"third"), 5, 0), read(key), keyctl(11, key, 0, 0, 0));
        let logon = number(add(c"logon", c"service:x", b"secret", SESSION));
        p!(describe(logon), read(logon), keyctl(2, logon, at(b"new"), 3, 0));
        let ring = number(add(c"keyring", c"ring", b"", SESSION));
        p!(describe(ring), read(ring), keyctl(2, ring, at(b"new"), 3, 0));
        p!(add(c"user", c"inner", b"1", ring).ok(), keyctl(11, ring, 0, 0, 0));
        p!(keyctl(7, ring, 0, 0, 0), keyctl(11, ring, 0, 0, 0), keyctl(7, key, 0, 0, 0));
    });
}

fn errors_of_adding() {
    alone(|| {
        p!(add(c"nothing", c"a", b"x", SESSION), add(c".kernel", c"a", b"x", SESSION));
        p!(add(c"", c"a", b"x", SESSION), add(c"user", c"", b"x", SESSION));
        p!(add(c"user", c"a", b"", SESSION), add(c"logon", c"nocolon", b"x", SESSION));
        p!(add(c"logon", c":colon", b"x", SESSION), add(c"keyring", c"k", b"x", SESSION));
        p!(add(c"keyring", c".dot", b"", SESSION), add(c"user", c".dot", b"x", SESSION).ok());
        p!(
            add(c"user", c"a", b"x", 0),
            add(c"user", c"a", b"x", -99),
            add(c"user", c"a", b"x", -6)
        );
        p!(add(c"user", c"a", b"x", 0x7fff_fff0), sc!(SYS_add_key, 8u64, c"a", c"x", 1, SESSION));
        p!(sc!(SYS_add_key, c"user", 8u64, c"x", 1, SESSION));
        p!(sc!(SYS_add_key, c"user", c"a", 8u64, 1, SESSION));
        p!(sc!(SYS_add_key, c"user", c"a", 8u64, 1 << 20, SESSION));
        let big = vec![b'x'; 32768];
        p!(add(c"user", c"big", &big, SESSION), add(c"user", c"big", &big[1..], SESSION).ok());
        let long = [b"user".repeat(20), vec![0]].concat();
        p!(sc!(SYS_add_key, long.as_slice(), c"a", c"x", 1, SESSION));
        let key = number(add(c"user", c"plain", b"x", SESSION));
        p!(add(c"user", c"b", b"x", key));
    });
}

fn keyrings_of_tasks() {
    alone(|| {
        p!(
            keyctl(0, THREAD, 0, 0, 0),
            keyctl(0, PROCESS, 0, 0, 0),
            keyctl(0, SESSION, 0, 0, 0).ok()
        );
        let thread = number(keyctl(0, THREAD, 1, 0, 0));
        p!(thread > 0, number(keyctl(0, THREAD, 0, 0, 0)) == thread, describe(thread));
        let process = number(keyctl(0, PROCESS, 1, 0, 0));
        p!(process > 0, process != thread, describe(process), describe(SESSION));
        p!(describe(-4).replace(|c: char| c.is_ascii_digit(), "N"));
        p!(keyctl(0, -7, 0, 0, 0), keyctl(0, -8, 0, 0, 0), keyctl(0, 0, 0, 0, 0));
        let session = number(keyctl(0, SESSION, 0, 0, 0));
        p!(run(|| {
            // Sessions are inherited, the others are not.
            p!(number(keyctl(0, SESSION, 0, 0, 0)) == session);
            p!(keyctl(0, THREAD, 0, 0, 0), keyctl(0, PROCESS, 0, 0, 0));
            p!(number(keyctl(1, c"named session", 0, 0, 0)) != session, describe(SESSION));
            0
        }));
        p!(number(keyctl(0, SESSION, 0, 0, 0)) == session, keyctl(1, c".dot", 0, 0, 0));
    });
}

fn links() {
    alone(|| {
        let a = number(add(c"keyring", c"a", b"", SESSION));
        let b = number(add(c"keyring", c"b", b"", a));
        let key = number(add(c"user", c"k", b"x", b));
        p!(
            keyctl(8, a, b as u64, 0, 0),
            keyctl(8, a, a as u64, 0, 0),
            keyctl(8, key, key as u64, 0, 0)
        );
        p!(keyctl(8, key, a as u64, 0, 0), keyctl(11, a, 0, 0, 0), keyctl(8, key, a as u64, 0, 0));
        p!(keyctl(11, a, 0, 0, 0), keyctl(9, key, a as u64, 0, 0), keyctl(9, key, a as u64, 0, 0));
        p!(keyctl(30, key, b as u64, a as u64, 0), keyctl(11, b, 0, 0, 0), keyctl(11, a, 0, 0, 0));
        p!(keyctl(30, key, b as u64, a as u64, 2), keyctl(30, key, b as u64, a as u64, 0));
        p!(keyctl(9, key, a as u64, 0, 0));
        p!(keyctl(29, b, 0, 0, 0), add(c"user", c"late", b"x", b), keyctl(29, b, 0, 0, 0));
        let mut ring = a;
        for depth in 0..8 {
            let name = CString::new(format!("deep{depth}")).unwrap_or_default();
            ring = number(add(c"keyring", &name, b"", ring));
        }
        let top = number(add(c"keyring", c"top", b"", SESSION));
        p!(keyctl(8, a, top as u64, 0, 0));
    });
}

fn searching() {
    alone(|| {
        let ring = number(add(c"keyring", c"r", b"", SESSION));
        let key = number(add(c"user", c"wanted", b"x", ring));
        let find = |from: i32, kind: &CStr, name: &CStr, into: i32| {
            number(keyctl(10, from, kind.as_ptr() as u64, name.as_ptr() as u64, into as u64))
        };
        p!(find(SESSION, c"user", c"wanted", 0) == key, find(ring, c"user", c"wanted", 0) == key);
        p!(find(SESSION, c"user", c"missing", 0), find(SESSION, c"nothing", c"wanted", 0));
        p!(find(key, c"user", c"wanted", 0), find(ring, c"user", c"wanted", SESSION) == key);
        let ask =
            |kind: &CStr, name: &CStr, into: i32| sc!(SYS_request_key, kind, name, 0u64, into);
        p!(number(ask(c"user", c"wanted", 0)) == key, ask(c"user", c"missing", 0));
        p!(ask(c"nothing", c"wanted", 0), ask(c"user", c"wanted", -99), ask(c".x", c"wanted", 0));
        p!(keyctl(3, key, 0, 0, 0), ask(c"user", c"wanted", 0), read(key), describe(key));
        let again = number(add(c"user", c"wanted", b"y", ring));
        p!(again != key, keyctl(21, again, 0, 0, 0), describe(again), ask(c"user", c"wanted", 0));
    });
}

fn permissions() {
    alone(|| {
        let key = number(add(c"user", c"k", b"x", SESSION));
        p!(keyctl(5, key, 0xffff_ffff, 0, 0), keyctl(5, key, 0x0101_0000, 0, 0), describe(key));
        p!(read(key), keyctl(2, key, at(b"y"), 1, 0), keyctl(3, key, 0, 0, 0));
        p!(
            keyctl(5, key, 0x3f01_0000, 0, 0),
            keyctl(15, key, 1000, 0, 0),
            keyctl(15, key, 0, 0, 0)
        );
        let key = number(add(c"user", c"k2", b"x", SESSION));
        p!(keyctl(4, key, u64::MAX, u64::MAX, 0), keyctl(4, key, 1234, 4321, 0), describe(key));
        p!(keyctl(17, key, 0, 0, 0), keyctl(12, key, 0, 0, 0), keyctl(999, 0, 0, 0, 0));
        let uid = fresh_uid();
        let key = number(add(c"user", c"k3", b"x", SESSION));
        p!(run(|| {
            sc!(SYS_setresuid, uid, uid, uid);
            keyctl(1, 0u64, 0, 0, 0);
            p!(describe(key), read(key), keyctl(2, key, at(b"y"), 1, 0), keyctl(3, key, 0, 0, 0));
            p!(keyctl(8, key, SESSION as u64, 0, 0), keyctl(5, key, 0, 0, 0));
            let own = number(add(c"user", c"own", b"x", SESSION));
            p!(keyctl(4, own, 0, u64::MAX, 0), keyctl(5, own, 0x3f3f_0000, 0, 0), read(own));
            0
        }));
    });
}

fn quotas() {
    p!(run(|| {
        let uid = fresh_uid();
        sc!(SYS_setresuid, uid, uid, uid);
        p!(keyctl(1, 0u64, 0, 0, 0).ok());
        let payload = vec![b'x'; 10_000];
        p!(add(c"user", c"a", &payload, SESSION).ok(), add(c"user", c"b", &payload, SESSION));
        p!(add(c"user", c"a", b"small", SESSION).ok(), add(c"user", c"b", &payload, SESSION).ok());
        let made = (0..300)
            .map(|i| CString::new(format!("n{i}")).unwrap_or_default())
            .map(|name| add(c"user", &name, b"x", SESSION));
        let failed: Vec<Ret> = made.filter(|made| made.0 < 0).collect();
        p!(failed.len() > 90, failed.first().copied().unwrap_or(Ret(0)));
        0
    }));
}

fn where_requested_keys_go() {
    alone(|| {
        p!(keyctl(14, -1, 0, 0, 0), keyctl(14, 3, 0, 0, 0), keyctl(14, -1, 0, 0, 0));
        p!(keyctl(14, 6, 0, 0, 0), keyctl(14, 99, 0, 0, 0), keyctl(14, 1, 0, 0, 0));
        p!(keyctl(0, THREAD, 0, 0, 0).ok(), keyctl(16, 0, 0, 0, 0), keyctl(16, -1, 0, 0, 0));
    });
}

cases![
    adding_and_reading,
    errors_of_adding,
    keyrings_of_tasks,
    links,
    searching,
    permissions,
    quotas,
    where_requested_keys_go,
];
