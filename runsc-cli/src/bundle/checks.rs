//! What a config.json may ask for and this runtime cannot do: refused as runc refuses it, or said, never passed
//! over in silence.

use super::mount_options;
use crate::log;
use anyhow::{Context, bail};
use oci_spec::runtime::{Linux, LinuxNamespace, LinuxNamespaceType, Process, Spec};
use std::path::Path;

/// Lowest and highest `/proc/PID/oom_score_adj`.
const OOM_SCORE_ADJ: std::ops::RangeInclusive<i32> = -1000..=1000;

/// Refuses what cannot be had. A container that `joins` another's sandbox shares the namespaces of its pod.
pub fn check(spec: &Spec, joins: bool) -> anyhow::Result<()> {
    if let Some(process) = spec.process() {
        check_process(process)?;
    }
    if let Some(linux) = spec.linux() {
        check_linux(linux, joins)?;
    }
    Ok(())
}

fn check_process(process: &Process) -> anyhow::Result<()> {
    if let Some(score) = process.oom_score_adj()
        && !OOM_SCORE_ADJ.contains(&score)
    {
        bail!("\"process.oomScoreAdj\" is {score}: it must lie between -1000 and 1000");
    }
    Ok(())
}

fn check_linux(linux: &Linux, joins: bool) -> anyhow::Result<()> {
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    for (index, namespace) in namespaces.iter().enumerate() {
        if namespaces.iter().skip(index + 1).any(|other| other.typ() == namespace.typ()) {
            bail!(
                "malformed spec file: duplicated ns {:?}: \"linux.namespaces\" has it twice",
                namespace.typ().to_string()
            );
        }
        check_namespace(namespace, joins)?;
    }
    let shifted = linux.time_offsets().as_ref().is_some_and(|offsets| !offsets.is_empty());
    if shifted && !namespaces.iter().any(|n| n.typ() == LinuxNamespaceType::Time) {
        bail!(
            "time namespace offsets specified, but time namespace isn't enabled in the config: add \
             it to \"linux.namespaces\""
        );
    }
    if let Some(personality) = linux.personality()
        && personality.flags().as_ref().is_some_and(|flags| !flags.is_empty())
    {
        bail!("additional flags not supported by personality: leave \"flags\" out");
    }
    if linux.intel_rdt().is_some() {
        bail!("intelRdt is specified in config, but Intel RDT is not supported by this runtime");
    }
    if let Some(propagation) = linux.rootfs_propagation()
        && !propagation.is_empty()
        && mount_options::propagation(propagation).is_none()
    {
        bail!("rootfsPropagation={propagation} is not supported: there is no such propagation");
    }
    Ok(())
}

/// Namespaces of the host that a container is to join. The sandbox has all of its own; only its way to the
/// network leads through one that exists, and its users are those of one.
fn check_namespace(namespace: &LinuxNamespace, joins: bool) -> anyhow::Result<()> {
    let (kind, path) = (namespace.typ(), namespace.path().as_deref());
    let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else { return Ok(()) };
    if joins || kind == LinuxNamespaceType::Network {
        return Ok(());
    }
    exists(path).with_context(|| format!("the {kind} namespace {}", path.display()))?;
    match kind {
        LinuxNamespaceType::User => {}
        // What the program would see there would be missing.
        LinuxNamespaceType::Pid | LinuxNamespaceType::Mount | LinuxNamespaceType::Time => bail!(
            "cannot join the {kind} namespace {}: the sandbox has a kernel of its own; containers share one by \
             the annotations of a pod",
            path.display()
        ),
        _ => log::warn(&format!(
            "the {kind} namespace {} is not joined: the sandbox has one of its own",
            path.display()
        )),
    }
    Ok(())
}

fn exists(path: &Path) -> anyhow::Result<()> {
    if !path.is_absolute() {
        bail!("the path of a namespace has to be absolute");
    }
    path.symlink_metadata().map(drop).context("cannot find it")
}

#[cfg(test)]
mod tests {
    use super::check;
    use serde_json::{Value, json};

    fn refusal(linux: Value) -> String {
        let text = json!({ "ociVersion": "1.2.0", "linux": linux });
        let spec = serde_json::from_value(text).unwrap();
        check(&spec, false).err().map(|e| format!("{e:#}")).unwrap_or_default()
    }

    #[test]
    fn namespaces() {
        let one =
            |kind: &str, path: &str| json!({ "namespaces": [{ "type": kind, "path": path }] });
        assert!(refusal(one("pid", "/proc/self/ns/pid")).contains("cannot join the pid"));
        assert!(refusal(one("ipc", "/nowhere")).contains("cannot find it"));
        assert!(refusal(one("uts", "relative")).contains("absolute"));
        assert_eq!(refusal(one("ipc", "/proc/self/ns/ipc")), "");
        assert_eq!(refusal(one("pid", "")), "");
        let twice = json!({ "namespaces": [{ "type": "pid" }, { "type": "pid" }] });
        assert!(refusal(twice).contains("duplicated ns \"pid\""));
        let joined = json!({ "ociVersion": "1.2.0", "linux": one("pid", "/proc/1/ns/pid") });
        check(&serde_json::from_value(joined).unwrap(), true).unwrap();
    }

    #[test]
    fn clocks_personality_and_the_rest() {
        let offset = json!({ "monotonic": { "secs": 5 } });
        assert!(refusal(json!({ "timeOffsets": offset })).contains("isn't enabled"));
        let with = json!({ "namespaces": [{ "type": "time" }], "timeOffsets": offset });
        assert_eq!(refusal(with), "");
        assert_eq!(refusal(json!({ "personality": { "domain": "LINUX32" } })), "");
        assert_eq!(refusal(json!({ "personality": { "domain": "LINUX" } })), "");
        assert!(refusal(json!({ "intelRdt": {} })).contains("Intel RDT"));
        assert!(refusal(json!({ "rootfsPropagation": "up" })).contains("not supported"));
        assert_eq!(refusal(json!({ "rootfsPropagation": "rslave" })), "");
    }
}
