//! Pods: which container of a pod shares whose sandbox, by the annotations of Kubernetes' runtimes.

use anyhow::{Context, bail};
use oci_spec::runtime::Spec;

/// Annotations of containerd's and of CRI-O's: what kind of container it is, and the pod's first one.
const KEYS: [(&str, &str); 2] = [
    ("io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"),
    ("io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID"),
];

/// The container whose sandbox this one joins; `None` if it has one of its own.
pub fn sandbox_of(config: &Spec, id: &str) -> anyhow::Result<Option<String>> {
    let Some(annotations) = config.annotations() else { return Ok(None) };
    for (kind, sandbox) in KEYS {
        match annotations.get(kind).map(String::as_str) {
            None | Some("sandbox") => {}
            Some("container") => {
                let of = annotations.get(sandbox).with_context(|| {
                    format!("the annotation {kind} says that it joins a sandbox, but {sandbox} does not say which")
                })?;
                crate::state::check_id(of).with_context(|| format!("the annotation {sandbox}"))?;
                return Ok((of != id).then(|| of.clone()));
            }
            Some(other) => {
                bail!("the annotation {kind} is {other:?}, neither sandbox nor container")
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::sandbox_of;
    use oci_spec::runtime::Spec;
    use serde_json::json;

    fn of(annotations: serde_json::Value) -> Result<Option<String>, String> {
        let text = json!({ "ociVersion": "1.2.0", "annotations": annotations });
        let config: Spec = serde_json::from_value(text).unwrap();
        sandbox_of(&config, "me").map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn annotations() {
        let containerd = |kind, id| json!({ "io.kubernetes.cri.container-type": kind, "io.kubernetes.cri.sandbox-id": id });
        assert_eq!(of(json!({})), Ok(None));
        assert_eq!(of(containerd("sandbox", "me")), Ok(None));
        assert_eq!(of(containerd("container", "pause")), Ok(Some("pause".into())));
        let crio = json!({ "io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.cri-o.SandboxID": "p" });
        assert_eq!(of(crio), Ok(Some("p".into())));
        assert!(of(containerd("container", "../x")).unwrap_err().contains("sandbox-id"));
        assert!(of(containerd("nonsense", "x")).unwrap_err().contains("nonsense"));
        assert!(of(json!({ "io.kubernetes.cri.container-type": "container" })).is_err());
    }
}
