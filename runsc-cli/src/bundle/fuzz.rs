//! A fuzz target: configurations made by changing a good one at random, read and translated. What comes out is a
//! description of a container or one line that says what is wrong; nothing may panic.
//!
//! `RUNSC_FUZZ=1000000 cargo test -p runsc-cli bundle::fuzz` makes more of them, `RUNSC_FUZZ_SEED` others.
//! `tests/oci/hostile` does the same with whole containers.

use super::{process, translate};
use crate::cli::Cli;
use clap::Parser;
use oci_spec::runtime::{LinuxResources, Process, Spec};
use serde_json::{Map, Value, json};

/// Configurations in an ordinary run.
const ROUNDS: u64 = 4000;

/// A generator of pseudo-random numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 16) as usize % n.max(1)
    }
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn good() -> Value {
    let text = r#"{
        "ociVersion": "1.2.0",
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "h", "domainname": "d",
        "process": {
            "args": ["/bin/true", "x"], "cwd": "/", "env": ["PATH=/bin"], "terminal": false,
            "consoleSize": { "width": 80, "height": 25 },
            "user": { "uid": 0, "gid": 0, "umask": 18, "additionalGids": [1, 2] },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 64, "hard": 128 }],
            "capabilities": { "bounding": ["CAP_CHOWN"], "effective": ["CAP_KILL"], "ambient": [] },
            "noNewPrivileges": true, "oomScoreAdj": 1,
            "scheduler": { "policy": "SCHED_RR", "priority": 5, "nice": 0, "flags": ["SCHED_RESET_ON_FORK"] },
            "ioPriority": { "class": "IOPRIO_CLASS_BE", "priority": 4 },
            "execCPUAffinity": { "initial": "0", "final": "0-1" }
        },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"] },
            { "destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k", "mode=1777", "ro"] },
            { "destination": "/b", "type": "bind", "source": "rootfs", "options": ["rbind", "ro"] },
            { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup" }
        ],
        "hooks": {
            "startContainer": [{ "path": "/bin/true", "args": ["true"], "env": ["A=b"], "timeout": 5 }],
            "createRuntime": [{ "path": "/bin/true" }]
        },
        "annotations": { "io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "s" },
        "linux": {
            "namespaces": [{ "type": "pid" }, { "type": "network", "path": "/proc/self/ns/net" }, { "type": "user" }, { "type": "time" }],
            "uidMappings": [{ "containerID": 0, "hostID": 1000, "size": 10 }],
            "gidMappings": [{ "containerID": 0, "hostID": 1000, "size": 10 }],
            "resources": { "memory": { "limit": 67108864, "swap": -1 }, "pids": { "limit": 20 },
                "cpu": { "shares": 100, "quota": 5000, "period": 100000, "cpus": "0" }, "unified": { "memory.max": "1" } },
            "devices": [{ "path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0 }],
            "maskedPaths": ["/etc/passwd"], "readonlyPaths": ["/etc"],
            "sysctl": { "kernel.domainname": "d" }, "cgroupsPath": "a.slice:b:c", "rootfsPropagation": "private",
            "timeOffsets": { "monotonic": { "secs": 0, "nanosecs": 0 } },
            "seccomp": { "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "architectures": ["SCMP_ARCH_X86_64"],
                "flags": ["SECCOMP_FILTER_FLAG_LOG"], "listenerPath": "/x",
                "syscalls": [{ "names": ["read", "kill"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1, "args": [
                    { "index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ" } ] }] }
        }
    }"#;
    serde_json::from_str(text).unwrap()
}

/// A value that may stand anywhere.
fn strange(random: &mut Random) -> Value {
    match random.below(22) {
        0 => Value::Null,
        1 => json!(random.next() & 1 == 0),
        2 => json!(random.next() as i64),
        3 => json!(random.next()),
        4 => json!(-1),
        5 => json!(0),
        6 => json!(u32::MAX),
        7 => json!(1e300),
        8 => json!(""),
        9 => json!("\0"),
        10 => json!("/".repeat(random.below(5000))),
        11 => json!(format!("/{}", "../".repeat(random.below(50)))),
        12 => json!("x".repeat(random.below(70000))),
        13 => json!("/proc/self/root"),
        14 => json!(vec![""; random.below(1000)]),
        15 => json!({}),
        16 => json!([[]]),
        17 => json!("-1"),
        18 => json!("\u{202e}\u{7f}\n"),
        19 => json!(i64::MIN),
        20 => json!(random.below(70)),
        _ => json!([random.next(), -5, "a", null]),
    }
}

/// Changes one place of a value, found at random.
fn change(value: &mut Value, random: &mut Random) {
    let stop = random.below(4) == 0;
    match value {
        Value::Object(map) if !map.is_empty() && !stop => {
            let key = map.keys().nth(random.below(map.len())).cloned().unwrap_or_default();
            match random.below(12) {
                0 => drop(map.remove(&key)),
                1 => drop(map.insert(format!("{key}x"), strange(random))),
                2 => {
                    let more: Map<_, _> =
                        (0..random.below(40)).map(|i| (i.to_string(), strange(random))).collect();
                    map.extend(more);
                }
                _ => {
                    if let Some(inner) = map.get_mut(&key) {
                        change(inner, random);
                    }
                }
            }
        }
        Value::Array(list) if !list.is_empty() && !stop => {
            let at = random.below(list.len());
            match random.below(8) {
                0 => drop(list.remove(at)),
                1 => list.push(strange(random)),
                2 => {
                    let copy = list[at].clone();
                    list.extend(std::iter::repeat_n(copy, random.below(300)));
                }
                _ => change(&mut list[at], random),
            }
        }
        Value::Number(number) if random.below(2) == 0 => {
            let old = number.as_i64().unwrap_or(0);
            *value = json!(
                old.wrapping_add(random.below(5) as i64 - 2).wrapping_mul(1 << random.below(40))
            );
        }
        Value::String(text) if random.below(2) == 0 && text.is_ascii() && !text.is_empty() => {
            let at = random.below(text.len());
            text.truncate(at);
        }
        _ => *value = strange(random),
    }
}

#[test]
fn changed_configurations() {
    let bundle = tempfile::tempdir().unwrap();
    std::fs::create_dir(bundle.path().join("rootfs")).unwrap();
    let flags = Cli::try_parse_from(["runsc", "list"]).unwrap().global;
    let spec = serde_json::from_value(good()).unwrap();
    translate(&spec, bundle.path(), "id", &flags).unwrap();
    let mut random = Random(number("RUNSC_FUZZ_SEED", 0x9e37_79b9) | 1);
    let (mut translated, mut refused) = (0, 0);
    for round in 0..number("RUNSC_FUZZ", ROUNDS) {
        let mut config = good();
        for _ in 0..1 + random.below(4) {
            change(&mut config, &mut random);
        }
        let text = config.to_string();
        if let Ok(resources) =
            serde_json::from_value::<LinuxResources>(config["linux"]["resources"].clone())
        {
            super::linux::limits(Some(&resources));
        }
        if let Ok(described) = serde_json::from_value::<Process>(config["process"].clone()) {
            let _ = process::translate(&described);
        }
        let Ok(spec) = serde_json::from_str::<Spec>(&text) else { continue };
        match translate(&spec, bundle.path(), "id", &flags) {
            Ok((container, _)) => {
                assert!(!container.process.args.is_empty(), "round {round}");
                translated += 1;
            }
            Err(e) => {
                assert!(!format!("{e:#}").is_empty(), "round {round}");
                refused += 1;
            }
        }
    }
    // Both ends are reached often, or the changes are no good.
    assert!(translated > 100 && refused > 100, "{translated} translated, {refused} refused");
}
