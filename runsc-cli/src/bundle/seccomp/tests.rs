use super::compile;
use sentry::bpf::{Program, Raw};
use sentry::kernel::seccomp::action;
use sentry::kernel::seccomp::data::{self, Data};
use serde_json::{Value, json};

const EPERM: u32 = action::ERRNO | 1;
const ENOSYS: u32 = action::ERRNO | 38;
const GETPPID: u32 = 110;
const SOCKET: u32 = 41;
const PERSONALITY: u32 = 135;

fn program(profile: Value) -> Program {
    let compiled = compile(&serde_json::from_value(profile).unwrap()).unwrap();
    let raw: Vec<Raw> =
        compiled.iter().map(|i| Raw { code: i.code, jt: i.jt, jf: i.jf, k: i.k }).collect();
    data::verify(&raw).unwrap()
}

fn refusal(profile: Value) -> String {
    compile(&serde_json::from_value(profile).unwrap()).unwrap_err().to_string()
}

fn call(nr: u32, args: [u64; 6]) -> Data {
    Data { nr: nr as i32, arch: 0xc000_003e, instruction_pointer: 0, args }
}

fn verdict(program: &Program, nr: u32, first: u64) -> u32 {
    data::run(program, &call(nr, [first, 0, 0, 0, 0, 0]))
}

#[test]
fn a_list_of_allowed_calls() {
    let p = program(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [
            { "names": ["read", "write", "no_such_call", "getppid"], "action": "SCMP_ACT_ALLOW" },
            { "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
        ],
    }));
    assert_eq!(verdict(&p, 0, 0), action::ALLOW);
    assert_eq!(verdict(&p, GETPPID, 0), action::ALLOW);
    assert_eq!(data::constant(&p, GETPPID, 0xc000_003e), Some(action::ALLOW));
    assert_eq!(verdict(&p, 2, 0), EPERM);
    assert_eq!(verdict(&p, 435, 0), ENOSYS);
    // Newer than everything that is named.
    assert_eq!(verdict(&p, 436, 0), ENOSYS);
    assert_eq!(verdict(&p, 0x4000_0000, 0), action::KILL_THREAD);
}

#[test]
fn every_number_gets_its_own_verdict() {
    let names = |odd| {
        let rows = sentry::syscalls::table::groups().iter().copied().flatten();
        rows.filter(|row| row.nr % 2 == odd).map(|row| row.name).collect::<Vec<_>>()
    };
    let p = program(json!({
        "defaultAction": "SCMP_ACT_KILL_PROCESS",
        "architectures": ["SCMP_ARCH_X32"],
        "syscalls": [
            { "names": names(0), "action": "SCMP_ACT_ALLOW" },
            { "names": names(1), "action": "SCMP_ACT_TRACE", "errnoRet": 7 },
        ],
    }));
    for row in sentry::syscalls::table::groups().iter().copied().flatten() {
        let want = if row.nr % 2 == 0 { action::ALLOW } else { action::TRACE | 7 };
        assert_eq!(verdict(&p, row.nr, 0), want, "{}", row.name);
        assert_eq!(verdict(&p, row.nr | 0x4000_0000, 0), want, "{}", row.name);
    }
}

#[test]
fn comparisons_are_of_64_bits_without_signs() {
    let values = [0, 1, 39, 40, 41, 0xffff_ffff, 1 << 32, (1 << 32) + 40, u64::MAX];
    type Holds = fn(u64, u64) -> bool;
    let operators: [(&str, Holds); 6] = [
        ("EQ", |a, b| a == b),
        ("NE", |a, b| a != b),
        ("GT", |a, b| a > b),
        ("GE", |a, b| a >= b),
        ("LT", |a, b| a < b),
        ("LE", |a, b| a <= b),
    ];
    for (name, holds) in operators {
        for value in values {
            let p = program(json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{ "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5,
                    "args": [{ "index": 0, "value": value, "op": format!("SCMP_CMP_{name}") }] }],
            }));
            for arg in values {
                let want = if holds(arg, value) { action::ERRNO | 5 } else { action::ALLOW };
                assert_eq!(verdict(&p, SOCKET, arg), want, "{arg} {name} {value}");
            }
            assert_eq!(verdict(&p, SOCKET + 1, value), action::ALLOW);
        }
    }
}

#[test]
fn masks_several_arguments_and_alternatives() {
    let p = program(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            { "names": ["clone"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 0, "value": 0x7e02_0000_u64, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }] },
            { "names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [
                { "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }, { "index": 1, "value": 2, "op": "SCMP_CMP_NE" } ] },
            { "names": ["personality"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 0, "value": 0, "op": "SCMP_CMP_EQ" }] },
            { "names": ["personality"], "action": "SCMP_ACT_LOG",
              "args": [{ "index": 0, "value": 8, "op": "SCMP_CMP_EQ" }] },
            { "names": ["kill"], "action": "SCMP_ACT_ALLOW", "args": [
                { "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }, { "index": 0, "value": 5, "op": "SCMP_CMP_EQ" } ] },
        ],
    }));
    assert_eq!(verdict(&p, 56, 0x11), action::ALLOW);
    assert_eq!(verdict(&p, 56, 0x0002_0011), EPERM);
    assert_eq!(data::run(&p, &call(SOCKET, [1, 3, 0, 0, 0, 0])), action::ALLOW);
    assert_eq!(data::run(&p, &call(SOCKET, [1, 2, 0, 0, 0, 0])), EPERM);
    assert_eq!(data::run(&p, &call(SOCKET, [2, 3, 0, 0, 0, 0])), EPERM);
    assert_eq!(verdict(&p, PERSONALITY, 0), action::ALLOW);
    assert_eq!(verdict(&p, PERSONALITY, 8), action::LOG);
    assert_eq!(verdict(&p, PERSONALITY, 9), EPERM);
    for (pid, want) in [(1, action::ALLOW), (5, action::ALLOW), (2, EPERM)] {
        assert_eq!(verdict(&p, 62, pid), want);
    }
}

#[test]
fn an_entry_without_conditions_decides() {
    let args = json!([{ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }]);
    for swap in [false, true] {
        let mut syscalls = vec![
            json!({ "names": ["kill"], "action": "SCMP_ACT_TRAP", "args": args }),
            json!({ "names": ["kill"], "action": "SCMP_ACT_KILL" }),
        ];
        if swap {
            syscalls.reverse();
        }
        let p = program(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": syscalls }));
        assert_eq!(verdict(&p, 62, 1), action::KILL_THREAD);
        assert_eq!(verdict(&p, 61, 1), action::ALLOW);
        assert_eq!(verdict(&p, 400, 1), action::ALLOW);
    }
}

#[test]
fn what_cannot_be_had() {
    let notify = json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x",
        "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }] });
    assert!(refusal(notify).contains("SCMP_ACT_NOTIFY is not supported"));
    let entry = |rest: Value| json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rest] });
    let bad = json!({ "names": ["kill"], "action": "SCMP_ACT_TRAP",
        "args": [{ "index": 6, "value": 1, "op": "SCMP_CMP_EQ" }] });
    assert!(refusal(entry(bad)).contains("index 6"));
    let bad = json!({ "names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 65536 });
    assert!(refusal(entry(bad)).contains("no error number"));
    let args: Vec<Value> =
        (0..6).map(|i| json!({ "index": i, "value": 1, "op": "SCMP_CMP_EQ" })).collect();
    let many: Vec<Value> = (0..200)
        .map(|_| json!({ "names": ["kill"], "action": "SCMP_ACT_TRAP", "args": args }))
        .collect();
    let long = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": many });
    assert!(refusal(long).contains("4096 are the most"));
    let nothing = json!({ "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["kill"], "action": "SCMP_ACT_ALLOW" }] });
    assert!(compile(&serde_json::from_value(nothing).unwrap()).unwrap().is_empty());
}
