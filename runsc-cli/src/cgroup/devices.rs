//! Which device nodes the processes of a sandbox may open (`cgroup-v1/devices`). The sandbox opens none once it runs; the
//! rules are a net below that, and what container managers look for.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

/// What every container may have whatever its rules are, as with runc: null, zero, full, tty, random, urandom, console,
/// ptmx and terminals.
const ALWAYS: [&str; 9] = [
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 5:0 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];

/// File and line for each rule, in order.
pub fn lines(rules: &[LinuxDeviceCgroup]) -> Vec<(&'static str, String)> {
    if rules.is_empty() {
        return Vec::new();
    }
    let file = |allow| if allow { "devices.allow" } else { "devices.deny" };
    let always = ALWAYS.iter().map(|line| (file(true), line.to_string()));
    rules.iter().map(|rule| (file(rule.allow()), line(rule))).chain(always).collect()
}

fn line(rule: &LinuxDeviceCgroup) -> String {
    let kind = match rule.typ() {
        Some(LinuxDeviceType::B) => "b",
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => "c",
        Some(LinuxDeviceType::P | LinuxDeviceType::A) | None => "a",
    };
    let number = |n: Option<i64>| n.filter(|n| *n >= 0).map_or("*".to_string(), |n| n.to_string());
    let access = rule.access().as_deref().filter(|a| !a.is_empty()).unwrap_or("rwm");
    format!("{kind} {}:{} {access}", number(rule.major()), number(rule.minor()))
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn rules() {
        let text = r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"}]"#;
        let lines = lines(&serde_json::from_str::<Vec<_>>(text).unwrap());
        assert_eq!(lines[0], ("devices.deny", "a *:* rwm".into()));
        assert_eq!(lines[1], ("devices.allow", "c 10:229 rw".into()));
        assert_eq!(lines[2], ("devices.allow", "c 1:3 rwm".into()));
        assert!(super::lines(&[]).is_empty());
    }
}
