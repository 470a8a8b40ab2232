//! systemd as the manager of a sandbox's cgroup (`--systemd-cgroup`): a transient scope with the sandbox's processes, so
//! that systemd knows of the group, of its limits and of its end, and leaves it alone (`Delegate`).

mod bus;
mod wire;

use anyhow::{Context, bail};
use bus::Bus;
use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use wire::{Method, Reader, Value, Writer};

/// A scope.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scope {
    /// Its name.
    name: String,
    /// systemd has it.
    #[serde(default)]
    started: bool,
    /// What it is started with.
    properties: Vec<(String, Value)>,
}

/// `cgroupsPath` in the form for systemd: slice, prefix and name.
pub struct UnitPath<'a> {
    slice: &'a str,
    prefix: &'a str,
    name: &'a str,
}

impl<'a> UnitPath<'a> {
    /// Takes `slice:prefix:name` apart; `None` for any other path.
    pub fn parse(path: &'a Path) -> Option<Self> {
        match path.to_str()?.split(':').collect::<Vec<_>>()[..] {
            [slice, prefix, name] => Some(Self { slice, prefix, name }),
            _ => None,
        }
    }

    fn slice(&self) -> &str {
        if self.slice.is_empty() { "system.slice" } else { self.slice }
    }

    fn unit(&self) -> String {
        if self.prefix.is_empty() {
            self.name.to_owned()
        } else {
            format!("{}-{}.scope", self.prefix, self.name)
        }
    }

    /// Where systemd puts it: each dash in a slice's name is a level (`systemd.slice(5)`).
    pub fn directory(&self) -> anyhow::Result<PathBuf> {
        let slice = self.slice();
        let stem = slice.strip_suffix(".slice").unwrap_or(slice);
        let mut path = PathBuf::from("/");
        if stem == slice {
            // No slice's name: a group as it stands.
            path.push(slice);
        } else if stem != "-" {
            let mut name = String::new();
            for part in stem.split('-') {
                if part.is_empty() || part.contains('/') {
                    bail!("{slice:?} is not the name of a slice");
                }
                if !name.is_empty() {
                    name.push('-');
                }
                name.push_str(part);
                path.push(format!("{name}.slice"));
            }
        }
        let unit = self.unit();
        if unit.contains('/') || unit == ".." {
            bail!("{unit:?} is not the name of a unit");
        }
        path.push(unit);
        Ok(path)
    }
}

/// Limits as properties of a unit (`org.freedesktop.systemd1(5)`).
fn limits(resources: &LinuxResources, v2: bool) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    let mut put = |name: &str, value: u64| all.push((name.to_owned(), Value::Number(value)));
    // All bits set stand for "infinity".
    let limit = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
    if let Some(memory) = resources.memory() {
        if let Some(bytes) = memory.limit().filter(|limit| *limit != 0) {
            put(if v2 { "MemoryMax" } else { "MemoryLimit" }, limit(bytes));
        }
        if let Some(bytes) = memory.reservation().filter(|limit| *limit != 0 && v2) {
            put("MemoryLow", limit(bytes));
        }
    }
    if let Some(cpu) = resources.cpu() {
        if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
            match v2 {
                true => put("CPUWeight", super::limits::weight(shares)),
                false => put("CPUShares", shares),
            }
        }
        if let Some(quota) = cpu.quota().filter(|quota| *quota != 0) {
            let period = cpu.period().filter(|period| *period != 0).unwrap_or(100_000);
            let second = u64::try_from(quota).map(|quota| quota.saturating_mul(1_000_000) / period);
            put("CPUQuotaPerSecUSec", second.unwrap_or(u64::MAX));
        }
    }
    if let Some(pids) = resources.pids() {
        let wanted = pids.limit();
        let most = if wanted > 0 { limit(super::limits::host_pids(wanted)) } else { u64::MAX };
        put("TasksMax", most);
    }
    all
}

impl Scope {
    /// The scope of a container, which is not started yet.
    pub fn new(
        path: &UnitPath<'_>,
        id: &str,
        resources: Option<&LinuxResources>,
        v2: bool,
    ) -> Scope {
        let name = path.unit();
        let text = |name: &str, value: String| (name.to_owned(), Value::Text(value));
        let mut properties = vec![text("Description", format!("container {id}"))];
        // A slice lies in one by its name.
        match name.ends_with(".slice") {
            true => properties.push(("Wants".into(), Value::Texts(vec![path.slice().into()]))),
            false => properties.push(text("Slice", path.slice().into())),
        }
        for accounting in
            ["Delegate", "MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"]
        {
            properties.push((accounting.into(), Value::Bool(true)));
        }
        properties.push(("DefaultDependencies".into(), Value::Bool(false)));
        properties.extend(resources.iter().flat_map(|resources| limits(resources, v2)));
        Scope { name, started: false, properties }
    }

    /// Has systemd start it with these processes, and waits until it has.
    pub fn start(&mut self, pids: &[i32]) -> anyhow::Result<()> {
        let mut bus = Bus::open()?;
        let rule = "type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";
        let mut body = Writer::default();
        body.text(rule);
        let add_match = Method {
            at: "org.freedesktop.DBus",
            object: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member: "AddMatch",
        };
        bus.call(add_match, "s", &body.0)?;
        manager(&mut bus, "Subscribe", "", Writer::default())?;
        let pids = pids.iter().map(|pid| pid.cast_unsigned()).collect();
        let mut properties = self.properties.clone();
        properties.push(("PIDs".into(), Value::Numbers(pids)));
        let mut body = Writer::default();
        body.text(&self.name);
        body.text("replace");
        body.properties(&properties);
        body.array(8, |_| {});
        let answer = manager(&mut bus, "StartTransientUnit", "ssa(sv)a(sa(sv))", body)?;
        self.started = true;
        let job = Reader::new(&answer).text()?;
        loop {
            let signal = bus.signal("JobRemoved").context("the scope does not start")?;
            let mut told = Reader::new(&signal.body);
            let (_number, which, _unit, result) =
                (told.u32()?, told.text()?, told.text()?, told.text()?);
            if which == job {
                return match &*result {
                    "done" => Ok(()),
                    _ => bail!("systemd could not start {}: {result}", self.name),
                };
            }
        }
    }

    /// Tells systemd of other limits.
    pub fn update(&self, resources: &LinuxResources, v2: bool) -> anyhow::Result<()> {
        let properties = limits(resources, v2);
        if !self.started || properties.is_empty() {
            return Ok(());
        }
        let mut body = Writer::default();
        body.text(&self.name);
        // For as long as it lives.
        body.bool(true);
        body.properties(&properties);
        manager(&mut Bus::open()?, "SetUnitProperties", "sba(sv)", body).map(drop)
    }

    /// Ends it, if systemd has not already done so because its last process had ended.
    pub fn stop(&self) -> anyhow::Result<()> {
        if !self.started {
            return Ok(());
        }
        let mut bus = Bus::open()?;
        let mut body = Writer::default();
        body.text(&self.name);
        body.text("replace");
        let stopped = manager(&mut bus, "StopUnit", "ss", body);
        let mut body = Writer::default();
        body.text(&self.name);
        // Of one that has failed systemd would keep the name.
        let _ = manager(&mut bus, "ResetFailedUnit", "s", body);
        match stopped {
            Err(e) if !format!("{e:#}").contains("NoSuchUnit") => Err(e),
            _ => Ok(()),
        }
    }
}

fn manager(bus: &mut Bus, member: &str, signature: &str, body: Writer) -> anyhow::Result<Vec<u8>> {
    let method = Method {
        at: "org.freedesktop.systemd1",
        object: "/org/freedesktop/systemd1",
        interface: "org.freedesktop.systemd1.Manager",
        member,
    };
    bus.call(method, signature, &body.0).context("systemd")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(path: &str) -> anyhow::Result<PathBuf> {
        UnitPath::parse(Path::new(path)).unwrap().directory()
    }

    #[test]
    fn paths() {
        let is = |path, want: &str| assert_eq!(directory(path).unwrap(), Path::new(want));
        is("user.slice:libpod:abc", "/user.slice/libpod-abc.scope");
        is(":p:n", "/system.slice/p-n.scope");
        is("a-b-c.slice:p:n", "/a.slice/a-b.slice/a-b-c.slice/p-n.scope");
        is("-.slice:p:n", "/p-n.scope");
        is("machine.slice::pod.slice", "/machine.slice/pod.slice");
        is("group:p:n", "/group/p-n.scope");
        for bad in ["a--b.slice:p:n", "a/b.slice:p:n", "s.slice:p:../n", "s.slice::.."] {
            assert!(directory(bad).is_err(), "{bad}");
        }
        assert!(UnitPath::parse(Path::new("/docker/x")).is_none());
    }

    #[test]
    fn limits_of_both_versions() {
        let resources: LinuxResources = serde_json::from_str(
            r#"{"memory":{"limit":1000},"cpu":{"shares":1024,"quota":50000,"period":100000},"pids":{"limit":-1}}"#,
        )
        .unwrap();
        let text = |v2| format!("{:?}", limits(&resources, v2));
        assert_eq!(
            text(true),
            r#"[("MemoryMax", Number(1000)), ("CPUWeight", Number(39)), ("CPUQuotaPerSecUSec", Number(500000)), ("TasksMax", Number(18446744073709551615))]"#
        );
        assert!(
            text(false)
                .starts_with(r#"[("MemoryLimit", Number(1000)), ("CPUShares", Number(1024)), "#)
        );
    }
}
